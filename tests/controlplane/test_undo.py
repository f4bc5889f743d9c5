"""Deletions that can be undone: the button in the message, the page of what was deleted, what is in the way."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db.models import Model
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from access.actions.client_authorities import delete_client_authority
from access.actions.groups import delete_group
from access.actions.lists import delete_list
from access.look_models import MAX_TAGS_PER_APPLICATION
from access.models import (
    AccessList,
    Application,
    ApplicationPolicy,
    ClientAuthority,
    Group,
    Policy,
    PrincipalClaim,
    SavedTest,
    Tag,
)
from accounts.actions.deletions import MAX_KEPT, restore_deleted
from accounts.actor import system
from accounts.errors import Conflict, NotFound
from accounts.models import AccessSession, DeletedObject, IdentityProvider, OrganizationLogo
from accounts.tasks import sweep_expired
from tests.client_roots import Root
from tests.controlplane.api_kit import ACTOR, make_api
from tests.factories import Cast, make_cast, make_user
from tests.pages_kit import event_names, form_id, login, rows_of, shown, text_of
from tests.world import World, make_world
from tunnels.models import DnsRecord, Zone


@pytest.fixture(scope="module")
def _made(module_transaction: None) -> tuple[Cast, World]:
    cast = make_cast()
    world = make_world(cast.widgetcorp, domain="widgetcorp.tech")
    DeletedObject.objects.all().delete()
    ApplicationPolicy.objects.create(application=world.application, policy=world.reusable, precedence=2)
    root = Root("Machines").pem()
    ClientAuthority.objects.filter(pk=world.client_authority.pk).update(certificate=root, revocations=[{"serials": []}])
    return cast, world


@pytest.fixture
def db(module_transaction: None, own_savepoint: None) -> None:
    """The module's world, untouched by the test before."""


@pytest.fixture
def cast(db: None, _made: tuple[Cast, World]) -> Cast:
    return copy.deepcopy(_made[0])


@pytest.fixture
def world(db: None, _made: tuple[Cast, World]) -> World:
    return copy.deepcopy(_made[1])


@pytest.fixture
def alice(cast: Cast) -> Client:
    return login(cast.alice)


def url(name: str, *args: object) -> str:
    return reverse(name, args=["widgetcorp", *args])


def detach(world: World) -> None:
    ApplicationPolicy.objects.filter(policy=world.reusable).delete()


def unused(world: World) -> None:
    world.policy.__class__.objects.filter(pk=world.policy.pk).update(include=[{"everyone": {}}])


def no_application(world: World) -> None:
    Application.objects.for_organization(world.organization).delete()


def nothing(world: World) -> None:
    pass


Case = tuple[Callable[[World], list[Any]], Callable[[World], Model], dict[str, str], Callable[[World], None]]
CASES: dict[str, Case] = {
    "group_delete": (lambda w: [w.group.pk], lambda w: w.group, {}, unused),
    "list_delete": (lambda w: [w.access_list.pk], lambda w: w.access_list, {}, nothing),
    "tag_delete": (lambda w: [w.tag.pk], lambda w: w.tag, {}, nothing),
    "custom_page_delete": (lambda w: [w.custom_page.pk], lambda w: w.custom_page, {}, nothing),
    "policy_delete": (lambda w: [w.reusable.pk], lambda w: w.reusable, {}, detach),
    "application_policy_delete": (lambda w: [w.application.pk, w.policy.pk], lambda w: w.policy, {}, nothing),
    "application_test_delete": (lambda w: [w.application.pk, w.saved_test.pk], lambda w: w.saved_test, {}, nothing),
    "client_authority_delete": (lambda w: [w.client_authority.pk], lambda w: w.client_authority, {}, nothing),
    "login_method_delete": (lambda w: [w.oidc.pk], lambda w: w.oidc, {}, nothing),
    "record_delete": (lambda w: [w.dns_record.pk], lambda w: w.dns_record, {}, nothing),
    "log_view_delete": (lambda w: [w.saved_view.pk], lambda w: w.saved_view, {}, nothing),
    "zone_delete": (lambda w: [w.zone.pk], lambda w: w.zone, {"confirmation": "widgetcorp.tech"}, no_application),
    "application_delete": (
        lambda w: [w.application.pk],
        lambda w: w.application,
        {"confirmation": "SSH bastion"},
        nothing,
    ),
}
# Written anew by every save, or what a restored object honestly is not any more.
ANEW = {"created_at", "updated_at", "verification", "verified_at", "last_answer", "resolver", "last_checked_at"}
ANEW |= {"failed_checks", "question", "next_check_at", "tokens_revoked_at", "status", "deleted_at", "expires_at"}
ANEW |= {"created_by_label", "subject", "fingerprint", "is_served"}


def columns(row: Model) -> dict[str, Any]:
    fresh = row.__class__._base_manager.get(pk=row.pk)
    names = [field.attname for field in row._meta.concrete_fields if field.attname not in ANEW]
    return {name: bytes(value) if isinstance(value := getattr(fresh, name), memoryview) else value for name in names}


def delete(client: Client, world: World, name: str) -> str:
    """The page after the deletion."""
    arguments, _, fields, prepare = CASES[name]
    prepare(world)
    address = url(name, *arguments(world))
    assert "This can be undone for 7 days" in shown(client, address)
    response = client.post(address, fields, follow=True)
    assert response.status_code == 200
    return text_of(response)


def undo_address(page: str) -> str:
    found = re.search(r'<form class="inline undo" method="post" action="([^"]+)">', page)
    assert found is not None
    return found.group(1)


@pytest.mark.parametrize("name", list(CASES))
def test_undo_brings_back_the_same_object(alice: Client, world: World, name: str) -> None:
    row = CASES[name][1](world)
    CASES[name][3](world)
    before = columns(row)
    page = delete(alice, world, name)
    assert not alive(row)
    address = undo_address(page)

    answer = alice.post(address, follow=True)

    assert "is back." in text_of(answer), text_of(answer)
    assert alive(row) and columns(row) == before
    assert event_names(world.organization)[-1] == "accounts.deleted_object.restored"
    assert not DeletedObject.objects.exists()
    # A second time there is nothing to undo.
    rows = rows_of(world.organization)
    assert alice.post(address).status_code == 404
    assert rows_of(world.organization) == rows


def alive(row: Model) -> bool:
    rows = row.__class__._base_manager.filter(pk=row.pk)
    return rows.filter(deleted_at=None).exists() if isinstance(row, IdentityProvider) else rows.exists()


def test_an_application_comes_back_whole_but_for_its_keys(alice: Client, world: World) -> None:
    old = world.application
    settings = {"logo_url": "https://example.com/l.png", "reserved_principals": ["deploy"]}
    factor = {"allowed_authenticators": ["totp"], "mfa_disabled": False, "session_duration_seconds": 600}
    overrides = {"a@people.test": "ops"}
    Application.objects.filter(pk=old.pk).update(
        settings=settings, principal_overrides=overrides, require_key_proof=True, mfa_config=factor
    )
    alice.post(undo_address(delete(alice, world, "application_delete")))
    again = Application.objects.get(pk=old.pk)
    assert (again.aud, again.domain, again.settings, again.mfa_config) == (old.aud, old.domain, settings, factor)
    assert again.tokens_revoked_at is not None and again.require_key_proof
    links = [(link.policy_id, link.precedence) for link in again.policy_links.order_by("precedence")]
    assert links == [(world.policy.pk, 1), (world.reusable.pk, 2)]
    assert [tag.name for tag in again.tags.all()] == ["production"]
    assert SavedTest.objects.get(application=again).name == "Nobody without a login"
    claim = PrincipalClaim.objects.get(application=again)
    assert (claim.principal, claim.identity_id) == ("carol", world.identity.pk)
    assert not again.ssh_authorities.exists() and not again.certificates.exists()


def test_a_tag_is_back_on_its_applications(alice: Client, world: World) -> None:
    alice.post(undo_address(delete(alice, world, "tag_delete")))
    assert list(Tag.objects.get(pk=world.tag.pk).applications.all()) == [world.application]


def test_a_tag_is_not_put_beyond_the_limit(alice: Client, world: World) -> None:
    address = undo_address(delete(alice, world, "tag_delete"))
    for number in range(MAX_TAGS_PER_APPLICATION):
        world.application.tags.create(organization=world.organization, name=f"since-{number}")
    alice.post(address)
    assert not Tag.objects.get(pk=world.tag.pk).applications.exists()
    assert world.application.tags.count() == MAX_TAGS_PER_APPLICATION


def test_a_zone_comes_back_with_its_records_and_is_proved_again(alice: Client, world: World) -> None:
    token = world.zone.verification_token
    kept = {row.pk: row.content for row in DnsRecord.objects.filter(zone=world.zone)}
    alice.post(undo_address(delete(alice, world, "zone_delete")))
    zone = Zone.objects.get(pk=world.zone.pk)
    assert (zone.status, zone.verification_token) == ("pending", token)
    assert {row.pk: row.content for row in zone.records.all()} == kept and kept


def test_detaching_is_undone_at_the_old_place(alice: Client, world: World) -> None:
    address = url("application_policy_delete", world.application.pk, world.reusable.pk)
    page = text_of(alice.post(address, follow=True))
    assert list(world.application.policy_links.values_list("policy", flat=True)) == [world.policy.pk]
    alice.post(undo_address(page))
    assert world.application.policy_links.get(precedence=2).policy_id == world.reusable.pk


def test_a_login_method_has_its_sealed_secrets_again_and_its_sessions_stay_ended(alice: Client, world: World) -> None:
    page = delete(alice, world, "login_method_delete")
    row = IdentityProvider.objects.get(pk=world.oidc.pk)
    assert bytes(row.client_secret_sealed) == b""
    alice.post(undo_address(page))
    row.refresh_from_db()
    assert bytes(row.client_secret_sealed) == b"sealed-client-secret"
    assert AccessSession.objects.get(pk=world.session.pk).revoked_at is not None


def test_the_logo(alice: Client, world: World) -> None:
    before = bytes(OrganizationLogo.objects.get(organization=world.organization).content)
    page = text_of(alice.post(url("login_page_remove_logo"), follow=True))
    assert not OrganizationLogo.objects.filter(organization=world.organization).exists()
    alice.post(undo_address(page))
    assert bytes(OrganizationLogo.objects.get(organization=world.organization).content) == before


def test_what_was_taken_out_just_before_the_deletion_does_not_come_back(world: World) -> None:
    """The deletion had read the row before somebody else changed it."""
    stale = [
        (delete_group, Group.objects.get(pk=world.group.pk)),
        (delete_list, AccessList.objects.get(pk=world.access_list.pk)),
        (delete_client_authority, ClientAuthority.objects.get(pk=world.client_authority.pk)),
    ]
    Group.objects.filter(pk=world.group.pk).update(include=[{"email": {"email": "new@people.test"}}])
    AccessList.objects.filter(pk=world.access_list.pk).update(items=[])
    revoked = [{"issuer": "00", "serials": ["0a"]}]
    ClientAuthority.objects.filter(pk=world.client_authority.pk).update(revocations=revoked)
    Policy.objects.all().delete()
    kept = [delete(row, actor=ACTOR) for delete, row in stale]
    assert kept[0].document["include"] == [{"email": {"email": "new@people.test"}}]
    assert kept[1].document["items"] == []
    assert kept[2].document["revocations"] == revoked
    for delete, row in stale:
        with pytest.raises(NotFound):
            delete(row, actor=ACTOR)


class TestInTheWay:
    """What says no changes nothing, and can be tried again."""

    def test_a_name_that_is_taken(self, alice: Client, world: World) -> None:
        address = undo_address(delete(alice, world, "group_delete"))
        Group.objects.create(organization=world.organization, name="Engineering")
        before = rows_of(world.organization)
        page = text_of(alice.post(address, follow=True))
        assert "There is already a group named &quot;Engineering&quot;." in page and "Nothing was changed." in page
        assert rows_of(world.organization) == before
        Group.objects.filter(name="Engineering").delete()
        assert "is back." in text_of(alice.post(address, follow=True))

    def test_rules_that_name_what_is_gone(self, alice: Client, world: World) -> None:
        rules = [{"email_list": {"id": str(world.access_list.pk)}}]
        Group.objects.filter(pk=world.group.pk).update(include=rules, require=[])
        address = undo_address(delete(alice, world, "group_delete"))
        delete(alice, world, "list_delete")
        page = text_of(alice.post(address, follow=True))
        assert "Nothing was changed." in page and not Group.objects.filter(pk=world.group.pk).exists()

    def test_an_application_that_is_gone(self, alice: Client, world: World) -> None:
        address = undo_address(delete(alice, world, "application_policy_delete"))
        Application.objects.filter(pk=world.application.pk).delete()
        assert "Restore that first" in text_of(alice.post(address, follow=True))

    def test_a_record_whose_name_has_another_one(self, alice: Client, world: World) -> None:
        name = world.dns_record.name
        address = undo_address(delete(alice, world, "record_delete"))
        DnsRecord.objects.create(
            organization=world.organization, zone=world.zone, type="A", name=name, content="192.0.2.1"
        )
        assert "a CNAME can share its name with no other record" in text_of(alice.post(address, follow=True))

    def test_a_place_that_is_taken_means_the_last(self, alice: Client, world: World) -> None:
        address = undo_address(delete(alice, world, "application_policy_delete"))
        ApplicationPolicy.objects.filter(policy=world.reusable).update(precedence=1)
        alice.post(address)
        assert ApplicationPolicy.objects.get(policy=world.policy).precedence == 2


class TestPage:
    def test_lists_searches_and_undoes(self, alice: Client, world: World) -> None:
        assert "Nothing was deleted lately" in shown(alice, url("deleted"))
        delete(alice, world, "tag_delete")
        delete(alice, world, "list_delete")
        page = shown(alice, url("deleted"))
        assert "Contractors" in page and "production" in page and "alice@widgetcorp.test" in page
        assert "Contractors" not in shown(alice, url("deleted") + "?q=prod")
        assert "production" not in shown(alice, url("deleted") + "?kind=list")
        assert "No deleted things" in shown(alice, url("deleted") + "?q=zzz") or "Nothing" in shown(
            alice, url("deleted") + "?q=zzz"
        )
        kept = DeletedObject.objects.get(kind="list")
        answer = alice.post(url("deleted_restore", kept.pk), {"form_id": form_id(page)})
        assert answer["Location"] == url("lists")

    def test_sent_twice_is_done_once(self, alice: Client, world: World) -> None:
        address = undo_address(delete(alice, world, "tag_delete"))
        first = alice.post(address, {"form_id": "one"})
        second = alice.post(address, {"form_id": "one"}, follow=True)
        assert first.status_code == 302 and "This form had been sent before" in text_of(second)
        names = event_names(world.organization)
        assert names.count("accounts.deleted_object.restored") == 1

    def test_who_may_not_make_it_may_not_restore_it(self, cast: Cast, world: World, alice: Client) -> None:
        address = undo_address(delete(alice, world, "login_method_delete"))
        editor = login(make_user("editor@widgetcorp.test", cast.widgetcorp, "editor"))
        page = shown(editor, url("deleted"))
        assert "Keycloak" in page and address not in page
        assert editor.post(address).status_code == 403
        assert login(cast.bob).post(address).status_code == 403
        assert login(cast.mallory).post(address).status_code == 404
        assert DeletedObject.objects.count() == 1

    def test_few_queries(self, alice: Client, world: World, django_assert_max_num_queries: Any) -> None:
        DeletedObject.objects.bulk_create(
            DeletedObject(
                organization=world.organization,
                kind="tag",
                object_id=str(n),
                name=f"tag {n}",
                deleted_by="x",
                expires_at=timezone.now() + timedelta(days=1),
            )
            for n in range(60)
        )
        with django_assert_max_num_queries(12):
            shown(alice, url("deleted"))


def test_after_a_week_nothing_can_be_undone(alice: Client, world: World) -> None:
    address = undo_address(delete(alice, world, "tag_delete"))
    kept = DeletedObject.objects.select_related("organization").get()
    DeletedObject.objects.update(expires_at=timezone.now())
    assert alice.post(address).status_code == 404
    with pytest.raises(Conflict):
        restore_deleted(kept, actor=system("tests"))
    sweep_expired()
    assert not DeletedObject.objects.exists()


def test_the_oldest_make_room(alice: Client, world: World) -> None:
    now = timezone.now()
    rows = [
        DeletedObject(
            organization=world.organization, kind="tag", object_id="x", name=str(n), deleted_by="x", expires_at=now
        )
        for n in range(MAX_KEPT)
    ]
    DeletedObject.objects.bulk_create(rows)
    DeletedObject.objects.filter(name="7").update(created_at=now - timedelta(days=1))
    delete(alice, world, "tag_delete")
    assert DeletedObject.objects.count() == MAX_KEPT and not DeletedObject.objects.filter(name="7").exists()


def test_by_api(world: World, cast: Cast) -> None:
    api = make_api(world.organization)
    api.ok("DELETE", f"{api.account}/gateway/lists/{world.access_list.pk}")
    (row,) = api.ok("GET", f"{api.account}/deleted_objects?kind=list")
    assert (row["name"], row["object_id"]) == ("Contractors", str(world.access_list.pk))
    assert api.ok("POST", f"{api.account}/deleted_objects/{row['id']}/restore") == {
        "kind": "list",
        "object_id": str(world.access_list.pk),
    }
    api.refused("POST", f"{api.account}/deleted_objects/{row['id']}/restore", status=404)
    api.ok("DELETE", f"{api.account}/access/identity_providers/{world.oidc.pk}")
    (row,) = api.ok("GET", f"{api.account}/deleted_objects")
    narrow = make_api(world.organization, ["access.edit"])
    error = narrow.refused("POST", f"{api.account}/deleted_objects/{row['id']}/restore", status=403)
    assert "identity.edit" in error["message"]


def test_no_key_and_no_token_is_ever_kept(alice: Client, world: World) -> None:
    """Their pages say so, and nothing is left behind."""
    for name, key, says in (
        ("service_token_delete", world.service_token.pk, "secrets are never kept"),
        ("api_token_revoke", world.api_token.pk, "cannot be undone"),
        ("ssh_authority_delete", world.application.pk, "gone for good"),
        ("tunnel_delete", world.tunnel.pk, "secret is never kept"),
    ):
        address = url(name, key)
        assert says in shown(alice, address), name
        data = {"confirmation": "SSH bastion" if name.startswith("ssh") else world.tunnel.name, "cascade": "on"}
        assert alice.post(address, data).status_code == 302, name
    assert not DeletedObject.objects.exists()
    delete(alice, world, "application_delete")
    assert "sealed-authority-key" not in str(DeletedObject.objects.values_list("document", "sealed"))
