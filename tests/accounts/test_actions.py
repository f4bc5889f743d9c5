"""Organizations, members, API tokens, login methods, identities, sessions: rows, refusals, audit events."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from access.models import Application
from accounts.actions.api_tokens import authenticate, create_api_token, revoke_api_token
from accounts.actions.identities import disable_identity, enable_identity, record_login
from accounts.actions.identity_providers import create_provider, delete_provider, update_provider
from accounts.actions.members import add_member, change_role, remove_member
from accounts.actions.organizations import create_organization, update_organization
from accounts.actions.sessions import revoke_identity_sessions, revoke_session
from accounts.actor import Actor, ActorKind, system
from accounts.audit import edge_version
from accounts.errors import AuthenticationFailed, Conflict, InvalidInput, PermissionDenied
from accounts.models import AccessSession, ApiToken, AuditEvent, IdentityProvider, Membership, User
from accounts.permissions import Permission
from accounts.providers import method_of
from accounts.providers.secrets import client_secret
from accounts.tasks import sweep_expired
from tests.factories import make_cast

SYSTEM = system("tests")
OIDC = {
    "client_id": "abc",
    "auth_url": "https://idp.example.com/auth",
    "token_url": "https://idp.example.com/token",
    "certs_url": "https://idp.example.com/certs",
}


def by(user: User) -> Actor:
    return Actor(ActorKind.USER, str(user.pk), user.email, "203.0.113.7")


def events() -> list[str]:
    return list(AuditEvent.objects.order_by("id").values_list("name", flat=True))


def membership(user: User) -> Membership:
    return Membership.objects.select_related("organization", "user").get(user=user)


# --- Organizations ------------------------------------------------------------------------------------------


def test_an_organization_starts_with_its_owner_and_a_one_time_pin(cast):
    organization = create_organization("  New  Corp ", team_name="New-Corp", owner=cast.bob, actor=by(cast.bob))
    assert (organization.name, organization.team_name, len(organization.id)) == ("New Corp", "new-corp", 32)
    assert organization.memberships.get().role == "owner"
    assert [p.type for p in IdentityProvider.objects.for_organization(organization)] == ["onetimepin"]
    assert events() == ["accounts.organization.created"]


@pytest.mark.parametrize(
    "team", ["", "-a", "a-", "a.b", "a_b", "ü", "login", "www", "xn--a", "a" * 64, "evil corp", "a/b"]
)
def test_bad_and_reserved_team_names_are_refused(cast, team):
    with pytest.raises(InvalidInput):
        create_organization("X", team_name=team, owner=None, actor=SYSTEM)
    assert not events()


def test_a_taken_team_name_is_refused_in_any_case(cast):
    with pytest.raises(Conflict):
        create_organization("X", team_name="WidgetCorp", owner=None, actor=SYSTEM)


def test_updating_changes_only_what_is_given(cast):
    update_organization(cast.widgetcorp, actor=SYSTEM, session_duration_seconds=3600)
    cast.widgetcorp.refresh_from_db()
    assert (cast.widgetcorp.name, cast.widgetcorp.session_duration_seconds) == ("Widget Corp", 3600)
    event = AuditEvent.objects.get()
    assert (event.old, event.new) == ({"session_duration_seconds": 86400}, {"session_duration_seconds": 3600})
    for seconds in (0, 899, 32 * 86400):
        with pytest.raises(InvalidInput):
            update_organization(cast.widgetcorp, actor=SYSTEM, session_duration_seconds=seconds)


# --- Members --------------------------------------------------------------------------------------------------


def test_a_new_persons_password_is_shown_once_and_works(cast):
    added, password = add_member(cast.widgetcorp, email="New@Corp.test", role="editor", actor=by(cast.alice))
    assert added.user.email == "new@corp.test" and added.user.check_password(password)
    assert password and password not in str(list(AuditEvent.objects.values_list("new", "old")))
    again, none = add_member(cast.evilcorp, email="new@corp.test", role="viewer", actor=by(cast.mallory))
    assert none is None and again.user == added.user
    with pytest.raises(Conflict):
        add_member(cast.widgetcorp, email="new@corp.test", role="viewer", actor=by(cast.alice))


@pytest.mark.parametrize(("email", "role"), [("nope", "viewer"), ("a@b.test", "god"), ("", "viewer")])
def test_bad_members_are_refused(cast, email, role):
    with pytest.raises(InvalidInput):
        add_member(cast.widgetcorp, email=email, role=role, actor=by(cast.alice))


def test_ac55_the_last_owner_stays(cast):
    for attempt in (
        lambda: change_role(membership(cast.alice), role="admin", actor=by(cast.alice)),
        lambda: remove_member(membership(cast.alice), actor=by(cast.alice)),
    ):
        with pytest.raises(Conflict, match="needs an owner"):
            attempt()
    change_role(membership(cast.bob), role="owner", actor=by(cast.alice))
    remove_member(membership(cast.alice), actor=by(cast.alice))
    assert events() == ["accounts.member.role_changed", "accounts.member.removed"]


@pytest.mark.django_db(transaction=True)
def test_ac55_two_owners_leaving_at_once_leave_one():
    cast = make_cast()
    change_role(membership(cast.bob), role="owner", actor=by(cast.alice))
    barrier = threading.Barrier(2, timeout=30)

    def leave(user: User) -> None:
        try:
            mine = membership(user)
            barrier.wait()
            remove_member(mine, actor=by(user))
        except Conflict:
            pass
        finally:
            connection.close()

    threads = [threading.Thread(target=leave, args=(user,)) for user in (cast.alice, cast.bob)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert Membership.objects.for_organization(cast.widgetcorp).filter(role="owner").count() == 1


def test_an_admin_can_not_make_or_unmake_owners(cast):
    change_role(membership(cast.erin), role="admin", actor=by(cast.alice))
    for attempt in (
        lambda: change_role(membership(cast.erin), role="owner", actor=by(cast.erin)),
        lambda: change_role(membership(cast.alice), role="viewer", actor=by(cast.erin)),
        lambda: remove_member(membership(cast.alice), actor=by(cast.erin)),
        lambda: add_member(cast.widgetcorp, email="x@y.test", role="owner", actor=by(cast.erin)),
        lambda: change_role(membership(cast.bob), role="owner", actor=by(cast.mallory)),
    ):
        with pytest.raises(PermissionDenied):
            attempt()


def test_a_demoted_or_removed_members_tokens_end(cast):
    change_role(membership(cast.erin), role="admin", actor=by(cast.alice))
    given = {"expires_at": None, "user": cast.erin, "actor": by(cast.erin)}
    _, strong_value = create_api_token(cast.widgetcorp, name="strong", scopes=[Permission.IDENTITY_EDIT], **given)
    weak, weak_value = create_api_token(cast.widgetcorp, name="weak", scopes=[Permission.DNS_EDIT], **given)
    change_role(membership(cast.erin), role="editor", actor=by(cast.alice))
    now = timezone.now()
    with pytest.raises(AuthenticationFailed):
        authenticate(strong_value, now=now, ip=None)
    assert authenticate(weak_value, now=now, ip=None) == weak
    remove_member(membership(cast.erin), actor=by(cast.alice))
    with pytest.raises(AuthenticationFailed):
        authenticate(weak_value, now=now, ip=None)


# --- API tokens -------------------------------------------------------------------------------------------------


def make_token(cast, **changes):
    given = {"name": "ci", "scopes": ["dns.edit"], "expires_at": None, "user": cast.alice, "actor": by(cast.alice)}
    return create_api_token(cast.widgetcorp, **{**given, **changes})


def test_a_token_is_shown_once_and_stored_as_a_hash(cast):
    token, value = make_token(cast)
    assert len(value) == 40 and set(value) <= set("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_-")
    row = ApiToken.objects.values().get()
    assert value not in str(row) and row["prefix"] == value[:8]
    assert value not in str(AuditEvent.objects.values().get())
    assert authenticate(value, now=timezone.now(), ip=None) == token


def test_wrong_expired_and_revoked_tokens_fail_alike(cast):
    token, value = make_token(cast, expires_at=timezone.now() + timedelta(hours=1))
    messages = set()
    for bearer, now in (
        (value[:-1] + ("A" if value[-1] != "A" else "B"), timezone.now()),
        (value, timezone.now() + timedelta(hours=1)),
        ("", timezone.now()),
        ("short", timezone.now()),
        ("ü" * 40, timezone.now()),
        (value + " ", timezone.now()),
    ):
        with pytest.raises(AuthenticationFailed) as caught:
            authenticate(bearer, now=now, ip=None)
        messages.add(caught.value.message)
    revoke_api_token(token, actor=by(cast.alice))
    with pytest.raises(AuthenticationFailed) as caught:
        authenticate(value, now=timezone.now(), ip=None)
    assert len(messages | {caught.value.message}) == 1
    with pytest.raises(Conflict):
        revoke_api_token(token, actor=by(cast.alice))
    assert events() == ["accounts.api_token.created", "accounts.api_token.revoked"]


def test_last_use_is_noted_once_a_minute(cast, django_assert_num_queries):
    _, value = make_token(cast)
    now = timezone.now()
    authenticate(value, now=now, ip=None)
    with django_assert_num_queries(1):
        authenticate(value, now=now + timedelta(seconds=59), ip=None)
    assert ApiToken.objects.get().last_used_at == now
    authenticate(value, now=now + timedelta(seconds=61), ip=None)
    assert ApiToken.objects.get().last_used_at == now + timedelta(seconds=61)


def test_scopes_are_bounded_by_the_role_and_the_list(cast):
    with pytest.raises(PermissionDenied):
        make_token(cast, user=cast.bob)
    with pytest.raises(PermissionDenied):
        make_token(cast, user=cast.mallory)
    for scopes in ([], ["signed_in"], ["nope"]):
        with pytest.raises(InvalidInput):
            make_token(cast, scopes=scopes)
    with pytest.raises(InvalidInput):
        make_token(cast, expires_at=timezone.now())


def test_a_deactivated_users_tokens_fail(cast):
    _, value = make_token(cast)
    User.objects.filter(pk=cast.alice.pk).update(is_active=False)
    with pytest.raises(AuthenticationFailed):
        authenticate(value, now=timezone.now(), ip=None)


# --- Login methods ----------------------------------------------------------------------------------------------


def make_oidc(cast, **changes):
    given = {"type": "oidc", "name": "Corp", "config": OIDC, "client_secret": "s3cret-value", "actor": SYSTEM}
    return create_provider(cast.widgetcorp, **{**given, **changes})


def test_a_client_secret_is_sealed_and_nowhere_else(cast):
    provider = make_oidc(cast, config={**OIDC, "client_secret": "s3cret-value", "organization": "x"})
    assert client_secret(provider) == "s3cret-value"
    row = IdentityProvider.objects.values().get()
    assert b"s3cret-value" not in bytes(row["client_secret_sealed"]) and "s3cret-value" not in str(row["config"])
    assert set(row["config"]) == set(OIDC)
    assert "s3cret-value" not in str(list(AuditEvent.objects.values()))


def test_a_sealed_secret_moved_to_another_row_does_not_open(cast):
    mine = make_oidc(cast)
    theirs = create_provider(cast.evilcorp, type="oidc", name="Corp", config=OIDC, client_secret="other", actor=SYSTEM)
    IdentityProvider.objects.filter(pk=theirs.pk).update(client_secret_sealed=bytes(mine.client_secret_sealed))
    theirs.refresh_from_db()
    with pytest.raises(AuthenticationFailed, match="can not be opened"):
        client_secret(theirs)


@pytest.mark.parametrize(
    "change",
    [
        {"auth_url": "http://idp.example.com/auth"},
        {"token_url": "https://127.0.0.1/token"},
        {"certs_url": "https://169.254.169.254/keys"},
        {"certs_url": "https://[::1]/keys"},
        {"auth_url": "javascript:alert(1)"},
        {"auth_url": ""},
        {"client_id": ""},
        {"client_id": 7},
        {"scopes": [1]},
        {"scopes": ["a b"]},
        {"claims": "x" * 300},
        {"pkce_enabled": "yes"},
        {"token_endpoint_auth_method": "none"},
        {"issuer": "not a url"},
    ],
)
def test_ac66_bad_settings_are_refused_with_the_field(cast, change):
    with pytest.raises(InvalidInput) as caught:
        make_oidc(cast, config={**OIDC, **change})
    assert set(caught.value.fields) == set(change)
    assert not IdentityProvider.objects.exists() and not events()


def test_okta_derives_its_endpoints(cast):
    config = {"client_id": "abc", "okta_account": "corp.okta.com/"}
    provider = make_oidc(cast, type="okta", config=config)
    plain = method_of(provider).endpoints(provider)
    assert (plain.auth_url, plain.issuer) == ("https://corp.okta.com/oauth2/v1/authorize", "https://corp.okta.com")
    second = make_oidc(cast, type="okta", name="Two", config={**config, "authorization_server_id": "default"})
    custom = method_of(second).endpoints(second)
    assert custom.certs_url == "https://corp.okta.com/oauth2/default/v1/keys"
    assert custom.issuer == "https://corp.okta.com/oauth2/default"


def test_names_are_unique_per_organization_only(cast):
    make_oidc(cast)
    with pytest.raises(Conflict):
        make_oidc(cast)
    create_provider(cast.evilcorp, type="oidc", name="Corp", config=OIDC, client_secret="x", actor=SYSTEM)
    with pytest.raises(InvalidInput):
        make_oidc(cast, name="Three", type="saml")
    with pytest.raises(InvalidInput):
        make_oidc(cast, name="Three", client_secret=None)
    make_oidc(cast, name="PIN", type="onetimepin", config={}, client_secret=None)
    with pytest.raises(Conflict):
        make_oidc(cast, name="PIN 2", type="onetimepin", config={}, client_secret=None)


def test_updating_keeps_the_secret_unless_given(cast):
    provider = make_oidc(cast)
    update_provider(provider, actor=SYSTEM, name="Renamed", config={**OIDC, "client_id": "new"})
    provider.refresh_from_db()
    assert (provider.name, provider.config["client_id"], client_secret(provider)) == ("Renamed", "new", "s3cret-value")
    update_provider(provider, actor=SYSTEM, client_secret="another")
    assert client_secret(IdentityProvider.objects.get()) == "another"
    assert AuditEvent.objects.latest("id").new["credential_changed"] is True


def test_deleting_ends_sessions_and_keeps_the_identities(cast):
    provider = make_oidc(cast)
    session = login(provider)
    version = edge_version()
    delete_provider(provider, actor=SYSTEM)
    assert edge_version() == version + 1
    session.refresh_from_db()
    assert session.revoked_at is not None and session.identity.provider_id == provider.pk
    assert not IdentityProvider.objects.for_organization(cast.widgetcorp).exists()
    with pytest.raises(Conflict):
        delete_provider(provider, actor=SYSTEM)
    make_oidc(cast)  # the name is free again


def test_a_provider_an_application_lists_is_not_deleted(cast):
    provider = make_oidc(cast)
    application = Application.objects.create(organization=cast.widgetcorp, name="SSH", hostname="ssh.widgetcorp.test")
    application.allowed_providers.add(provider)
    with pytest.raises(Conflict, match="SSH"):
        delete_provider(provider, actor=SYSTEM)


# --- Identities and sessions ----------------------------------------------------------------------------------


def login(provider, subject: str = "u1", **changes) -> AccessSession:
    given = {
        "email": "a@corp.test",
        "email_verified": True,
        "name": "A",
        "groups": [],
        "claims": {},
        "amr": [],
        "ip": None,
        "country": "",
        "user_agent": "x" * 1000,
        "session_seconds": 3600,
        **changes,
    }
    return record_login(provider, subject=subject, **given)


def test_ac87_disabling_an_identity_ends_its_sessions_and_tells_the_edges(cast):
    session = login(make_oidc(cast))
    version = edge_version()
    disable_identity(session.identity, actor=by(cast.alice))
    session.refresh_from_db()
    assert session.revoked_at is not None and edge_version() == version + 1
    with pytest.raises(Conflict):
        disable_identity(session.identity, actor=by(cast.alice))
    with pytest.raises(AuthenticationFailed):
        login(session.identity.provider)
    enable_identity(session.identity, actor=by(cast.alice))
    assert login(session.identity.provider).identity == session.identity
    assert AuditEvent.objects.filter(name__startswith="accounts.identity.").count() == 2


def test_revoking_twice_is_one_event(cast):
    session = login(make_oidc(cast))
    version = edge_version()
    assert revoke_session(session, actor=by(cast.alice)) is True
    assert revoke_session(session, actor=by(cast.alice)) is False
    assert edge_version() == version + 1
    assert AuditEvent.objects.filter(name="accounts.session.revoked").count() == 1


def test_revoking_all_sessions_counts_the_live_ones(cast):
    provider = make_oidc(cast)
    sessions = [login(provider) for _ in range(3)]
    revoke_session(sessions[0], actor=SYSTEM)
    assert revoke_identity_sessions(sessions[0].identity, actor=by(cast.alice)) == 2


def test_the_same_address_in_two_organizations_is_two_identities(cast):
    theirs = create_provider(cast.evilcorp, type="oidc", name="Corp", config=OIDC, client_secret="x", actor=SYSTEM)
    assert login(make_oidc(cast)).identity != login(theirs).identity


@pytest.mark.django_db(transaction=True)
def test_parallel_first_logins_make_one_identity():
    provider, found = make_oidc(make_cast()), []

    def enter() -> None:
        try:
            found.append(login(provider).identity_id)
        finally:
            connection.close()

    threads = [threading.Thread(target=enter) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(found) == 10 and len(set(found)) == 1


def test_sweeping_removes_only_what_ended_long_ago(cast):
    session = login(make_oidc(cast))
    AccessSession.objects.update(expires_at=timezone.now() - timedelta(days=89))
    sweep_expired.delay()
    assert AccessSession.objects.filter(pk=session.pk).exists()
    AccessSession.objects.update(expires_at=timezone.now() - timedelta(days=91))
    sweep_expired.delay()
    assert not AccessSession.objects.exists()
