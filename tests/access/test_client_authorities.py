"""Client certificates in policies: authorities of an organization, what edges report, live streams, linked tokens."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from django.utils import timezone

from access import hostnames
from access.actions.client_authorities import (
    create_client_authority,
    delete_client_authority,
    set_revocations,
    update_client_authority,
)
from access.client_crls import name_digest
from access.models import AccessRequest, Application, ClientAuthority
from accounts.errors import Conflict, InvalidInput
from accounts.models import Organization
from dataplane.wire.shown import ShownCertificate
from tests.access.makers import ACTOR, EVERYONE, HOSTNAME, app_token, make_application, make_session
from tests.access.test_authorize import ask, reasons
from tests.client_roots import Root
from tests.controlplane.api_kit import make_api
from tests.factories import Cast
from tests.pages_kit import last_event, login, shown
from tunnels.models import Zone
from tunnels.snapshots import load_snapshot

ROOT = Root("Widget machines")
CERTIFICATE: dict[str, Any] = {"certificate": {}}
_ONE_POINT = x509.IssuingDistributionPoint(
    full_name=None,
    relative_name=None,
    only_contains_user_certs=True,
    only_contains_ca_certs=False,
    only_some_reasons=None,
    indirect_crl=False,
    only_contains_attribute_certs=False,
)


@pytest.fixture(autouse=True)
def _zone(cast: Cast) -> None:
    name = HOSTNAME.partition(".")[2]
    Zone.objects.create(organization=cast.widgetcorp, name=name, skeleton=name, status="active", verification_token="t")


def add_root(organization: Organization, root: Root = ROOT, **values: Any) -> ClientAuthority:
    given = {"name": "Machines", "certificate": root.pem(), "associated_hostnames": [HOSTNAME]} | values
    return create_client_authority(organization, actor=ACTOR, now=timezone.now(), **given)


def shown_certificate(row: ClientAuthority, name: str = "dev1", **changes: Any) -> ShownCertificate:
    values = {
        "common_name": name,
        "fingerprint": "cd" * 32,
        "expires_at": (timezone.now() + timedelta(hours=1)).timestamp(),
        "roots": (row.fingerprint,),
    }
    return ShownCertificate(**(values | changes))


def live(application: Application, answer: Any) -> dict[str, Any]:
    return {
        "stream_id": "s",
        "application_id": str(application.pk),
        "client_ip": "203.0.113.7",
        "evidence": answer["evidence"],
    }


def test_service_auth_by_certificate_and_its_end(cast: Cast) -> None:
    row = add_root(cast.widgetcorp)
    application = make_application(
        cast.widgetcorp, include=[{"common_name": {"common_name": "dev1"}}], decision="non_identity", authority=False
    )
    answer = ask(certificate=shown_certificate(row), websocket=True)
    assert (answer["outcome"], answer["identity"]) == ("allow", "dev1")
    entry = AccessRequest.objects.get()
    assert (entry.email, entry.connection, entry.reason) == ("dev1", "certificate", "service_token")
    assert reasons(live(application, answer)) == []
    delete_client_authority(row, actor=ACTOR)
    assert len(reasons(live(application, answer))) == 1


@pytest.mark.parametrize("name", ["dev2", "DEV1", ""])
def test_another_common_name_is_refused(cast: Cast, name: str) -> None:
    row = add_root(cast.widgetcorp)
    rule = {"common_name": {"common_name": "dev1"}}
    make_application(cast.widgetcorp, include=[rule], decision="non_identity", authority=False)
    assert ask(certificate=shown_certificate(row, name))["outcome"] == "deny"


def test_an_unknown_root_an_expired_certificate_and_none_count_for_nothing(cast: Cast) -> None:
    row = add_root(cast.widgetcorp)
    make_application(cast.widgetcorp, include=[CERTIFICATE], decision="non_identity", authority=False)
    assert ask(certificate=shown_certificate(row))["outcome"] == "allow"
    for changes in ({"roots": ("ab" * 32,)}, {"roots": ()}, {"expires_at": 1.0}):
        assert ask(certificate=shown_certificate(row, **changes))["outcome"] == "deny"
    assert ask()["outcome"] == "deny"
    foreign = ClientAuthority.objects.create(
        organization=cast.evilcorp,
        name="Theirs",
        certificate="x",
        fingerprint="ef" * 32,
        associated_hostnames=[HOSTNAME],
        expires_at=timezone.now(),
    )
    assert ask(certificate=shown_certificate(foreign))["outcome"] == "deny", "another tenant's root"


def test_a_certificate_beside_a_login(cast: Cast) -> None:
    """Valid certificate under Require: the person alone is not enough."""
    row = add_root(cast.widgetcorp)
    application = make_application(cast.widgetcorp, authority=False)
    policy = application.policy_links.get().policy
    policy.require = [CERTIFICATE]
    policy.save()
    token = {"token": app_token(application, make_session(cast.widgetcorp)), "token_source": "header"}
    assert ask(**token)["reason"] == "certificate_required"
    assert ask(**token, certificate=shown_certificate(row))["outcome"] == "allow"


def test_a_certificate_opens_no_policy_that_does_not_ask_for_one(cast: Cast) -> None:
    row = add_root(cast.widgetcorp)
    make_application(cast.widgetcorp, include=[EVERYONE], decision="non_identity", authority=False)
    assert ask(certificate=shown_certificate(row))["outcome"] == "deny"


def test_removing_the_hostname_ends_it_too(cast: Cast) -> None:
    row = add_root(cast.widgetcorp)
    application = make_application(cast.widgetcorp, include=[CERTIFICATE], decision="non_identity", authority=False)
    answer = ask(certificate=shown_certificate(row), websocket=True)
    update_client_authority(row, actor=ACTOR, associated_hostnames=[])
    assert len(reasons(live(application, answer))) == 1
    assert last_event(cast.widgetcorp).name == "access.client_authority.updated"


def test_snapshot_tells_edges_only_proven_hostnames(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    row = add_root(cast.widgetcorp)
    assert load_snapshot()["client_roots"] == {HOSTNAME: [{"fingerprint": row.fingerprint, "pem": row.certificate}]}
    Zone.objects.update(status="pending")
    assert load_snapshot()["client_roots"] == {}


def test_hostnames_must_be_owned(cast: Cast) -> None:
    for hostname in ("ssh.elsewhere.test", "*.elsewhere.test", "*.test", "not a host"):
        with pytest.raises(InvalidInput):
            add_root(cast.widgetcorp, associated_hostnames=[hostname])
    assert callable(hostnames.assert_owned)


def test_only_roots_are_taken(cast: Cast, tmp_path: Any) -> None:
    leaf = ROOT.client_file("dev1", tmp_path).read_text()
    for text in (leaf, leaf.partition("-----BEGIN EC")[0].partition("-----BEGIN PRIVATE")[0], "junk", ROOT.pem() * 2):
        with pytest.raises(InvalidInput):
            add_root(cast.widgetcorp, certificate=text)
    add_root(cast.widgetcorp)
    with pytest.raises(Conflict):
        add_root(cast.widgetcorp, name="Again")


def test_api_and_pages(cast: Cast) -> None:
    api = make_api(cast.widgetcorp)
    path = f"{api.account}/access/certificates"
    made = api.ok("POST", path, {"name": "M", "certificate": ROOT.pem(), "associated_hostnames": [HOSTNAME]})
    assert len(made["fingerprint"]) == 32
    assert made["expires_on"].endswith("Z")
    one = f"{path}/{made['id']}"
    assert api.ok("PUT", one, {"associated_hostnames": []})["name"] == "M"
    assert [row["id"] for row in api.ok("GET", path)] == [made["id"]]
    other = make_api(cast.evilcorp)
    other.refused("DELETE", f"{other.account}/access/certificates/{made['id']}", status=404)
    client = login(cast.erin)
    page = shown(client, "/o/widgetcorp/access/service-auth/mtls/")
    assert "CN=Widget machines" in page
    edit = f"/o/widgetcorp/access/service-auth/mtls/{made['id']}/edit/"
    assert client.post(edit, {"name": "Robots", "associated_hostnames": HOSTNAME}).status_code == 302
    row = ClientAuthority.objects.get()
    assert (row.name, row.associated_hostnames) == ("Robots", [HOSTNAME])
    api.ok("DELETE", one)
    sent = {"name": "Robots", "certificate": ROOT.pem(), "associated_hostnames": HOSTNAME}
    assert client.post("/o/widgetcorp/access/service-auth/mtls/add/", sent).status_code == 302
    assert client.post(f"/o/widgetcorp/access/service-auth/mtls/{ClientAuthority.objects.get().pk}/delete/")
    assert not ClientAuthority.objects.exists()


def client_certificate(issuer: Root, tmp_path: Any) -> x509.Certificate:
    return x509.load_pem_x509_certificate(issuer.client_file("dev1", tmp_path).read_bytes())


def certificate_of(row: ClientAuthority, certificate: x509.Certificate) -> ShownCertificate:
    issuer, serial = name_digest(certificate.issuer), f"{certificate.serial_number:x}"
    return shown_certificate(row, issuer=issuer, serial=serial)


def test_a_bundle_brings_its_intermediates(cast: Cast) -> None:
    middle, lower = (one := Root("Middle", ROOT)), Root("Lower", one)
    for bundle in (lower.pem() + ROOT.pem(), ROOT.pem() + Root("Middle", Root("Widget machines")).pem()):
        with pytest.raises(InvalidInput):
            add_root(cast.widgetcorp, certificate=bundle)
    row = add_root(cast.widgetcorp, certificate=lower.pem() + ROOT.pem() + middle.pem())
    assert row.fingerprint == ROOT.fingerprint()
    assert row.intermediates == middle.pem() + lower.pem()
    assert load_snapshot()["client_roots"][HOSTNAME][0]["pem"] == ROOT.pem() + middle.pem() + lower.pem()


def test_wildcard_hostnames(cast: Cast) -> None:
    row = add_root(cast.widgetcorp, associated_hostnames=["*.widgetcorp.test"])
    make_application(cast.widgetcorp, include=[CERTIFICATE], decision="non_identity", authority=False)
    assert ask(certificate=shown_certificate(row))["outcome"] == "allow"
    make_application(
        cast.widgetcorp,
        hostname="deep.ssh.widgetcorp.test",
        include=[CERTIFICATE],
        decision="non_identity",
        authority=False,
    )
    deep = ask(certificate=shown_certificate(row), hostname="deep.ssh.widgetcorp.test")
    assert deep["outcome"] == "deny", "one label only"
    assert "*.widgetcorp.test" in load_snapshot()["client_roots"]


class TestRevocation:
    def allowed(self, row: ClientAuthority, certificate: x509.Certificate) -> Any:
        answer = ask(certificate=certificate_of(row, certificate), websocket=True)
        return answer

    def test_a_listed_certificate_is_refused_with_its_reason_and_cut(self, cast: Cast, tmp_path: Any) -> None:
        row = add_root(cast.widgetcorp)
        application = make_application(cast.widgetcorp, include=[CERTIFICATE], decision="non_identity", authority=False)
        bad, good = (client_certificate(ROOT, tmp_path) for _ in range(2))
        before = {name: self.allowed(row, one) for name, one in (("bad", bad), ("good", good))}
        assert {answer["outcome"] for answer in before.values()} == {"allow"}
        set_revocations(row, actor=ACTOR, lists=ROOT.crl(bad), now=timezone.now())
        event = last_event(cast.widgetcorp)
        assert event.name == "access.client_authority.revocations_changed"
        refused = self.allowed(row, bad)
        assert (refused["outcome"], refused["reason"]) == ("deny", "client_certificate_revoked")
        assert "revoked" in refused["message"]
        assert self.allowed(row, good)["outcome"] == "allow"
        assert len(reasons(live(application, before["bad"]))) == 1
        assert reasons(live(application, before["good"])) == []
        set_revocations(row, actor=ACTOR, lists="", now=timezone.now())
        assert self.allowed(row, bad)["outcome"] == "allow"

    def test_an_expired_list_refuses_every_certificate_of_its_issuer(self, cast: Cast, tmp_path: Any) -> None:
        row = add_root(cast.widgetcorp)
        make_application(cast.widgetcorp, include=[CERTIFICATE], decision="non_identity", authority=False)
        certificate = client_certificate(ROOT, tmp_path)
        set_revocations(row, actor=ACTOR, lists=ROOT.crl(), now=timezone.now())
        assert self.allowed(row, certificate)["outcome"] == "allow"
        row.refresh_from_db()
        row.revocations[0]["next_update"] = timezone.now().timestamp() - 1
        row.save()
        refused = self.allowed(row, certificate)
        assert (refused["outcome"], refused["reason"]) == ("deny", "client_revocation_list_expired")

    def test_a_revoked_intermediate_takes_its_certificates_with_it(self, cast: Cast, tmp_path: Any) -> None:
        middle = Root("Middle", ROOT)
        row = add_root(cast.widgetcorp, certificate=ROOT.pem() + middle.pem())
        make_application(cast.widgetcorp, include=[CERTIFICATE], decision="non_identity", authority=False)
        below = client_certificate(middle, tmp_path)
        set_revocations(row, actor=ACTOR, lists=ROOT.crl() + middle.crl(), now=timezone.now())
        assert self.allowed(row, below)["outcome"] == "allow"
        set_revocations(row, actor=ACTOR, lists=ROOT.crl(middle.certificate), now=timezone.now())
        assert self.allowed(row, below)["reason"] == "client_certificate_revoked"

    def test_a_revoked_intermediate_takes_the_authorities_below_it_too(self, cast: Cast, tmp_path: Any) -> None:
        lower = Root("Lower", middle := Root("Middle", ROOT))
        row = add_root(cast.widgetcorp, certificate=ROOT.pem() + middle.pem() + lower.pem())
        make_application(cast.widgetcorp, include=[CERTIFICATE], decision="non_identity", authority=False)
        below = client_certificate(lower, tmp_path)
        set_revocations(row, actor=ACTOR, lists=ROOT.crl() + lower.crl(), now=timezone.now())
        assert self.allowed(row, below)["outcome"] == "allow"
        set_revocations(row, actor=ACTOR, lists=ROOT.crl(middle.certificate) + lower.crl(), now=timezone.now())
        assert self.allowed(row, below)["reason"] == "client_certificate_revoked"

    def test_an_expired_list_of_the_root_refuses_what_is_below_its_intermediates(
        self, cast: Cast, tmp_path: Any
    ) -> None:
        middle = Root("Middle", ROOT)
        row = add_root(cast.widgetcorp, certificate=ROOT.pem() + middle.pem())
        make_application(cast.widgetcorp, include=[CERTIFICATE], decision="non_identity", authority=False)
        below = client_certificate(middle, tmp_path)
        set_revocations(row, actor=ACTOR, lists=ROOT.crl(), now=timezone.now())
        assert self.allowed(row, below)["outcome"] == "allow"
        row.refresh_from_db()
        row.revocations[0]["next_update"] = timezone.now().timestamp() - 1
        row.save()
        assert self.allowed(row, below)["reason"] == "client_revocation_list_expired"

    def test_an_intermediate_that_only_the_client_shows_is_no_way_around_a_list(
        self, cast: Cast, tmp_path: Any
    ) -> None:
        """The handshake takes it, since the root signed it; the list names it by a number that nobody can look up."""
        stolen = Root("Stolen", ROOT)
        row = add_root(cast.widgetcorp)
        application = make_application(cast.widgetcorp, include=[CERTIFICATE], decision="non_identity", authority=False)
        below = client_certificate(stolen, tmp_path)
        before = self.allowed(row, below)
        assert before["outcome"] == "allow", "without a list nothing says otherwise"
        set_revocations(row, actor=ACTOR, lists=ROOT.crl(stolen.certificate), now=timezone.now())
        refused = self.allowed(row, below)
        assert (refused["outcome"], refused["reason"]) == ("deny", "client_certificate_issuer_unknown")
        assert "intermediate" in refused["message"]
        assert len(reasons(live(application, before))) == 1

    def test_lists_of_one_root_leave_those_of_another_alone(self, cast: Cast, tmp_path: Any) -> None:
        """Edges report every root of the hostname, whichever the certificate chains to."""
        other = Root("Other machines")
        row, second = add_root(cast.widgetcorp), add_root(cast.widgetcorp, other)
        make_application(cast.widgetcorp, include=[CERTIFICATE], decision="non_identity", authority=False)
        set_revocations(row, actor=ACTOR, lists=ROOT.crl(), now=timezone.now())
        one = client_certificate(other, tmp_path)
        issuer, serial = name_digest(one.issuer), f"{one.serial_number:x}"
        roots = (row.fingerprint, second.fingerprint)
        answer = ask(certificate=shown_certificate(row, issuer=issuer, serial=serial, roots=roots))
        assert answer["outcome"] == "allow"

    def test_an_edge_that_does_not_say_which_certificate_it_saw_is_not_believed(self, cast: Cast) -> None:
        row = add_root(cast.widgetcorp)
        make_application(cast.widgetcorp, include=[CERTIFICATE], decision="non_identity", authority=False)
        set_revocations(row, actor=ACTOR, lists=ROOT.crl(), now=timezone.now())
        assert ask(certificate=shown_certificate(row))["outcome"] == "deny"

    def test_lists_are_checked(self, cast: Cast) -> None:
        row = add_root(cast.widgetcorp)
        stranger = Root("Widget machines")  # the same name, another key
        for lists in (
            "nonsense",
            ROOT.pem(),
            stranger.crl(),
            ROOT.crl(key=stranger.key),
            ROOT.crl(days=-1),
            ROOT.crl() + ROOT.crl(),
            ROOT.crl() + "more",
            # Parts of a list, which name some of the revoked only.
            ROOT.crl(extension=x509.DeltaCRLIndicator(1)),
            ROOT.crl(extension=_ONE_POINT),
        ):
            with pytest.raises(InvalidInput) as refused:
                set_revocations(row, actor=ACTOR, lists=lists, now=timezone.now())
            assert set(refused.value.fields) == {"lists"}
        row.refresh_from_db()
        assert row.revocations == []

    def test_by_api_and_page(self, cast: Cast, tmp_path: Any) -> None:
        row = add_root(cast.widgetcorp)
        api = make_api(cast.widgetcorp)
        one = f"{api.account}/access/certificates/{row.pk}"
        bad = client_certificate(ROOT, tmp_path)
        made = api.ok("PUT", f"{one}/revocation_lists", {"crl": ROOT.crl(bad)})
        assert [(entry["issuer"], entry["revoked"]) for entry in made["revocation_lists"]] == [
            ("CN=Widget machines", 1)
        ]
        api.refused("PUT", f"{one}/revocation_lists", {"crl": "x"}, status=400)
        client = login(cast.erin)
        page = f"/o/widgetcorp/access/service-auth/mtls/{row.pk}/revocations/"
        assert "CN=Widget machines: 1 revoked" in shown(client, page)
        assert client.post(page, {"lists": "nonsense"}).status_code == 422
        assert client.post(page, {"lists": ROOT.crl()}).status_code == 302
        assert "revocation list: 0 revoked" in shown(client, "/o/widgetcorp/access/service-auth/mtls/")
        assert client.post(page, {"lists": ""}).status_code == 302
        row.refresh_from_db()
        assert row.revocations == []


def test_forwarding_by_api_and_page(cast: Cast) -> None:
    api = make_api(cast.widgetcorp)
    path = f"{api.account}/access/certificates/settings"
    assert api.ok("GET", path) == []
    body = {"hostname": HOSTNAME, "china_network": False, "client_certificate_forwarding": True}
    assert api.ok("PUT", path, {"settings": [body]}) == [body]
    assert load_snapshot()["certificate_forwarding"] == [HOSTNAME]
    for refused in ({**body, "china_network": True}, {**body, "hostname": "ssh.elsewhere.test"}):
        api.refused("PUT", path, {"settings": [refused]}, status=400)
    assert make_api(cast.evilcorp).ok("GET", path.replace(cast.widgetcorp.pk, cast.evilcorp.pk)) == []
    Zone.objects.update(status="pending")
    assert load_snapshot()["certificate_forwarding"] == []
    Zone.objects.update(status="active")
    row = add_root(cast.widgetcorp)
    client = login(cast.erin)
    edit = f"/o/widgetcorp/access/service-auth/mtls/{row.pk}/edit/"
    assert "checked" in shown(client, edit)
    assert client.post(edit, {"name": "Machines", "associated_hostnames": HOSTNAME}).status_code == 302
    assert api.ok("GET", path) == [{**body, "client_certificate_forwarding": False}]
    sent = {"name": "Machines", "associated_hostnames": HOSTNAME, "forwarding": "on"}
    assert client.post(edit, sent).status_code == 302
    assert api.ok("GET", path) == [body]


# --- Linked app tokens ----------------------------------------------------------------------------------------
def test_linked_app_token(cast: Cast) -> None:
    portal = make_application(cast.widgetcorp, hostname="portal.widgetcorp.test", authority=False)
    rule = {"linked_app_token": {"app_uid": str(portal.pk)}}
    application = make_application(cast.widgetcorp, include=[rule], decision="non_identity", authority=False)
    session = make_session(cast.widgetcorp)
    good = app_token(portal, session)
    answer = ask(linked_token=good, websocket=True)
    assert answer["outcome"] == "allow"
    assert reasons(live(application, answer)) == []
    assert ask(linked_token=app_token(application, session))["outcome"] == "deny", "of another application"
    assert ask(linked_token=good[:-4] + "AAAA")["outcome"] == "deny"
    session.revoked_at = timezone.now()
    session.save()
    assert ask(linked_token=good)["outcome"] == "deny"
    assert len(reasons(live(application, answer))) == 1


def test_linked_token_of_another_tenant_and_without_a_rule(cast: Cast) -> None:
    theirs = make_application(cast.evilcorp, hostname="portal.evilcorp.test", authority=False)
    mine = make_application(cast.widgetcorp, hostname="portal.widgetcorp.test", authority=False)
    make_application(cast.widgetcorp, include=[EVERYONE], decision="non_identity", authority=False)
    assert ask(linked_token=app_token(theirs, make_session(cast.evilcorp)))["outcome"] == "deny"
    assert ask(linked_token=app_token(mine, make_session(cast.widgetcorp)))["outcome"] == "deny"
