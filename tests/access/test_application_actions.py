"""Applications, policies and their order, service tokens: rows, audit events, tenancy."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from access import hostnames
from access.actions.applications import create_application, delete_application, update_application
from access.actions.policies import (
    attach_policy,
    create_policy,
    delete_policy,
    detach_policy,
    reorder_policies,
    update_policy,
)
from access.actions.service_tokens import (
    authenticate_service_token,
    create_service_token,
    delete_service_token,
    refresh_service_token,
    rotate_service_token,
    update_service_token,
)
from access.models import Application, ApplicationPolicy, Certificate, Policy, ServiceToken, SshAuthority
from accounts.edge_models import EdgeVersion
from accounts.errors import Conflict, DomainError, InvalidInput, NotFound, PermissionDenied
from accounts.models import AuditEvent, Organization
from tests.access.makers import ACTOR, EVERYONE, email_rule, make_application, make_provider, make_session, sign
from tests.factories import Cast


@pytest.fixture(autouse=True)
def _widgetcorp_owns_its_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    def check(organization: Organization, hostname: str) -> None:
        if not hostname.endswith(f".{organization.team_name}.test"):
            raise PermissionDenied(f"{hostname} is not yours.", code="hostname_not_owned")

    monkeypatch.setattr(hostnames, "_check", check)


def create(cast: Cast, **values: Any) -> Application:
    values = {"name": "SSH", "domain": "ssh.widgetcorp.test"} | values
    return create_application(cast.widgetcorp, actor=ACTOR, **values)


def names() -> list[str]:
    """Without the organization's first token keys, which its first application makes."""
    events = AuditEvent.objects.exclude(name="access.token_keys.created")
    return list(events.order_by("id").values_list("name", flat=True))


def order(application: Application) -> list[tuple[int, str]]:
    return list(application.policy_links.order_by("precedence").values_list("precedence", "policy__name"))


def inline(name: str, **values: Any) -> dict[str, Any]:
    return {"name": name, "decision": "allow", "include": [EVERYONE]} | values


# --- Applications ---------------------------------------------------------------------------------------------
def test_create_normalises_the_domain_and_writes_one_event(cast: Cast) -> None:
    before = EdgeVersion.objects.filter(id=1).values_list("version", flat=True).first() or 1
    application = create(cast, domain="SSH.WidgetCorp.test./path/", policies=[inline("own")])
    assert (application.hostname, application.path) == ("ssh.widgetcorp.test", "/path")
    assert len(application.aud) == 64
    assert names() == ["access.application.created"]
    assert EdgeVersion.objects.get().version > before


@pytest.mark.parametrize(
    "domain",
    [
        "",
        "ssh",
        "https://ssh.widgetcorp.test",
        "ssh.widgetcorp.test:22",
        "user@ssh.widgetcorp.test",
        "ssh.widgetcorp.test?x=1",
        "ssh..widgetcorp.test",
        "-ssh.widgetcorp.test",
        "a.*.widgetcorp.test",
        "**.widgetcorp.test",
        "ѕsh.widgetcorp.test",
        "ssh.widgetcorp.test/a b",
        "ssh.widgetcorp.test//a",
        "ssh.widgetcorp.test/cdn-cgi/access",
        "x" * 250 + ".test",
        "widgetcorp.access.example.test",
        "a.tunnel.example.test",
        "login.access.example.test",
    ],
)
def test_ac_76_bad_domains(cast: Cast, domain: str) -> None:
    with pytest.raises(InvalidInput):
        create(cast, domain=domain)
    assert not Application.objects.exists()


def test_ac_76_hostnames_of_others_are_refused_at_creation_and_change(cast: Cast) -> None:
    with pytest.raises(PermissionDenied):
        create(cast, domain="ssh.evilcorp.test")
    application = create(cast)
    with pytest.raises(PermissionDenied):
        update_application(application, actor=ACTOR, domain="ssh.evilcorp.test")
    assert Application.objects.get().hostname == "ssh.widgetcorp.test"


def test_default_ownership_check_refuses(cast: Cast) -> None:
    with pytest.raises(PermissionDenied):
        hostnames._refuse(cast.widgetcorp, "ssh.widgetcorp.test")


def test_same_domain_twice_is_a_conflict(cast: Cast) -> None:
    create(cast)
    with pytest.raises(Conflict) as caught:
        create(cast, name="again")
    assert caught.value.code == "application_already_exists"


@pytest.mark.parametrize(
    "values",
    [
        {"name": ""},
        {"session_duration_seconds": 59},
        {"session_duration_seconds": -1},
        {"session_duration_seconds": 32 * 86400},
        {"certificate_lifetime_seconds": 59},
        {"certificate_lifetime_seconds": 86401},
        {"certificate_extensions": ["permit-root"]},
        {"principal_overrides": {"a@x.test": "deploy,root"}},
        {"principal_overrides": {"a@x.test": "1000"}},
        {"principal_overrides": {"nobody": "deploy"}},
        {"principal_overrides": {"a@x.test": "one", "A@x.test": "two"}},
        {"bastion_destinations": ["0x7f000001:22"]},
        {"bastion_destinations": ["10.0.0.1"]},
        {"settings": {"reserved_principals": "root"}},
        {"auto_redirect_to_identity": True},
        {"allowed_provider_ids": ["6f8a1b54-0c3e-4b8f-9d0e-1f2a3b4c5d6e"]},
        {"policies": [{"name": "x"}]},
        {"policies": ["nonsense"]},
        {"policies": [inline("a", precedence=1), inline("b", precedence=1)]},
        {"policies": [inline("a", decision="permit")]},
    ],
)
def test_bad_values_change_nothing(cast: Cast, values: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        create(cast, **values)
    assert not Application.objects.exists()
    assert not Policy.objects.exists()
    assert names() == []


def test_update_keeps_what_is_not_given_and_records_old_and_new(cast: Cast) -> None:
    application = create(cast, certificate_lifetime_seconds=120, settings={"logo_url": None})
    updated = update_application(application, actor=ACTOR, name="New", bastion_destinations=["10.0.0.5:22"])
    assert (updated.certificate_lifetime_seconds, updated.settings) == (120, {"logo_url": None})
    event = AuditEvent.objects.get(name="access.application.updated")
    assert event.old is not None
    assert event.new is not None
    assert (event.old["name"], event.new["name"]) == ("SSH", "New")
    assert event.new["bastion_destinations"] == ["10.0.0.5:22"]


def test_unknown_values_are_a_programming_error(cast: Cast) -> None:
    with pytest.raises(TypeError):
        create(cast, organization_id="x")


def test_ac_51_login_methods_of_another_tenant(cast: Cast) -> None:
    with pytest.raises(InvalidInput):
        create(cast, allowed_provider_ids=[make_provider(cast.evilcorp).pk])
    mine = make_provider(cast.widgetcorp)
    application = create(cast, allowed_provider_ids=[str(mine.pk)], auto_redirect_to_identity=True)
    assert list(application.allowed_providers.all()) == [mine]


def test_delete_takes_own_policies_authorities_and_certificates_and_leaves_the_log(cast: Cast) -> None:
    application = make_application(cast.widgetcorp)
    reusable = create_policy(cast.widgetcorp, actor=ACTOR, name="r", decision="allow", include=[EVERYONE])
    attach_policy(application, reusable, actor=ACTOR)
    assert sign(application, make_session(cast.widgetcorp)).status_code == 200
    delete_application(application, actor=ACTOR)
    assert not SshAuthority.objects.exists()
    assert not Certificate.objects.exists()
    assert [policy.name for policy in Policy.objects.all()] == ["r"]
    assert names()[-1] == "access.application.deleted"
    with pytest.raises(NotFound):
        delete_application(application, actor=ACTOR)


# --- Policies and their order ---------------------------------------------------------------------------------
def test_policies_by_id_inline_and_reusable_in_the_given_order(cast: Cast) -> None:
    reusable = create_policy(cast.widgetcorp, actor=ACTOR, name="reusable", decision="deny", include=[EVERYONE])
    application = create(cast, policies=[inline("a"), str(reusable.pk), inline("b", precedence=9), inline("c")])
    assert order(application) == [(1, "a"), (2, "reusable"), (9, "b"), (10, "c")]
    own = Policy.objects.get(name="a")
    update_application(application, actor=ACTOR, policies=[{"id": str(own.pk), "precedence": 4}, inline("d")])
    assert order(application) == [(4, "a"), (5, "d")]
    assert sorted(Policy.objects.values_list("name", flat=True)) == ["a", "d", "reusable"]


def test_policies_of_another_application_or_tenant_cannot_be_listed(cast: Cast) -> None:
    create(cast, policies=[inline("own")])
    theirs = create_policy(cast.evilcorp, actor=ACTOR, name="t", decision="allow", include=[EVERYONE])
    other = create(cast, domain="two.widgetcorp.test")
    with pytest.raises(InvalidInput):
        update_application(other, actor=ACTOR, policies=[str(Policy.objects.get(name="own").pk)])
    with pytest.raises(NotFound):
        update_application(other, actor=ACTOR, policies=[str(theirs.pk)])
    with pytest.raises(NotFound):
        attach_policy(other, theirs, actor=ACTOR)
    with pytest.raises(NotFound):
        create_policy(cast.evilcorp, actor=ACTOR, name="x", decision="allow", include=[EVERYONE], application=other)
    assert order(other) == []


def test_attach_detach_reorder_delete(cast: Cast) -> None:
    application = create(cast, policies=[inline("own")])
    first = create_policy(cast.widgetcorp, actor=ACTOR, name="first", decision="deny", include=[EVERYONE])
    attach_policy(application, first, actor=ACTOR)
    with pytest.raises(Conflict):
        attach_policy(application, first, actor=ACTOR)
    with pytest.raises(Conflict):
        delete_policy(first, actor=ACTOR)
    own = Policy.objects.get(name="own")
    reorder_policies(application, [first.pk, str(own.pk)], actor=ACTOR)
    assert order(application) == [(1, "first"), (2, "own")]
    with pytest.raises(Conflict):
        reorder_policies(application, [first.pk], actor=ACTOR)
    with pytest.raises(InvalidInput):
        detach_policy(application, own, actor=ACTOR)
    detach_policy(application, first, actor=ACTOR)
    delete_policy(first, actor=ACTOR)
    delete_policy(own, actor=ACTOR)
    assert not ApplicationPolicy.objects.exists()
    assert names()[-5:] == [
        "access.policy.attached",
        "access.policy.reordered",
        "access.policy.detached",
        "access.policy.deleted",
        "access.policy.deleted",
    ]


def test_own_policy_moves_by_precedence(cast: Cast) -> None:
    application = create(cast, policies=[inline("a"), inline("b")])
    policy = create_policy(
        cast.widgetcorp,
        actor=ACTOR,
        name="c",
        decision="allow",
        include=[EVERYONE],
        application=application,
        precedence=7,
    )
    with pytest.raises(Conflict):
        update_policy(policy, actor=ACTOR, precedence=2)
    update_policy(policy, actor=ACTOR, precedence=3, session_duration_seconds=600)
    assert order(application) == [(1, "a"), (2, "b"), (3, "c")]
    assert update_policy(policy, actor=ACTOR, name="cc").session_duration_seconds == 600
    assert update_policy(policy, actor=ACTOR, session_duration_seconds=None).session_duration_seconds is None


# --- Service tokens -------------------------------------------------------------------------------------------
def test_ac_36_secret_is_shown_once_and_stored_hashed(cast: Cast) -> None:
    token, secret = create_service_token(cast.widgetcorp, actor=ACTOR, name="ci", duration_seconds=3600)
    row = ServiceToken.objects.get()
    assert row.secret_sha256 == hashlib.sha256(secret.encode()).hexdigest()
    assert secret not in repr(vars(row)) + str(AuditEvent.objects.get().new)
    now = timezone.now()
    assert authenticate_service_token(cast.widgetcorp, token.client_id, secret, now=now) == token
    assert ServiceToken.objects.get().last_used_at == now
    for organization, client_id, value in [
        (cast.evilcorp, token.client_id, secret),
        (cast.widgetcorp, token.client_id, secret[:-1]),
        (cast.widgetcorp, token.client_id, ""),
        (cast.widgetcorp, "0" * 32 + ".access", secret),
        (cast.widgetcorp, "' OR 1=1", secret),
        (cast.widgetcorp, token.client_id, "x" * 10_000),
    ]:
        assert authenticate_service_token(organization, client_id, value, now=now) is None
    later = now + timedelta(hours=2)
    assert authenticate_service_token(cast.widgetcorp, token.client_id, secret, now=later) is None


def test_last_use_is_written_once_a_minute(cast: Cast, django_assert_num_queries: Any) -> None:
    token, secret = create_service_token(cast.widgetcorp, actor=ACTOR, name="ci")
    now = timezone.now()
    authenticate_service_token(cast.widgetcorp, token.client_id, secret, now=now)
    with django_assert_num_queries(1):
        authenticate_service_token(cast.widgetcorp, token.client_id, secret, now=now + timedelta(seconds=30))


def test_rotate_refresh_disable_delete(cast: Cast) -> None:
    token, secret = create_service_token(cast.widgetcorp, actor=ACTOR, name="ci", duration_seconds=3600)
    now = timezone.now()
    fresh = rotate_service_token(token, actor=ACTOR)
    assert authenticate_service_token(cast.widgetcorp, token.client_id, secret, now=now) is None
    assert authenticate_service_token(cast.widgetcorp, token.client_id, fresh, now=now) is not None
    ServiceToken.objects.update(expires_at=now - timedelta(days=1))
    assert refresh_service_token(token, actor=ACTOR).expires_at > now
    forever = update_service_token(token, actor=ACTOR, name="ci2", duration_seconds=None)
    assert forever.expires_at is None
    update_service_token(token, actor=ACTOR, name="ci2", duration_seconds=None, enabled=False)
    assert authenticate_service_token(cast.widgetcorp, token.client_id, fresh, now=now) is None
    delete_service_token(token, actor=ACTOR)
    assert not ServiceToken.objects.for_organization(cast.widgetcorp).exists()
    assert names() == [
        "access.service_token.created",
        "access.service_token.rotated",
        "access.service_token.refreshed",
        "access.service_token.updated",
        "access.service_token.updated",
        "access.service_token.deleted",
    ]
    dump = "".join(str(event.old) + str(event.new) for event in AuditEvent.objects.all())
    assert secret not in dump
    assert fresh not in dump


def test_token_named_by_a_rule_is_not_deleted(cast: Cast) -> None:
    token, _ = create_service_token(cast.widgetcorp, actor=ACTOR, name="ci")
    rule = {"service_token": {"token_id": str(token.pk)}}
    create_policy(cast.widgetcorp, actor=ACTOR, name="p", decision="non_identity", include=[rule])
    with pytest.raises(Conflict, match='policy "p"'):
        delete_service_token(token, actor=ACTOR)


@pytest.mark.parametrize("seconds", [0, 10, -1, 10**12])
def test_token_durations(cast: Cast, seconds: int) -> None:
    with pytest.raises(DomainError):
        create_service_token(cast.widgetcorp, actor=ACTOR, name="ci", duration_seconds=seconds)


def test_email_rules_survive_a_round_trip(cast: Cast) -> None:
    application = create(cast, policies=[inline("a", include=[email_rule("A@x.test")])])
    assert application.policy_links.get().policy.include == [email_rule("A@x.test")]
