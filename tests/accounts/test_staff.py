"""Django admin for support staff: looks at everything but secrets, changes nothing but through our actions."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib import admin
from django.test import Client, RequestFactory
from django.urls import reverse

from access.models import Application
from accounts.actions.support import request_support_session
from accounts.actor import system
from accounts.models import AuditEvent, LoginAttempt, Organization, User
from accounts.staff import ReadOnlyAdmin, is_secret, organization_path
from tests.factories import PASSWORD, Cast
from tests.pages_kit import browser, last_event, login, rows_of, text_of
from tests.world import CANARIES, World, make_world

SECRETS = CANARIES


@pytest.fixture
def world(cast: Cast) -> World:
    return make_world(cast.widgetcorp, domain="widgetcorp.tech")


@pytest.fixture
def idle(db: None) -> Client:
    """Staff without a support session."""
    User.objects.create_user("staff@operator.test", PASSWORD, is_staff=True)
    return login(User.objects.get(email="staff@operator.test"))


@pytest.fixture
def staff(idle: Client, cast: Cast) -> Client:
    """Staff in a support session in Widget Corp."""
    request_support_session(
        cast.widgetcorp,
        staff=User.objects.get(email="staff@operator.test"),
        reason="Ticket 17: certificates fail",
        duration=timedelta(hours=1),
        actor=system("tests"),
    )
    return idle


def our_models() -> list[type]:
    labels = {"accounts", "access", "tunnels"}
    return [model for model in admin.site._registry if model._meta.app_label in labels]


def list_url(model: type) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")  # type: ignore[attr-defined]


def test_every_model_is_registered_read_only() -> None:
    assert len(our_models()) >= 25
    assert all(isinstance(admin.site._registry[model], ReadOnlyAdmin) for model in our_models())


def test_nothing_else_is_registered() -> None:
    """allauth's own pages would show secrets of second factors, and change them."""
    assert set(admin.site._registry) == set(our_models())


def test_secret_columns_are_known() -> None:
    """A new column that holds a secret has to be named like one."""
    hidden = {
        f"{model.__name__}.{field.name}" for model in our_models() for field in model._meta.fields if is_secret(field)
    }  # type: ignore[attr-defined]
    assert {
        "User.password",
        "ApiToken.token_sha256",
        "IdentityProvider.client_secret_sealed",
        "AccessSession.nonce",
        "LoginAttempt.state_sha256",
        "LoginAttempt.pin_hash",
        "LoginAttempt.code_verifier_sealed",
        "ServiceToken.secret_sha256",
        "TokenKey.private_sealed",
        "SshAuthority.private_sealed",
        "Tunnel.secret_sha256",
        "Zone.verification_token",
        "HandOver.code_sha256",
        "Transfer.body",
    } <= hidden
    binary = {
        f"{model.__name__}.{field.name}"
        for model in our_models()
        for field in model._meta.fields  # type: ignore[attr-defined]
        if field.get_internal_type() == "BinaryField"
    }
    assert binary <= hidden


def test_lists_and_pages_show_no_secret(staff: Client, world: World) -> None:
    for model in our_models():
        response = staff.get(list_url(model) + "?q=widget")
        assert response.status_code == 200, model
        listed = staff.get(list_url(model))
        pages = [text_of(listed.render() if hasattr(listed, "render") else listed)]
        row = model._base_manager.first()  # type: ignore[attr-defined]
        if row is not None:
            name = f"admin:{model._meta.app_label}_{model._meta.model_name}_change"  # type: ignore[attr-defined]
            detail = staff.get(reverse(name, args=[row.pk]))
            assert detail.status_code == 200, model
            pages.append(text_of(detail))
            hashes = [getattr(row, field.name) for field in model._meta.fields if "sha256" in field.name]  # type: ignore[attr-defined]
            shown_hashes = [value for value in hashes if value and value in pages[1]]
            assert shown_hashes == [] or model.__name__ == "Certificate", model
        assert not any(secret in page for secret in SECRETS for page in pages), model


def test_without_a_support_session_there_are_no_rows_of_organizations(idle: Client, world: World) -> None:
    make_world(world.organization.__class__.objects.get(team_name="evilcorp"), domain="evilcorp.tech")
    for model in our_models():
        rows = admin.site._registry[model].get_queryset(_request_of(idle))
        if organization_path(model) is not None:
            assert not rows.exists(), model
    page = text_of(idle.get(reverse("admin:accounts_user_changelist")).render())
    assert "staff@operator.test" in page
    assert "alice@widgetcorp.test" not in page
    detail = reverse("admin:access_application_change", args=[world.application.pk])
    assert world.application.hostname not in text_of(idle.get(detail, follow=True))
    data = {"action": "revoke", "_selected_action": [str(world.session.pk)]}
    idle.post(reverse("admin:accounts_accesssession_changelist"), data)
    world.session.refresh_from_db()
    assert world.session.revoked_at is None


def test_a_support_session_shows_rows_of_one_organization_and_is_recorded(staff: Client, world: World) -> None:
    evil = Organization.objects.get(team_name="evilcorp")
    other = make_world(evil, domain="evilcorp.tech")
    for model in our_models():
        path = organization_path(model)
        if path is not None:
            rows = admin.site._registry[model].get_queryset(_request_of(staff))
            assert set(rows.values_list(path, flat=True)) <= {world.organization.pk}, model
    staff.get(list_url(Application))
    assert last_event(world.organization).new["page"] == list_url(Application)
    detail = reverse("admin:access_application_change", args=[world.application.pk])
    assert staff.get(detail).status_code == 200
    assert last_event(world.organization).new["page"] == detail
    assert last_event(world.organization).name == "accounts.support.page_viewed"
    foreign = reverse("admin:access_application_change", args=[other.application.pk])
    assert other.application.hostname not in text_of(staff.get(foreign, follow=True))
    assert not AuditEvent.objects.for_organization(evil).filter(name="accounts.support.page_viewed").exists()


def test_every_model_knows_whose_data_it_is() -> None:
    """Rows without an organization are the installation's: name here what may be seen by all staff."""
    free = {model.__name__ for model in our_models() if organization_path(model) is None}
    assert free <= {"User", "Organization", "Edge", "JobFailure", "AuditChain"}


def _request_of(client: Client) -> Any:
    request = RequestFactory().get("/staff/data/")
    request.user = User.objects.get(email="staff@operator.test")
    return request


def test_nothing_can_be_added_changed_or_deleted(staff: Client, world: World) -> None:
    before = _rows_without_log(world.organization)
    for model in our_models():
        prefix = f"admin:{model._meta.app_label}_{model._meta.model_name}"  # type: ignore[attr-defined]
        assert staff.get(reverse(f"{prefix}_add")).status_code == 403
        row = model._base_manager.first()  # type: ignore[attr-defined]
        if row is None:
            continue
        for action in ("change", "delete"):
            assert (
                staff.post(reverse(f"{prefix}_{action}", args=[row.pk]), {"name": "x", "post": "yes"}).status_code
                == 403
            )
    assert _rows_without_log(world.organization) == before


def _rows_without_log(organization: Organization) -> dict[str, list[Any]]:
    rows = rows_of(organization)
    del rows["AuditEvent"], rows["SupportSession"]
    return rows


def test_login_is_the_dashboards_own(cast: Cast) -> None:
    for path in ("/staff/", "/staff/data/", "/staff/data/login/"):
        response = browser().get(path, follow=True)
        assert response.redirect_chain[-1][0].startswith("/accounts/login/")
    assert login(cast.alice).get("/staff/").status_code == 404
    assert login(cast.alice).get("/staff/data/").status_code in {302, 403}
    assert login(cast.alice).get("/staff/data/accounts/user/").status_code in {302, 403}


@pytest.mark.parametrize(
    ("model", "action", "event"),
    [
        ("accounts_accesssession", "revoke", "accounts.session.revoked"),
        ("accounts_identity", "disable", "accounts.identity.disabled"),
        ("accounts_identity", "revoke_sessions", "accounts.session.all_revoked"),
        ("accounts_apitoken", "revoke", "accounts.api_token.revoked"),
        ("access_application", "revoke_tokens", "access.application.tokens_revoked"),
        ("access_certificate", "revoke", "access.certificate.revoked"),
        ("access_principalclaim", "release", "access.principal.released"),
        ("tunnels_tunnel", "disconnect", "tunnels.connectors.disconnected"),
        ("tunnels_dnsrecord", "verify", "tunnels.record.check_requested"),
    ],
)
def test_buttons_call_actions_as_staff(staff: Client, world: World, model: str, action: str, event: str) -> None:
    rows = {
        "accounts_accesssession": world.session,
        "accounts_identity": world.identity,
        "accounts_apitoken": world.api_token,
        "access_application": world.application,
        "access_certificate": world.certificate,
        "access_principalclaim": world.claim,
        "tunnels_tunnel": world.tunnel,
        "tunnels_dnsrecord": world.dns_record,
    }
    data = {"action": action, "_selected_action": [str(rows[model].pk)]}
    assert staff.post(reverse(f"admin:{model}_changelist"), data).status_code == 302
    written = last_event(world.organization)
    assert (written.name, written.actor_kind, written.actor_label) == (event, "staff", "staff@operator.test")


def test_members_cannot_press_the_buttons(cast: Cast, world: World) -> None:
    before = rows_of(world.organization)
    data = {"action": "revoke", "_selected_action": [str(world.session.pk)]}
    assert login(cast.mallory).post(reverse("admin:accounts_accesssession_changelist"), data).status_code in {302, 403}
    assert rows_of(world.organization) == before


def test_login_attempts_hide_their_keys(staff: Client, world: World) -> None:
    attempt = LoginAttempt.objects.create(
        organization=world.organization,
        provider=world.oidc,
        state_sha256="5" * 64,
        browser_sha256="6" * 64,
        nonce="n" * 30,
        expires_at=world.session.expires_at,
    )
    page = text_of(staff.get(reverse("admin:accounts_loginattempt_change", args=[attempt.pk])))
    assert "5" * 64 not in page
    assert "n" * 30 not in page
