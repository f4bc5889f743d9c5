"""Groups, Service Auth (tokens, SSH), certificates, access log, keys."""

from __future__ import annotations

import hashlib
from datetime import timedelta

import pytest
from django.conf import LazySettings
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from access.models import (
    AccessRequest,
    Application,
    ApplicationPolicy,
    Certificate,
    Group,
    PrincipalClaim,
    ServiceToken,
    SshAuthority,
)
from accounts.models import AuditEvent
from tests.factories import Cast
from tests.pages_kit import EVIL_NAME, form_id, last_event, login, shown, text_of
from tests.world import World, make_world

GROUP = {
    "name": "Night shift",
    "rule-0-list": "include",
    "rule-0-selector": "email_domain",
    "rule-0-value": "people.test",
    "step": "save",
}


@pytest.fixture
def world(cast: Cast) -> World:
    return make_world(cast.widgetcorp, domain="widgetcorp.tech")


@pytest.fixture
def alice(cast: Cast) -> Client:
    return login(cast.alice)


def url(name: str, *args: object) -> str:
    return reverse(name, args=["widgetcorp", *args])


class TestGroups:
    def test_add_edit_delete(self, alice: Client, world: World) -> None:
        assert alice.post(url("group_add"), {**GROUP, "is_default": "on"}).status_code == 302
        group = Group.objects.get(name="Night shift")
        assert group.is_default
        assert group.include == [{"email_domain": {"domain": "people.test"}}]
        assert last_event(world.organization).name == "access.group.created"
        assert "e-mail ending in @people.test" in shown(alice, url("groups"))
        changed = {**GROUP, "name": "Day shift", "rule-0-value": "a.test\nb.test"}
        assert alice.post(url("group_edit", group.pk), changed).status_code == 302
        group.refresh_from_db()
        assert (group.name, group.is_default, len(group.include)) == ("Day shift", False, 2)
        assert alice.post(url("group_delete", group.pk)).status_code == 302
        assert not Group.objects.filter(pk=group.pk).exists()

    def test_a_taken_name_is_refused_with_the_input_kept(self, alice: Client, world: World) -> None:
        response = alice.post(url("group_add"), {**GROUP, "name": "Engineering"})
        assert response.status_code == 422
        assert 'name="rule-0-value" value="people.test"' in text_of(response)

    def test_the_same_name_in_another_organization_is_fine(self, alice: Client, cast: Cast) -> None:
        make_world(cast.evilcorp, domain="evilcorp.tech")
        assert alice.post(url("group_add"), {**GROUP, "name": "Engineering"}).status_code == 302

    def test_a_group_in_use_stays(self, alice: Client, world: World) -> None:
        assert alice.post(url("group_delete", world.group.pk)).status_code == 422
        assert Group.objects.filter(pk=world.group.pk).exists()

    def test_what_is_in_use_offers_no_button_to_press_in_vain(self, alice: Client, world: World) -> None:
        page = shown(alice, url("group_delete", world.group.pk))
        assert (
            f"The group is used by policy &quot;{world.policy.name}&quot;" in page
            and "Delete group</button>" not in page
        )
        ApplicationPolicy.objects.create(application=world.application, policy=world.reusable, precedence=9)
        page = shown(alice, url("policy_delete", world.reusable.pk))
        assert "Detach it there first." in page and "Delete policy</button>" not in page
        ApplicationPolicy.objects.filter(policy=world.reusable).delete()
        assert "Delete policy</button>" in shown(alice, url("policy_delete", world.reusable.pk))

    def test_unticked_default_stays_unticked_when_a_row_is_added(self, alice: Client, world: World) -> None:
        Group.objects.filter(pk=world.group.pk).update(is_default=True)
        page = text_of(alice.post(url("group_edit", world.group.pk), {**GROUP, "step": "add-row"}))
        assert 'id="id_is_default" checked' not in page.replace("aria-describedby", "")
        assert "checked" not in page

    def test_rules_no_form_knows_are_kept(self, alice: Client, world: World) -> None:
        rule = {"device_posture": {"integration_uid": "dev1"}}
        Group.objects.filter(pk=world.group.pk).update(include=[{"everyone": {}}, rule])
        page = shown(alice, url("group_edit", world.group.pk))
        assert "Kept as it is" in page
        assert "dev1" in page

    def test_query_budget(
        self, alice: Client, world: World, django_assert_max_num_queries: DjangoAssertNumQueries
    ) -> None:
        for number in range(30):
            Group.objects.create(
                organization=world.organization,
                name=f"G{number:02}",
                include=[
                    {"group": {"id": str(world.group.pk)}},
                    {"service_token": {"token_id": str(world.service_token.pk)}},
                ],
            )
        with django_assert_max_num_queries(10):
            assert "group Engineering" in shown(alice, url("groups"))


class TestServiceTokens:
    def test_tokens_that_end_soon_are_named_above_the_list(self, alice: Client, world: World) -> None:
        assert "within the week" not in shown(alice, url("service_tokens"))
        ServiceToken.objects.update(expires_at=timezone.now() + timedelta(days=3))
        assert "1 service token ends within the week" in shown(alice, url("service_tokens"))
        ServiceToken.objects.update(enabled=False)
        assert "within the week" not in shown(alice, url("service_tokens"))

    def test_secret_is_shown_once_and_stored_hashed(self, alice: Client, cast: Cast) -> None:
        page = text_of(alice.post(url("service_token_create"), {"name": "ci", "duration_seconds": "2592000"}))
        secret = page.split('id="client-secret">')[1].split("<")[0]
        token = ServiceToken.objects.get(name="ci")
        assert token.secret_sha256 == hashlib.sha256(secret.encode()).hexdigest()
        assert f"CF-Access-Client-Id: {token.client_id}" in page
        assert secret not in shown(alice, url("service_tokens"))
        assert secret not in str(list(AuditEvent.objects.values()))
        assert last_event(cast.widgetcorp).name == "access.service_token.created"

    def test_double_submit_makes_one(self, alice: Client, cast: Cast) -> None:
        sent = {"name": "ci", "duration_seconds": "", "form_id": form_id(shown(alice, url("service_token_create")))}
        alice.post(url("service_token_create"), sent)
        alice.post(url("service_token_create"), sent)
        assert ServiceToken.objects.filter(name="ci").count() == 1

    def test_rotate_refresh_edit_delete(self, alice: Client, world: World) -> None:
        token, old = world.service_token, world.service_token.secret_sha256
        assert "client-secret" in text_of(alice.post(url("service_token_rotate", token.pk), {"overlap_seconds": 3600}))
        token.refresh_from_db()
        assert token.secret_sha256 != old == token.previous_secret_sha256
        assert "previous secret until" in text_of(alice.get(url("service_tokens")))
        alice.post(url("service_token_rotate", token.pk), {"overlap_seconds": 0})
        token.refresh_from_db()
        assert token.previous_secret_sha256 == ""
        alice.post(url("service_token_disable", token.pk))
        token.refresh_from_db()
        assert not token.enabled
        alice.post(url("service_token_enable", token.pk))
        token.refresh_from_db()
        assert token.enabled
        ServiceToken.objects.filter(pk=token.pk).update(expires_at=timezone.now() + timedelta(days=6))
        assert "expires soon" in text_of(alice.get(url("service_tokens")))
        alice.post(url("service_token_refresh", token.pk))
        assert last_event(world.organization).name == "access.service_token.refreshed"
        alice.post(url("service_token_edit", token.pk), {"name": "renamed", "duration_seconds": ""})
        token.refresh_from_db()
        assert (token.name, token.expires_at) == ("renamed", None)
        assert alice.post(url("service_token_delete", token.pk)).status_code == 302
        assert not ServiceToken.objects.for_organization(world.organization).filter(pk=token.pk).exists()

    def test_editors_do_not_make_tokens(self, cast: Cast) -> None:
        client = login(cast.erin)
        assert client.post(url("service_token_create"), {"name": "x"}).status_code == 403
        assert "Create a service token" not in shown(client, url("service_tokens"))


class TestSshAuthorities:
    @pytest.fixture
    def application(self, world: World) -> Application:
        return Application.objects.create(
            organization=world.organization, name="Build farm", hostname="build.widgetcorp.tech"
        )

    def test_generate_shows_key_audience_tag_and_file(self, alice: Client, application: Application) -> None:
        page = shown(alice, url("ssh_authorities"))
        assert "Build farm (build.widgetcorp.tech)" in page
        assert "SSH bastion (ssh-bastion.widgetcorp.tech)" not in page
        response = alice.post(
            url("ssh_authority_generate"), {"application": str(application.pk), "algorithm": "ed25519"}
        )
        assert response["Location"] == url("ssh_authority_detail", application.pk)
        authority = SshAuthority.objects.get(application=application)
        assert authority.state == "active"  # the worker runs in the test
        page = shown(alice, url("ssh_authority_detail", application.pk))
        assert authority.public_key.split()[1] in page
        assert application.aud in page
        assert "TrustedUserCAKeys /etc/ssh/ca.pub" in page
        answer = alice.get(url("ssh_authority_file", application.pk))
        assert answer["Content-Type"].startswith("text/plain")
        assert answer.content.decode().startswith("ssh-ed25519 ")
        assert authority.public_key in answer.content.decode()

    def test_hosts_learn_where_to_fetch_keys_and_revocations(
        self, alice: Client, world: World, settings: LazySettings
    ) -> None:
        settings.EDGE_CA_FILE = ""
        address = f"{world.organization.team_url}/cdn-cgi/access/ssh/{world.application.aud}"
        page = shown(alice, url("ssh_authority_detail", world.application.pk))
        assert f">{address}/ca.pub</code>" in page
        assert f">{address}/revoked.krl</code>" in page
        assert "RevokedKeys /etc/ssh/revoked.krl" in page
        assert f"curl -fsS -o /etc/ssh/revoked.new {address}/revoked.krl" in page
        assert "edge-ca.pem" not in page
        settings.EDGE_CA_FILE = "/somewhere/ca.pem"
        page = shown(alice, url("ssh_authority_detail", world.application.pk))
        assert "curl -fsS --cacert edge-ca.pem -o" in page
        assert reverse("tunnel_edge_authority", args=["widgetcorp"]) in page

    def test_without_an_application_the_page_leads_to_one(self, alice: Client, cast: Cast) -> None:
        page = shown(alice, url("ssh_authorities"))
        assert "There is no application yet" in page
        assert url("application_add") in page
        assert "Choose an application above" not in page

    def test_twice_is_refused(self, alice: Client, world: World) -> None:
        data = {"application": str(world.application.pk), "algorithm": "ed25519"}
        assert alice.post(url("ssh_authority_generate"), data).status_code == 422
        assert SshAuthority.objects.filter(application=world.application).count() == 1

    def test_application_of_another_tenant_is_no_choice(self, alice: Client, cast: Cast, world: World) -> None:
        theirs = Application.objects.create(organization=cast.evilcorp, name="Theirs", hostname="x.evilcorp.tech")
        data = {"application": str(theirs.pk), "algorithm": "ed25519"}
        assert alice.post(url("ssh_authority_generate"), data).status_code == 422
        assert not SshAuthority.objects.filter(application=theirs).exists()
        assert "Theirs" not in shown(alice, url("ssh_authorities"))

    def test_rotation_publishes_both_keys_then_activates(self, alice: Client, application: Application) -> None:
        alice.post(url("ssh_authority_generate"), {"application": str(application.pk), "algorithm": "ed25519"})
        alice.post(url("ssh_authority_rotate", application.pk))
        assert len(alice.get(url("ssh_authority_file", application.pk)).content.decode().splitlines()) == 2
        page = shown(alice, url("ssh_authority_detail", application.pk))
        assert "A next key is waiting" in page
        old = SshAuthority.objects.get(application=application, state="active")
        alice.post(url("ssh_authority_activate", application.pk))
        assert SshAuthority.objects.get(application=application, state="active").pk != old.pk
        assert last_event(application.organization).name == "access.ssh_authority.activated"

    def test_refused_rotation_is_told(self, alice: Client, application: Application) -> None:
        response = alice.post(url("ssh_authority_rotate", application.pk), follow=True)
        assert response.status_code == 404 or "Generate one first" in text_of(response)

    def test_delete_needs_the_name(self, alice: Client, world: World) -> None:
        delete = url("ssh_authority_delete", world.application.pk)
        assert alice.post(delete, {"confirmation": "wrong"}).status_code == 422
        assert alice.post(delete, {"confirmation": "SSH bastion"}).status_code == 302
        world.authority.refresh_from_db()
        assert world.authority.state == "retired"
        assert bytes(world.authority.private_sealed) == b""

    def test_release_an_account_name(self, alice: Client, world: World) -> None:
        assert "carol" in shown(alice, url("ssh_authority_detail", world.application.pk))
        alice.post(url("ssh_principal_release", world.claim.pk))
        assert not PrincipalClaim.objects.filter(pk=world.claim.pk).exists()
        assert last_event(world.organization).name == "access.principal.released"

    def test_viewer_may_read_the_public_key(self, cast: Cast, world: World) -> None:
        client = login(cast.bob)
        assert client.get(url("ssh_authority_file", world.application.pk)).status_code == 200
        assert "Rotate" not in shown(client, url("ssh_authority_detail", world.application.pk))

    def test_no_sealed_key_on_any_page(self, alice: Client, world: World) -> None:
        for name, args in (
            ("ssh_authority_detail", [world.application.pk]),
            ("token_keys", []),
            ("ssh_authorities", []),
        ):
            assert "sealed-" not in shown(alice, url(name, *args))


class TestCertificates:
    def test_inventory_detail_and_revoke(self, alice: Client, world: World) -> None:
        certificate = world.certificate
        assert certificate.serial in shown(alice, url("certificates"))
        assert certificate.serial in shown(alice, url("certificates") + "?q=carol@people&state=valid")
        assert "Nothing matches" in shown(alice, url("certificates") + "?state=failed")
        assert certificate.key_id in shown(alice, url("certificate_detail", certificate.pk))
        alice.post(url("certificate_revoke", certificate.pk))
        certificate.refresh_from_db()
        assert certificate.revoked_at is not None
        assert last_event(world.organization).name == "access.certificate.revoked"
        assert "revoked" in shown(alice, url("certificates") + "?state=revoked")

    def test_query_budget(
        self, alice: Client, world: World, django_assert_max_num_queries: DjangoAssertNumQueries
    ) -> None:
        values = {
            field.attname: getattr(world.certificate, field.attname)
            for field in Certificate._meta.fields
            if field.name not in {"id", "serial"}
        }
        for number in range(30):
            Certificate.objects.create(serial=str(1000 + number), **values)
        with django_assert_max_num_queries(7):
            shown(alice, url("certificates"))


class TestAccessLog:
    TRACE = [
        {"policy": "Engineers get in", "decision": "allow", "verdict": "no_match"},
        {
            "policy": "Engineers get in",
            "list": "require",
            "rule": 1,
            "selector": "geo",
            "wanted": "PT",
            "actual": EVIL_NAME,
            "verdict": "no_match",
            "via": ["Engineering"],
        },
        {
            "policy": "Engineers get in",
            "list": "include",
            "rule": 1,
            "selector": "group",
            "wanted": "Engineering",
            "actual": "Engineering",
            "verdict": "no_match",
            "via": [],
        },
        {"verdict": "left_out", "count": 3},
    ]

    def test_list_filters_and_trace(self, alice: Client, world: World) -> None:
        AccessRequest.objects.filter(pk=world.access_request.pk).update(
            trace=self.TRACE, allowed=False, reason="country_not_allowed"
        )
        assert "Login · Wrong country" in shown(alice, url("access_log") + "?decision=denied&action=login&q=carol")
        assert "Nothing matches" in shown(alice, url("access_log") + "?decision=allowed")
        assert world.access_request.ray_id in shown(alice, url("access_log") + f"?q={world.access_request.ray_id}") + (
            world.access_request.ray_id
        )
        page = shown(alice, url("access_log_entry", world.access_request.pk))
        assert "does not match" in page
        assert "Country" in page
        assert "in Engineering" in page
        assert "not a member" in page
        assert "Wrong country" in page
        assert "3 more entries" in page
        assert "<script>alert" not in page

    @pytest.mark.parametrize("trace", [[], None, "text", [1, "x", None], [{"selector": "unknown"}], {"a": 1}])
    def test_odd_traces_do_not_break_the_page(self, alice: Client, world: World, trace: object) -> None:
        AccessRequest.objects.filter(pk=world.access_request.pk).update(trace=trace if trace is not None else [])
        shown(alice, url("access_log_entry", world.access_request.pk))

    def test_query_budget(
        self, alice: Client, world: World, django_assert_max_num_queries: DjangoAssertNumQueries
    ) -> None:
        for number in range(60):
            AccessRequest.objects.create(
                organization=world.organization,
                application=world.application,
                application_label="SSH bastion",
                email=f"u{number}@people.test",
                action="connect",
                allowed=True,
                reason="allow",
                ray_id=str(number),
            )
        with django_assert_max_num_queries(6):
            page = shown(alice, url("access_log"))
        assert "50 decisions" in page


class TestKeys:
    def test_page(self, alice: Client, world: World) -> None:
        page = shown(alice, url("token_keys"))
        assert world.token_key.kid in page
        assert f"{world.organization.team_url}/cdn-cgi/access/certs" in page
