"""The staff area and support sessions (AC-57): found without looking inside, seen with a reason, and told."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from access.actions.token_keys import create_token_keys
from access.models import SshAuthority, TokenKey
from accounts.actor import system
from accounts.models import AuditEvent, Identity, Invitation, Membership, Organization, SupportSession, User
from accounts.permissions import Role
from accounts.ratelimits import PIN_TRY_BY_ACCOUNT, TooManyAttempts, refuse_if_spent, spend
from accounts.tasks import sweep_expired
from tests.factories import PASSWORD, Cast
from tests.pages_kit import EVIL_NAME, browser, event_names, last_event, login, rows_of, shown, text_of
from tests.world import CANARIES, World, make_world

STAFF = "sam@operator.test"
REASON = "Ticket 17: certificates fail"


@pytest.fixture
def world(cast: Cast) -> World:
    return make_world(cast.widgetcorp, domain="widgetcorp.tech")


@pytest.fixture
def sam(db: None) -> User:
    return User.objects.create_user(STAFF, PASSWORD, is_staff=True)


@pytest.fixture
def staff(sam: User) -> Client:
    return login(sam)


def page_of(organization: Organization) -> str:
    return reverse("staff_organization", args=[organization.pk])


def start(client: Client, organization: Organization, minutes: str = "30", reason: str = REASON) -> Any:
    return client.post(page_of(organization), {"reason": reason, "minutes": minutes})


def session_of(organization: Organization) -> SupportSession:
    return SupportSession.objects.for_organization(organization).filter(staff__email=STAFF).latest("created_at")


class TestFinding:
    @pytest.mark.parametrize(
        "query", ["widget", "WIDGETCORP", "alice@widgetcorp.test", "ssh-bastion.widgetcorp.tech", "widgetcorp.tech"]
    )
    def test_by_what_customers_say(self, staff: Client, cast: Cast, world: World, query: str) -> None:
        page = shown(staff, f"/staff/?q={query}")
        assert page_of(cast.widgetcorp) in page
        assert page_of(cast.evilcorp) not in page

    def test_by_id(self, staff: Client, cast: Cast) -> None:
        assert page_of(cast.evilcorp) in shown(staff, f"/staff/?q={cast.evilcorp.pk}")

    @pytest.mark.parametrize("query", ["alice@", "@widgetcorp.test", "ssh-bastion", "carol@people.test", "SSH bastion"])
    def test_not_by_parts_of_their_data(self, staff: Client, world: World, query: str) -> None:
        """Otherwise the search would tell, letter by letter, what is inside."""
        assert page_of(world.organization) not in shown(staff, f"/staff/?q={query}")

    def test_without_a_session_there_are_counts_and_no_data(self, staff: Client, world: World) -> None:
        page = shown(staff, page_of(world.organization))
        inside = ("carol@people.test", "SSH bastion", "ssh-bastion.widgetcorp.tech", "Engineering", "alice@widgetcorp")
        assert not [text for text in inside if text in page]
        assert "Start a support session" in page
        assert event_names(world.organization)[-1:] != ["accounts.support.page_viewed"]


class TestSupportSession:
    def test_opens_the_dashboard_read_only_with_a_banner(self, staff: Client, cast: Cast, world: World) -> None:
        assert staff.get("/o/widgetcorp/").status_code == 404
        start(staff, cast.widgetcorp)
        for path in ("", "access/applications/", "logs/audit/", f"team/users/{world.identity.pk}/"):
            page = shown(staff, f"/o/widgetcorp/{path}")
            assert "Support session in Widget Corp" in page
            assert REASON in page
            assert "Add an application" not in page
        assert staff.post("/o/widgetcorp/access/groups/add/", {"name": "x"}).status_code == 403
        assert staff.get("/o/widgetcorp/access/groups/add/").status_code == 403
        assert "Tools" in text_of(staff.get("/o/widgetcorp/access/groups/add/"))
        assert staff.get("/o/evilcorp/").status_code == 404

    def test_the_customer_reads_start_pages_and_end(self, staff: Client, cast: Cast, world: World) -> None:
        start(staff, cast.widgetcorp)
        staff.get("/o/widgetcorp/tunnels/?q=pool")
        staff.post(reverse("staff_session_end", args=[session_of(cast.widgetcorp).pk]))
        assert event_names(cast.widgetcorp)[-3:] == [
            "accounts.support.started",
            "accounts.support.page_viewed",
            "accounts.support.ended",
        ]
        log = shown(login(cast.alice), "/o/widgetcorp/logs/audit/?area=accounts.support")
        assert STAFF in log
        viewed = AuditEvent.objects.get(name="accounts.support.page_viewed")
        detail = shown(login(cast.alice), f"/o/widgetcorp/logs/audit/{viewed.pk}/")
        assert "/o/widgetcorp/tunnels/?q=pool" in detail
        assert REASON in detail
        assert staff.get("/o/widgetcorp/").status_code == 404

    def test_a_page_that_refreshes_itself_is_written_once(self, staff: Client, cast: Cast, world: World) -> None:
        start(staff, cast.widgetcorp)
        address = f"/o/widgetcorp/tunnels/{world.tunnel.pk}/"
        staff.get(address)
        for _ in range(3):
            staff.get(address, headers={"HX-Request": "true"})
        assert event_names(cast.widgetcorp).count("accounts.support.page_viewed") == 1
        staff.get("/o/widgetcorp/search/?q=carol", headers={"HX-Request": "true"})
        assert last_event(cast.widgetcorp).new["page"] == "/o/widgetcorp/search/?q=carol"

    def test_ends_by_itself_and_the_end_is_written(self, staff: Client, cast: Cast) -> None:
        start(staff, cast.widgetcorp, minutes="15")
        assert staff.get("/o/widgetcorp/").status_code == 200
        over = timezone.now() - timedelta(seconds=1)
        SupportSession.objects.filter(staff__email=STAFF).update(expires_at=over)
        assert staff.get("/o/widgetcorp/").status_code == 404
        sweep_expired()
        sweep_expired()
        assert event_names(cast.widgetcorp).count("accounts.support.ended") == 1
        assert session_of(cast.widgetcorp).ended_by == "time limit"
        assert last_event(cast.widgetcorp).actor_kind == "system"

    @pytest.mark.parametrize("data", [{"reason": "because"}, {"reason": ""}, {"minutes": "100000"}, {"minutes": "0"}])
    def test_needs_a_reason_and_a_limit(self, staff: Client, cast: Cast, data: dict[str, str]) -> None:
        answer = staff.post(page_of(cast.widgetcorp), {"reason": REASON, "minutes": "30", **data})
        assert answer.status_code == 422
        assert 'aria-invalid="true"' in text_of(answer)
        assert not SupportSession.objects.exists()

    def test_is_extended_with_a_reason_and_never_beyond_four_hours(self, staff: Client, cast: Cast) -> None:
        start(staff, cast.widgetcorp, minutes="120")
        session = session_of(cast.widgetcorp)
        extend = reverse("staff_session_extend", args=[session.pk])
        assert staff.post(extend, {"reason": "", "minutes": "60"}).status_code == 422
        assert staff.post(extend, {"reason": "Still looking at it", "minutes": "120"}).status_code == 302
        event = last_event(cast.widgetcorp)
        assert (event.name, event.new["because"]) == ("accounts.support.extended", "Still looking at it")
        assert staff.post(extend, {"reason": "Even longer please", "minutes": "15"}).status_code == 422
        session.refresh_from_db()
        assert session.started_at is not None
        assert session.expires_at == session.started_at + timedelta(hours=4)

    def test_only_one_at_a_time_and_it_ends_once(self, staff: Client, cast: Cast, sam: User) -> None:
        start(staff, cast.widgetcorp)
        start(staff, cast.widgetcorp)
        session = session_of(cast.widgetcorp)
        with pytest.raises(IntegrityError), transaction.atomic():
            SupportSession.objects.create(
                organization=cast.widgetcorp, staff=sam, staff_label=STAFF, reason=REASON, duration_seconds=60
            )
        for _ in range(2):
            staff.post(reverse("staff_session_end", args=[session.pk]))
        assert event_names(cast.widgetcorp).count("accounts.support.ended") == 1

    def test_ends_with_the_staff_member(self, staff: Client, cast: Cast, sam: User) -> None:
        start(staff, cast.widgetcorp)
        User.objects.filter(pk=sam.pk).update(is_staff=False)
        assert staff.get("/o/widgetcorp/").status_code == 404
        assert staff.get("/staff/").status_code == 404

    def test_is_nobody_elses(self, staff: Client, cast: Cast) -> None:
        start(staff, cast.widgetcorp)
        other = login(User.objects.create_user("kim@operator.test", PASSWORD, is_staff=True))
        assert other.get("/o/widgetcorp/").status_code == 404
        session = session_of(cast.widgetcorp)
        for name in ("staff_session_end", "staff_session_extend"):
            assert other.post(reverse(name, args=[session.pk]), {"reason": REASON, "minutes": "15"}).status_code == 404

    def test_a_page_that_cannot_be_recorded_is_not_shown(
        self, staff: Client, cast: Cast, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        start(staff, cast.widgetcorp)

        def no_disk(*_: Any, **__: Any) -> None:
            raise OSError("no space left")

        monkeypatch.setattr("accounts.http.record_support_page", no_disk)
        staff.raise_request_exception = False
        assert staff.get("/o/widgetcorp/").status_code == 500

    def test_reasons_are_text(self, staff: Client, cast: Cast) -> None:
        start(staff, cast.widgetcorp, reason=f"Ticket 1: {EVIL_NAME}")
        for client, path in ((staff, "/o/widgetcorp/"), (login(cast.alice), "/o/widgetcorp/settings/organization/")):
            assert "<script>alert" not in shown(client, path)


class TestTheCustomersSay:
    def url(self, name: str, *args: object) -> str:
        return reverse(f"organization_settings_support_{name}", args=["widgetcorp", *args])

    def test_owners_see_and_end_a_session(self, staff: Client, cast: Cast) -> None:
        start(staff, cast.widgetcorp)
        owner, session = login(cast.alice), session_of(cast.widgetcorp)
        page = shown(owner, "/o/widgetcorp/settings/organization/")
        assert STAFF in page
        assert REASON in page
        owner.post(self.url("end", session.pk))
        assert staff.get("/o/widgetcorp/").status_code == 404
        event = last_event(cast.widgetcorp)
        assert (event.name, event.actor_label) == ("accounts.support.ended", cast.alice.email)

    def test_consent_is_asked_for_where_it_is_wanted(self, staff: Client, cast: Cast) -> None:
        owner = login(cast.alice)
        owner.post(self.url("consent"), {"support_needs_consent": "on"})
        start(staff, cast.widgetcorp)
        assert last_event(cast.widgetcorp).name == "accounts.support.requested"
        assert staff.get("/o/widgetcorp/").status_code == 404
        assert staff.get(reverse("staff_tools", args=[cast.widgetcorp.pk])).status_code == 302
        session = session_of(cast.widgetcorp)
        assert "asks to look in" in shown(owner, "/o/widgetcorp/settings/organization/")
        owner.post(self.url("allow", session.pk))
        assert last_event(cast.widgetcorp).name == "accounts.support.started"
        assert last_event(cast.widgetcorp).actor_label == cast.alice.email
        assert staff.get("/o/widgetcorp/").status_code == 200
        owner.post(self.url("allow", session.pk))
        assert event_names(cast.widgetcorp).count("accounts.support.started") == 1

    def test_consent_is_refused(self, staff: Client, cast: Cast) -> None:
        owner = login(cast.alice)
        owner.post(self.url("consent"), {"support_needs_consent": "on"})
        start(staff, cast.widgetcorp)
        session = session_of(cast.widgetcorp)
        owner.post(self.url("end", session.pk))
        owner.post(self.url("allow", session.pk))
        assert staff.get("/o/widgetcorp/").status_code == 404

    def test_staff_cannot_consent_for_them(self, staff: Client, cast: Cast) -> None:
        Organization.objects.filter(pk=cast.widgetcorp.pk).update(support_needs_consent=True)
        start(staff, cast.widgetcorp)
        assert staff.post(self.url("allow", session_of(cast.widgetcorp).pk)).status_code == 404
        assert staff.post(self.url("consent"), {}).status_code == 404

    def test_another_tenant_decides_nothing(self, staff: Client, cast: Cast) -> None:
        start(staff, cast.widgetcorp)
        session = session_of(cast.widgetcorp)
        foreign = reverse("organization_settings_support_end", args=["evilcorp", session.pk])
        assert login(cast.mallory).post(foreign).status_code == 404
        session.refresh_from_db()
        assert session.ended_at is None


class TestTools:
    def use(self, staff: Client, world: World, subject: str, operation: str, key: object) -> Any:
        return staff.post(reverse("staff_tool", args=[world.organization.pk, subject, operation, key]))

    @pytest.mark.parametrize(
        ("subject", "operation", "row", "event"),
        [
            ("invitation", "resend", "invitation", "accounts.invitation.renewed"),
            ("member", "unlock", "membership", "accounts.member.unlocked"),
            ("identity", "unlock", "identity", "accounts.identity.unlocked"),
            ("identity", "revoke", "identity", "accounts.session.all_revoked"),
            ("zone", "verify", "zone", "tunnels.zone.check_requested"),
            ("record", "verify", "dns_record", "tunnels.record.check_requested"),
            ("tunnel", "disconnect", "tunnel", "tunnels.connectors.disconnected"),
            ("application", "rotate", "application", "access.ssh_authority.rotation_started"),
            ("organization", "rotate", "organization", "access.token_keys.rotated"),
        ],
    )
    def test_do_what_the_dashboard_does_as_staff(
        self, staff: Client, world: World, subject: str, operation: str, row: str, event: str
    ) -> None:
        _real_token_keys(world)
        key = getattr(world, row).pk
        before = rows_of(world.organization)
        assert self.use(staff, world, subject, operation, key).status_code == 302
        assert rows_of(world.organization) == before
        start(staff, world.organization)
        answer = self.use(staff, world, subject, operation, key)
        assert answer["Location"] == reverse("staff_tools", args=[world.organization.pk])
        written = AuditEvent.objects.for_organization(world.organization).filter(actor_kind="staff")
        assert event in written.values_list("name", flat=True)
        assert written.get(name=event).actor_label == STAFF

    def test_rows_of_another_tenant_are_not_there(self, staff: Client, cast: Cast, world: World) -> None:
        other = make_world(cast.evilcorp, domain="evilcorp.tech")
        start(staff, world.organization)
        before = rows_of(cast.evilcorp)
        for subject, operation, row in (("identity", "revoke", other.identity), ("zone", "verify", other.zone)):
            assert self.use(staff, world, subject, operation, row.pk).status_code == 404
        assert self.use(staff, world, "identity", "delete", world.identity.pk).status_code == 404
        assert self.use(staff, world, "identity", "revoke", "not-a-uuid").status_code == 404
        assert rows_of(cast.evilcorp) == before

    def test_unlocking_ends_the_waiting_time(self, staff: Client, world: World) -> None:
        key = (world.organization.pk, world.identity.email)
        for _ in range(PIN_TRY_BY_ACCOUNT.count):
            spend(PIN_TRY_BY_ACCOUNT, *key)
        with pytest.raises(TooManyAttempts):
            refuse_if_spent(PIN_TRY_BY_ACCOUNT, *key)
        start(staff, world.organization)
        self.use(staff, world, "identity", "unlock", world.identity.pk)
        refuse_if_spent(PIN_TRY_BY_ACCOUNT, *key)

    def test_a_locked_out_member_can_sign_in_again(self, staff: Client, cast: Cast, world: World) -> None:
        wrong = {"login": cast.alice.email, "password": "wrong"}
        for _ in range(6):
            browser().post("/accounts/login/", wrong)
        right = {"login": cast.alice.email, "password": PASSWORD}
        assert browser().post("/accounts/login/", right).status_code == 200
        start(staff, cast.widgetcorp)
        membership = Membership.objects.get(user=cast.alice)
        self.use(staff, world, "member", "unlock", membership.pk)
        assert browser().post("/accounts/login/", right).status_code == 302

    def test_rotation_shows_no_secret(self, staff: Client, world: World) -> None:
        _real_token_keys(world)
        start(staff, world.organization)
        self.use(staff, world, "organization", "rotate", world.organization.pk)
        self.use(staff, world, "application", "rotate", world.application.pk)
        page = shown(staff, reverse("staff_tools", args=[world.organization.pk]))
        sealed = [bytes(row.private_sealed).hex() for row in (*TokenKey.objects.all(), *SshAuthority.objects.all())]
        assert not any(value and value in page for value in sealed)

    def test_invitations_of_owners_are_sent_again_without_their_link(self, staff: Client, world: World) -> None:
        Invitation.objects.filter(pk=world.invitation.pk).update(role=Role.OWNER)
        start(staff, world.organization)
        answer = staff.post(
            reverse("staff_tool", args=[world.organization.pk, "invitation", "resend", world.invitation.pk]),
            follow=True,
        )
        assert "nina@people.test is mailed again" in text_of(answer)
        assert "/invitation" not in re.sub(r'(?:action|href)="/staff/[^"]*"', "", text_of(answer))


def _real_token_keys(world: World) -> None:
    TokenKey.objects.for_organization(world.organization).delete()
    create_token_keys(world.organization, actor=system("tests"))


def test_no_staff_page_shows_a_secret(staff: Client, world: World) -> None:
    """Every page below /staff/ in a support session, with sealed values and hashes of the world as canaries."""
    start(staff, world.organization)
    hashes = [world.service_token.secret_sha256, world.api_token.token_sha256, world.session.nonce]
    pages = ["/staff/", "/staff/?q=widget", "/staff/jobs/", "/staff/data/", page_of(world.organization)]
    tools = reverse("staff_tools", args=[world.organization.pk])
    for address in [*pages, tools, f"{tools}?q=a"]:
        page = shown(staff, address)
        assert not [secret for secret in (*CANARIES, *hashes) if secret in page], address


def test_staff_without_an_organization_start_in_their_area(staff: Client) -> None:
    assert staff.get("/")["Location"] == "/staff/"


def test_people_are_found_only_in_a_session(staff: Client, world: World) -> None:
    tools = reverse("staff_tools", args=[world.organization.pk])
    assert staff.get(f"{tools}?q=carol").status_code == 302
    start(staff, world.organization)
    assert "carol@people.test" in shown(staff, f"{tools}?q=carol")
    assert last_event(world.organization).new["page"] == f"{tools}?q=carol"
    assert Identity.objects.for_organization(world.organization).count() == 1
