"""Access, Approvals: the list, answers from the dashboard, an early end, and what people see on their launcher."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from allauth.account.models import EmailAddress
from django.core import mail
from django.urls import reverse
from django.utils import timezone

from access.models import ApprovalRequest, ApprovalVote
from accounts.models import AccessSession, User
from tests.access.edge_client import TEAM
from tests.access.makers import make_application, make_session
from tests.access.test_authorize import reasons, stream
from tests.access.test_policy_terms import browser_of, set_terms
from tests.factories import Cast
from tests.pages_kit import event_names, last_event, login, shown, text_of

Status = ApprovalRequest.Status


def url(name: str, *args: object) -> str:
    return reverse(name, args=["widgetcorp", *args])


def confirm(user: User) -> User:
    EmailAddress.objects.create(user=user, email=user.email, verified=True, primary=True)
    return user


class Desk:
    def __init__(self, cast: Cast) -> None:
        self.cast = cast
        self.application = make_application(cast.widgetcorp, authority=False)
        groups = [{"approvals_needed": 1, "email_addresses": [cast.alice.email, "dora@widgetcorp.test"]}]
        self.policy = set_terms(self.application, approval_required=True, approval_groups=groups)
        self.session = make_session(cast.widgetcorp, "zoe@widgetcorp.test")

    def request(self, session: AccessSession | None = None, **fields: Any) -> ApprovalRequest:
        values: dict[str, Any] = {
            "organization": self.cast.widgetcorp,
            "application": self.application,
            "policy": self.policy,
            "identity": (session or self.session).identity,
            "reason": "Replace the disk",
            "duration_seconds": 3600,
            "groups": [{"approvals_needed": 1, "emails": [self.cast.alice.email, "dora@widgetcorp.test"]}],
        }
        made = ApprovalRequest.objects.create(**{**values, **fields})
        if made.status == Status.APPROVED:
            ApprovalVote.objects.create(
                organization=self.cast.widgetcorp, request=made, email=self.cast.alice.email, approves=True
            )
        return made


@pytest.fixture
def desk(cast: Cast) -> Desk:
    return Desk(cast)


def test_empty_then_states_search_and_paging(cast: Cast, desk: Desk, django_assert_max_num_queries: Any) -> None:
    alice = login(cast.alice)
    assert "Let people in for an hour" in shown(alice, url("approvals"))
    now = timezone.now()
    desk.request()
    desk.request(status=Status.APPROVED, ends_at=now + timedelta(hours=1), reason="Active one")
    desk.request(status=Status.APPROVED, ends_at=now - timedelta(hours=1), reason="Long over")
    for number in range(28):
        desk.request(status=Status.DENIED, reason=f"Denied {number}", decided_at=now)
    with django_assert_max_num_queries(16):
        page = shown(alice, url("approvals"))
    assert page.index("waiting") < page.index("Active one")
    assert "Long over" not in page, "older ones are on the next page"
    assert "Long over" in shown(alice, f"{url('approvals')}?state=past&page=2")
    active = shown(alice, f"{url('approvals')}?state=active")
    assert "Active one" in active
    assert "Denied 3" not in active
    assert "No requests fit this search" in shown(alice, f"{url('approvals')}?q=nonsense")
    assert "Denied 7" in shown(alice, f"{url('approvals')}?q=Denied+7")


def test_an_approver_with_a_confirmed_address_approves(cast: Cast, desk: Desk) -> None:
    asked = desk.request()
    alice = login(cast.alice)
    page = shown(alice, url("approvals"))
    assert "is not confirmed" in page
    assert ">Approve<" not in page
    assert alice.post(url("approval_answer", asked.pk), {"decision": "approve"}).status_code == 403
    confirm(cast.alice)
    assert ">Approve<" in shown(alice, url("approvals"))
    assert alice.post(url("approval_answer", asked.pk), {"decision": "approve"}).status_code == 302
    asked.refresh_from_db()
    assert asked.status == Status.APPROVED
    assert asked.is_active(timezone.now())
    (vote,) = asked.votes.all()
    assert (vote.email, vote.approver, vote.approves) == (cast.alice.email, None, True)
    event = last_event(cast.widgetcorp)
    assert (event.name, event.actor_label) == ("access.approval.granted", cast.alice.email)
    assert mail.outbox[-1].to == ["zoe@widgetcorp.test"]
    assert reasons(stream(desk.application, desk.session)) == []
    again = alice.post(url("approval_answer", asked.pk), {"decision": "deny"}, follow=True)
    assert "answered already" in text_of(again)


def test_nobody_approves_for_themselves(cast: Cast, desk: Desk) -> None:
    asked = desk.request(make_session(cast.widgetcorp, cast.alice.email))
    alice = login(confirm(cast.alice))
    assert ">Approve<" not in shown(alice, url("approvals"))
    assert alice.post(url("approval_answer", asked.pk), {"decision": "approve"}).status_code == 403
    asked.refresh_from_db()
    assert asked.status == Status.PENDING


def test_who_is_no_approver_any_more_grants_nothing(cast: Cast, desk: Desk) -> None:
    """What waits is answered by the approvers of now; an earlier yes of somebody taken off does not count either."""
    groups = [{"approvals_needed": 2, "email_addresses": [cast.alice.email, "dora@widgetcorp.test", cast.erin.email]}]
    set_terms(desk.application, approval_required=True, approval_groups=groups)
    asked = desk.request()
    answer = url("approval_answer", asked.pk)
    assert login(confirm(cast.alice)).post(answer, {"decision": "approve"}).status_code == 302
    groups = [{"approvals_needed": 1, "email_addresses": ["dora@widgetcorp.test", "eve@widgetcorp.test"]}]
    set_terms(desk.application, approval_required=True, approval_groups=groups)
    erin = login(confirm(cast.erin))
    assert ">Approve<" not in shown(erin, url("approvals"))
    assert "1 of dora@widgetcorp.test, eve@widgetcorp.test" in shown(erin, url("approval_detail", asked.pk))
    assert erin.post(answer, {"decision": "approve"}).status_code == 403
    former = browser_of(make_session(cast.widgetcorp, cast.erin.email))
    page = f"https://{TEAM}/cdn-cgi/access/approvals/{asked.pk}"
    assert former.get(page).status_code == 403
    asked.refresh_from_db()
    assert asked.status == Status.PENDING
    eve = browser_of(make_session(cast.widgetcorp, "eve@widgetcorp.test"))
    form = eve.get(page)
    assert form.status_code == 200, "who became an approver meanwhile answers"
    eve.submit(page, form, containing="decision", decision="approve")
    asked.refresh_from_db()
    assert asked.status == Status.APPROVED
    assert asked.groups == [{"approvals_needed": 1, "emails": ["dora@widgetcorp.test", "eve@widgetcorp.test"]}]


def test_editors_deny_what_they_may_not_approve(cast: Cast, desk: Desk) -> None:
    asked = desk.request()
    erin = login(confirm(cast.erin))
    assert erin.post(url("approval_answer", asked.pk), {"decision": "approve"}).status_code == 403
    assert erin.post(url("approval_answer", asked.pk), {"decision": "deny"}).status_code == 302
    asked.refresh_from_db()
    assert (asked.status, asked.votes.count()) == (Status.DENIED, 0)
    assert last_event(cast.widgetcorp).name == "access.approval.denied"


def test_end_now_asks_first_then_cuts(cast: Cast, desk: Desk) -> None:
    asked = desk.request(status=Status.APPROVED, ends_at=timezone.now() + timedelta(hours=1))
    alice = login(cast.alice)
    assert "End now" in shown(alice, url("approvals"))
    end = url("approval_end", asked.pk)
    assert "are cut within seconds" in shown(alice, end)
    live = stream(desk.application, desk.session)
    assert reasons(live) == []
    assert alice.post(end).status_code == 302
    asked.refresh_from_db()
    assert asked.status == Status.ENDED
    assert reasons(live) == ["approval_required"]
    event = last_event(cast.widgetcorp)
    assert event.name == "access.approval.ended"
    assert (event.old or {})["ends_at"] > (event.new or {})["ends_at"]
    assert "ended early" in str(mail.outbox[-1].body)
    before = event_names(cast.widgetcorp)
    assert alice.post(end).status_code == 422, "it is over already"
    assert event_names(cast.widgetcorp) == before


def test_the_trail_of_a_request(cast: Cast, desk: Desk) -> None:
    asked = desk.request()
    bob = login(cast.bob)
    page = shown(bob, url("approval_detail", asked.pk))
    assert "Replace the disk" in page
    assert f"1 of {cast.alice.email}, dora@widgetcorp.test" in page
    assert f"/cdn-cgi/access/approvals/{asked.pk}" in page
    assert ">Deny<" not in page


def test_people_see_their_own_on_the_launcher(cast: Cast, desk: Desk) -> None:
    desk.request(reason="Mine, waiting")
    desk.request(status=Status.APPROVED, ends_at=timezone.now() + timedelta(hours=1), reason="Mine, active")
    desk.request(status=Status.DENIED, reason="Mine, denied")
    desk.request(make_session(cast.widgetcorp, "yan@widgetcorp.test"), reason="Somebody else's")
    page = browser_of(desk.session).get(f"https://{TEAM}/").content.decode()
    assert "Mine, waiting" in page
    assert "waiting for approval" in page
    assert "Mine, active" in page
    assert "Mine, denied" not in page
    assert "Somebody else" not in page
