"""Buttons and questions as API requests: the request that is shown writes the audit event that the button writes."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from django.db import transaction
from django.test import Client
from django.utils import timezone

from access.models import Application, ApplicationPolicy, ApprovalRequest, SshAuthority
from accounts.models import AuditEvent, Identity, Membership
from tests.access.makers import make_application
from tests.controlplane.api_kit import Api, make_api
from tests.controlplane.test_api_forms import request_of, url
from tests.factories import Cast, make_cast, make_user
from tests.pages_kit import login, rows_of, text_of
from tests.world import World, make_world


@pytest.fixture(scope="module")
def _made(module_transaction: None) -> tuple[Cast, World, str]:
    cast = make_cast()
    world = make_world(cast.widgetcorp, domain="widgetcorp.tech")
    ApplicationPolicy.objects.create(application=world.application, policy=world.reusable, precedence=2)
    make_application(cast.widgetcorp, hostname="other.widgetcorp.tech", authority=False)
    make_user("second@widgetcorp.test", cast.widgetcorp, "admin")
    token = make_api(cast.widgetcorp).token
    world.api_token.__class__.objects.filter(name="tests").update(created_by=cast.alice)
    return cast, world, token


@pytest.fixture
def db(module_transaction: None, own_savepoint: None) -> None:
    """The module's world, untouched by the test before."""


@pytest.fixture
def cast(db: None, _made: tuple[Cast, World, str]) -> Cast:
    return copy.deepcopy(_made[0])


@pytest.fixture
def world(db: None, _made: tuple[Cast, World, str]) -> World:
    return copy.deepcopy(_made[1])


@pytest.fixture
def alice(cast: Cast) -> Client:
    return login(cast.alice)


@pytest.fixture
def api(world: World, _made: tuple[Cast, World, str]) -> Api:
    return Api(world.organization, _made[2])


def _second(world: World) -> Membership:
    return Membership.objects.get(user__email="second@widgetcorp.test")


def _disable(world: World) -> None:
    Identity.objects.filter(pk=world.identity.pk).update(disabled_at=timezone.now())


def _with_next_key(world: World) -> None:
    SshAuthority.objects.create(
        organization=world.organization,
        application=world.application,
        state="next",
        public_key="ssh-ed25519 AAAA next",
        fingerprint="SHA256:next",
        private_sealed=b"sealed",
    )


def _approved(world: World) -> None:
    now = timezone.now()
    values = {"status": "approved", "decided_at": now, "ends_at": now + timezone.timedelta(hours=1)}
    ApprovalRequest.objects.filter(pk=world.approval.pk).update(**values)


def _disabled_token(world: World) -> None:
    world.service_token.__class__.objects.filter(pk=world.service_token.pk).update(enabled=False)


def _scim(world: World) -> None:
    world.oidc.__class__.objects.filter(pk=world.oidc.pk).update(scim_enabled=True, scim_secret_sha256="0" * 64)


def _unused(world: World) -> None:
    """Nothing uses the group, nor the reusable policy."""
    world.policy.__class__.objects.filter(pk=world.policy.pk).update(include=[{"everyone": {}}])
    ApplicationPolicy.objects.filter(policy=world.reusable).delete()


def _no_application(world: World) -> None:
    Application.objects.for_organization(world.organization).delete()


def _nothing(world: World) -> None:
    pass


Case = tuple[Callable[[World], list[Any]], dict[str, Any], Callable[[World], None]]
CASES: dict[str, Case] = {
    "user_disable": (lambda w: [w.identity.pk], {}, _nothing),
    "user_enable": (lambda w: [w.identity.pk], {}, _disable),
    "user_revoke_sessions": (lambda w: [w.identity.pk], {}, _nothing),
    "user_reset_authenticators": (lambda w: [w.identity.pk], {}, _nothing),
    "session_revoke": (lambda w: [w.session.pk], {}, _nothing),
    "member_invite": (lambda w: [], {"email": "new@people.test", "role": "editor"}, _nothing),
    "invitation_resend": (lambda w: [w.invitation.pk], {}, _nothing),
    "invitation_withdraw": (lambda w: [w.invitation.pk], {}, _nothing),
    "member_change_role": (lambda w: [_second(w).pk], {"role": "viewer"}, _nothing),
    "member_remove": (lambda w: [_second(w).pk], {}, _nothing),
    "login_page_remove_logo": (lambda w: [], {}, _nothing),
    "organization_settings_support_consent": (lambda w: [], {"support_needs_consent": "on"}, _nothing),
    "organization_settings_support_allow": (lambda w: [w.support_session.pk], {}, _nothing),
    "organization_settings_support_end": (lambda w: [w.support_session.pk], {}, _nothing),
    "login_method_scim": (
        lambda w: [w.oidc.pk],
        {"enabled": "on", "user_deprovision": "on", "identity_update_behavior": "reauth"},
        _nothing,
    ),
    "login_method_scim_secret": (lambda w: [w.oidc.pk], {}, _scim),
    "login_method_delete": (lambda w: [w.oidc.pk], {}, _nothing),
    "api_token_create": (
        lambda w: [],
        {"name": "nightly", "lifetime_days": "30", "scopes": ["access.read", "dns.edit"]},
        _nothing,
    ),
    "api_token_revoke": (lambda w: [w.api_token.pk], {}, _nothing),
    "application_policy_make_reusable": (lambda w: [w.application.pk, w.policy.pk], {}, _nothing),
    "application_policy_delete": (lambda w: [w.application.pk, w.policy.pk], {}, _nothing),
    "application_revoke_tokens": (lambda w: [w.application.pk], {}, _nothing),
    "application_tags_edit": (lambda w: [w.application.pk], {"tags": ""}, _nothing),
    "application_delete": (lambda w: [w.application.pk], {"confirmation": "SSH bastion"}, _nothing),
    "application_test_add": (
        lambda w: [w.application.pk],
        {"name": "Dora", "who": "typed", "email": "dora@people.test", "country": "PT", "expected": "allow"},
        _nothing,
    ),
    "application_test_edit": (
        lambda w: [w.application.pk, w.saved_test.pk],
        {"name": "Renamed", "who": "nobody", "ip": "192.0.2.1", "expected": "deny"},
        _nothing,
    ),
    "application_test_delete": (lambda w: [w.application.pk, w.saved_test.pk], {}, _nothing),
    "group_delete": (lambda w: [w.group.pk], {}, _unused),
    "policy_delete": (lambda w: [w.reusable.pk], {}, _unused),
    "list_delete": (lambda w: [w.access_list.pk], {}, _nothing),
    "custom_page_delete": (lambda w: [w.custom_page.pk], {}, _nothing),
    "tag_edit": (lambda w: [w.tag.pk], {"name": "staging area"}, _nothing),
    "tag_delete": (lambda w: [w.tag.pk], {}, _nothing),
    "client_authority_delete": (lambda w: [w.client_authority.pk], {}, _nothing),
    "service_token_refresh": (lambda w: [w.service_token.pk], {}, _nothing),
    "service_token_rotate": (lambda w: [w.service_token.pk], {"overlap_seconds": "0"}, _nothing),
    "service_token_disable": (lambda w: [w.service_token.pk], {}, _nothing),
    "service_token_enable": (lambda w: [w.service_token.pk], {}, _disabled_token),
    "service_token_delete": (lambda w: [w.service_token.pk], {}, _nothing),
    "approval_answer": (lambda w: [w.approval.pk], {"decision": "deny"}, _nothing),
    "approval_end": (lambda w: [w.approval.pk], {}, _approved),
    "ssh_authority_rotate": (lambda w: [w.application.pk], {}, _nothing),
    "ssh_authority_activate": (lambda w: [w.application.pk], {}, _with_next_key),
    "ssh_authority_delete": (lambda w: [w.application.pk], {"confirmation": "SSH bastion"}, _nothing),
    "ssh_principal_release": (lambda w: [w.claim.pk], {}, _nothing),
    "certificate_revoke": (lambda w: [w.certificate.pk], {}, _nothing),
    "tunnel_rotate_token": (lambda w: [w.tunnel.pk], {"cut": "on"}, _nothing),
    "tunnel_disconnect": (lambda w: [w.tunnel.pk], {"client_id": "{connector}"}, _nothing),
    "tunnel_delete": (lambda w: [w.tunnel.pk], {"confirmation": "{tunnel}", "cascade": "on"}, _nothing),
    "tunnel_route_hostname": (lambda w: [w.tunnel.pk], {"hostname": "new.widgetcorp.tech"}, _nothing),
    "tunnel_version_publish": (lambda w: [w.tunnel.pk, 1], {}, _nothing),
    "zone_verify": (lambda w: [w.zone.pk], {}, _nothing),
    "zone_delete": (lambda w: [w.zone.pk], {"confirmation": "widgetcorp.tech"}, _no_application),
    "record_check": (lambda w: [w.dns_record.pk], {}, _nothing),
    "record_delete": (lambda w: [w.dns_record.pk], {}, _nothing),
}
# What is new each time, or of who asked.
VOLATILE = {
    *("expires_at", "revoked_api_keys", "invited_by", "secret_version", "previous_secret_expires_at", "content_of"),
    *("until", "by", "ends_at", "revoked_up_to"),
}


def filled(world: World, fields: dict[str, Any]) -> dict[str, Any]:
    values = {
        "policy": world.policy.pk,
        "reusable": world.reusable.pk,
        "connector": world.connector.client_id,
        "tunnel": world.tunnel.name,
    }
    return {name: text.format(**values) if isinstance(text, str) else text for name, text in fields.items()}


def events_of(act: Callable[[], Any]) -> list[tuple[Any, ...]]:
    """The events that `act` writes; it is taken back."""
    known = set(AuditEvent.objects.values_list("pk", flat=True))
    with transaction.atomic():
        act()
        rows = list(AuditEvent.objects.exclude(pk__in=known).order_by("pk"))
        transaction.set_rollback(True)
    known_ids = {row.target_id for row in rows if row.name.endswith((".created", ".invited", "_started"))}
    return [
        (row.name, row.target_type, "" if row.target_id in known_ids else row.target_id, plain(row.old), plain(row.new))
        for row in rows
    ]


def plain(values: Any) -> Any:
    return {name: value for name, value in values.items() if name not in VOLATILE} if values else values


@pytest.mark.parametrize("name", list(CASES))
def test_the_shown_request_does_what_the_button_does(alice: Client, api: Api, world: World, name: str) -> None:
    arguments, fields, prepare = CASES[name]
    prepare(world)
    address, sent = url(name, *arguments(world)), filled(world, fields)
    before = rows_of(world.organization)
    method, path, body = request_of(alice, address, sent)
    assert rows_of(world.organization) == before

    by_form = events_of(lambda: alice.post(address, sent))
    by_request = events_of(lambda: api.ok(method, path, body))

    # A request that sends a whole object may say more, first.
    assert by_form and by_request[-len(by_form) :] == by_form


def test_the_order_is_the_whole_list(alice: Client, api: Api, world: World) -> None:
    policy, reusable = str(world.policy.pk), str(world.reusable.pk)
    order = {"order": f"{reusable},{policy}", "seen": f"{policy},{reusable}"}
    wanted = request_of(alice, url("application_policies_order", world.application.pk), order)
    move = {"direction": "down", "seen": f"{policy},{reusable}"}
    assert request_of(alice, url("application_policy_move", world.application.pk, world.policy.pk), move) == wanted
    api.ok(*wanted)
    assert list(world.application.policy_links.order_by("precedence").values_list("policy", flat=True)) == [
        world.reusable.pk,
        world.policy.pk,
    ]


def test_attaching_is_the_whole_list(alice: Client, api: Api, world: World) -> None:
    ApplicationPolicy.objects.filter(policy=world.reusable).delete()
    address = url("application_policy_attach", world.application.pk)
    method, path, body = request_of(alice, address, {"policy": str(world.reusable.pk)})
    api.ok(method, path, body)
    assert list(world.application.policy_links.order_by("precedence").values_list("policy", flat=True)) == [
        world.policy.pk,
        world.reusable.pk,
    ]


def test_approving_is_no_request(alice: Client, world: World) -> None:
    sent = {"decision": "approve", "step": "api-request"}
    answer = alice.post(url("approval_answer", world.approval.pk), sent)
    assert answer.status_code in {403, 422} and "curl" not in text_of(answer)
