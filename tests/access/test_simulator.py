"""The simulator: one question, all people, recorded decisions, edits that are not saved."""

from __future__ import annotations

import re
import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from access import simulation as engine
from access.actions.lists import create_list
from access.actions.service_tokens import create_service_token
from access.actions.simulations import MAX_RUNNING, start_simulation
from access.decisions import decide, record_decision
from access.facts import Asker
from access.models import AccessRequest, Application, Group, Policy, Simulation, SimulationResult
from access.simulation import Proposal, advance, redrive
from access.tasks import redrive_simulations
from accounts.errors import Conflict, InvalidInput
from accounts.models import AccessSession, Identity
from tests.access.makers import ACTOR, add_policy, email_rule, make_application, make_provider, make_session
from tests.factories import Cast
from tests.pages_kit import EVIL_NAME, last_event, login, rows_of, shown, text_of

ALICE, BOB = "alice@widgetcorp.test", "bob@widgetcorp.test"


@pytest.fixture
def application(cast: Cast) -> Application:
    return make_application(cast.widgetcorp, include=[email_rule(ALICE)], authority=False)


@pytest.fixture
def policy(application: Application) -> Policy:
    return application.policy_links.get().policy


@pytest.fixture
def people(cast: Cast) -> dict[str, AccessSession]:
    return {email: make_session(cast.widgetcorp, email, groups=["engineers"]) for email in (ALICE, BOB)}


@pytest.fixture
def alice(cast: Cast) -> Client:
    return login(cast.alice)


def url(name: str, *args: object) -> str:
    return reverse(name, args=["widgetcorp", *args])


def ask(client: Client, application: Application, **values: str) -> str:
    response = client.get(url("application_simulator", application.pk), {"who": "identity", **values})
    assert response.status_code == 200, text_of(response)
    return text_of(response)


def is_allowed(page: str) -> bool:
    answer = page.partition('id="answer"')[2]
    assert answer
    return '<span class="badge good">allowed</span>' in answer.partition("</h2>")[0]


@pytest.mark.usefixtures("people")
class TestOneQuestion:
    def test_a_known_person_gets_the_same_answer_as_a_real_request(
        self, alice: Client, application: Application, people: dict[str, AccessSession]
    ) -> None:
        for email, session in people.items():
            page = ask(alice, application, identity=email)
            real = decide(application, Asker("203.0.113.7", timezone.now(), session))
            assert is_allowed(page) is real.allowed
            assert f"<code>{real.reason}</code>" in page
        assert "does not match" in page
        assert ALICE in page  # what the rule wanted

    def test_nothing_is_recorded(self, cast: Cast, alice: Client, application: Application) -> None:
        before = rows_of(cast.widgetcorp)
        ask(alice, application, identity=ALICE)
        assert rows_of(cast.widgetcorp) == before

    def test_somebody_made_up_with_groups_claims_and_methods(
        self, cast: Cast, alice: Client, application: Application
    ) -> None:
        provider = str(make_provider(cast.widgetcorp).pk)
        add_policy(application, include=[{"okta": {"name": "R, D & Co", "identity_provider_id": provider}}])
        claim = {"claim_name": "department", "claim_value": "ops", "identity_provider_id": provider}
        add_policy(application, include=[{"oidc": claim}])
        typed = {"who": "typed", "email": "x@y.test", "provider": provider}
        assert not is_allowed(ask(alice, application, **typed))
        assert is_allowed(ask(alice, application, **typed, groups="other\nR, D & Co"))
        assert is_allowed(ask(alice, application, **typed, claims="department = ops"))
        assert is_allowed(ask(alice, application, who="typed", email=ALICE))
        assert not is_allowed(ask(alice, application, who="typed", email=ALICE, email_unverified="on"))

    def test_address_and_country(self, alice: Client, application: Application, policy: Policy) -> None:
        policy.require = [{"geo": {"country_code": "PT"}}, {"ip": {"ip": "192.0.2.0/24"}}]
        policy.save()
        assert is_allowed(ask(alice, application, identity=ALICE, ip="192.0.2.7", country="Portugal"))
        page = ask(alice, application, identity=ALICE, ip="192.0.2.7", country="FR")
        assert not is_allowed(page)
        assert "Your country (FR)" in page
        assert not is_allowed(ask(alice, application, identity=ALICE, ip="198.51.100.1", country="PT"))
        assert is_allowed(ask(alice, application, identity=ALICE, ip="192.0.2.7", country="pt"))
        AccessSession.objects.filter(identity__email=ALICE).update(ip_address="192.0.2.9")
        assert is_allowed(ask(alice, application, identity=ALICE, country="PT"))  # the last address, another country
        assert "No address was given" in ask(alice, application, who="typed", email=ALICE, country="PT")

    def test_machines_and_time(self, cast: Cast, alice: Client, application: Application) -> None:
        token, _ = create_service_token(cast.widgetcorp, actor=ACTOR, name="ansible", duration_seconds=86400)
        add_policy(application, include=[{"service_token": {"token_id": str(token.pk)}}], decision="non_identity")
        question = {"who": "service_token", "service_token": str(token.pk)}
        assert is_allowed(ask(alice, application, **question))
        later = (timezone.now() + timedelta(days=2)).strftime("%Y-%m-%dT%H:%M")
        page = ask(alice, application, **question, at=later)
        assert not is_allowed(page)
        assert "service_token_inactive" in page
        assert not is_allowed(ask(alice, application, who="nobody"))

    def test_lists_methods_and_consent(
        self, cast: Cast, alice: Client, application: Application, policy: Policy, people: Any
    ) -> None:
        row = create_list(cast.widgetcorp, actor=ACTOR, name="Staff", type="EMAIL", items=[{"value": ALICE}])
        policy.include = [{"email_list": {"id": str(row.pk)}}]
        policy.require = [{"auth_method": {"auth_method": "mfa"}}]
        policy.purpose_justification_required = True
        policy.save()
        assert is_allowed(ask(alice, application, identity=ALICE, amr="mfa"))  # anybody can state a purpose
        assert not is_allowed(ask(alice, application, identity=ALICE, amr="pwd"))
        assert not is_allowed(ask(alice, application, identity=BOB, amr="mfa"))
        policy.approval_required = True
        policy.approval_groups = [{"approvals_needed": 1, "email_addresses": [BOB]}]
        policy.save()
        page = ask(alice, application, identity=ALICE, amr="mfa")
        assert not is_allowed(page)
        assert "approval_required" in page

    def test_disabled_people_and_refused_login_methods_are_told(
        self, cast: Cast, alice: Client, application: Application
    ) -> None:
        application.allowed_providers.add(make_provider(cast.widgetcorp, "Another"))
        assert "does not offer that login method" in ask(alice, application, identity=ALICE)
        Identity.objects.filter(email=ALICE).update(disabled_at=timezone.now())
        page = ask(alice, application, identity=ALICE)
        assert not is_allowed(page)
        assert "identity_disabled" in page

    def test_one_address_at_two_login_methods_needs_a_choice(
        self, cast: Cast, alice: Client, application: Application
    ) -> None:
        other = make_provider(cast.widgetcorp, "Another")
        make_session(cast.widgetcorp, ALICE, provider=other)
        answer = alice.get(url("application_simulator", application.pk), {"who": "identity", "identity": ALICE})
        assert answer.status_code == 422
        assert "Several login methods know this address (Another, Okta)" in text_of(answer)
        assert is_allowed(ask(alice, application, identity=ALICE, provider=str(other.pk)))

    def test_the_general_page_asks_any_application(self, alice: Client, application: Application) -> None:
        page = shown(alice, f"{url('simulator')}?application={application.pk}&who=identity&identity={ALICE}")
        assert is_allowed(page)

    def test_the_other_tenant_is_not_asked(self, cast: Cast, alice: Client, application: Application) -> None:
        theirs = make_application(cast.evilcorp, hostname="ssh.evilcorp.test", authority=False)
        make_session(cast.evilcorp, "mallory@evilcorp.test")
        found = alice.get(url("simulator"), {"application": str(theirs.pk), "who": "nobody"})
        assert found.status_code == 422
        wrong = alice.get(
            url("application_simulator", application.pk), {"who": "identity", "identity": "mallory@evilcorp.test"}
        )
        assert wrong.status_code == 422
        foreign = Identity.objects.get(email="mallory@evilcorp.test")
        wrong = alice.get(
            url("application_simulator", application.pk), {"who": "identity", "identity": str(foreign.pk)}
        )
        assert wrong.status_code == 422

    def test_evil_names_are_escaped(self, cast: Cast, alice: Client, application: Application) -> None:
        make_session(cast.widgetcorp, "evil@x.test", subject=EVIL_NAME, groups=[EVIL_NAME])
        page = ask(alice, application, who="typed", email=EVIL_NAME, groups=EVIL_NAME)
        assert "<script>alert" not in page


FORM = {
    "name": "Bob instead",
    "decision": "allow",
    "rule-0-list": "include",
    "rule-0-selector": "email",
    "rule-0-value": BOB,
}


@pytest.mark.usefixtures("people")
class TestEdits:
    def test_who_gains_and_loses_by_an_edit_that_is_not_saved(
        self, cast: Cast, alice: Client, application: Application, policy: Policy
    ) -> None:
        edit = url("application_policy_edit", application.pk, policy.pk)
        answer = alice.post(edit, {**FORM, "step": "compare"})
        row = Simulation.objects.get()
        assert answer["Location"] == url("simulation", row.pk)
        assert last_event(cast.widgetcorp).name == "access.simulation.started"
        assert Policy.objects.get(pk=policy.pk).include == [email_rule(ALICE)]
        assert (row.status, row.total, row.processed, row.gained, row.lost) == ("complete", 2, 2, 1, 1)
        page = shown(alice, answer["Location"])
        assert "Gains access" in page
        assert "Loses access" in page
        table = page.partition("<tbody>")[2]
        assert table.index(BOB) < table.index(ALICE)  # gains first, then losses
        only = shown(alice, f"{answer['Location']}?change=lost")
        assert ALICE in only.partition("<tbody>")[2]
        assert BOB not in only.partition("<tbody>")[2]
        back = shown(alice, f"{edit}?draft={row.pk}")
        assert f'name="rule-0-value" value="{BOB}"' in back
        assert 'value="Bob instead"' in back
        other_page = url("application_policy_add", application.pk)
        assert f'name="rule-0-value" value="{BOB}"' not in shown(alice, f"{other_page}?draft={row.pk}")

    def test_lists_and_terms_are_tried_and_come_back_to_the_form(
        self, cast: Cast, alice: Client, application: Application, policy: Policy
    ) -> None:
        row = create_list(cast.widgetcorp, actor=ACTOR, name="Staff", type="EMAIL", items=[{"value": BOB}])
        edit = url("application_policy_edit", application.pk, policy.pk)
        sent: dict[str, Any] = {
            **FORM,
            "rule-0-selector": "email_list",
            "rule-0-value": str(row.pk),
            "purpose_justification_required": "on",
            "ssh_own": "on",
            "ssh_usernames": "deploy",
            "ssh_extensions_own": "on",
            "ssh_extensions": ["permit-pty", "permit-agent-forwarding"],
        }
        answer = alice.post(edit, {**sent, "step": "compare"})
        assert answer.status_code == 302, text_of(answer)
        found = Simulation.objects.get()
        assert (found.status, found.gained, found.lost, found.errored) == ("complete", 1, 1, 0)
        assert Policy.objects.get(pk=policy.pk).ssh is None
        back = alice.get(f"{edit}?draft={found.pk}").context["form"]
        assert back["ssh_extensions"].value() == ["permit-pty", "permit-agent-forwarding"]
        refused = alice.post(edit, {**sent, "ssh_usernames": "no name", "step": "compare"})
        assert refused.status_code == 422
        assert Simulation.objects.count() == 1

    def test_a_new_policy_comes_last(self, alice: Client, application: Application) -> None:
        answer = alice.post(url("application_policy_add", application.pk), {**FORM, "step": "compare"})
        row = Simulation.objects.get()
        assert answer["Location"] == url("simulation", row.pk)
        assert (row.gained, row.lost, row.approved) == (1, 0, 2)
        assert Policy.objects.count() == 1

    def test_reusable_policies_and_groups_are_tried_wherever_they_are_used(
        self, cast: Cast, alice: Client, application: Application, policy: Policy
    ) -> None:
        group = Group.objects.create(organization=cast.widgetcorp, name="Staff", include=[email_rule(ALICE)])
        rule = {"group": {"id": str(group.pk)}}
        other = make_application(
            cast.widgetcorp, hostname="two.widgetcorp.test", name="Second", include=[rule], authority=False
        )
        policy.include = [rule]
        policy.save()
        group_form = {**FORM, "name": "Staff"}
        answer = alice.post(url("group_edit", group.pk), {**group_form, "step": "compare"})
        row = Simulation.objects.get()
        assert answer["Location"] == url("simulation", row.pk)
        assert (row.total, row.gained, row.lost) == (4, 2, 2)
        assert Group.objects.get(pk=group.pk).include == [email_rule(ALICE)]
        assert "Second" in shown(alice, answer["Location"])
        other.policy_links.get().policy.delete()
        reusable = Policy.objects.create(
            organization=cast.widgetcorp, name="r", decision="allow", include=[email_rule(ALICE)], reusable=True
        )
        other.policy_links.create(policy=reusable, precedence=1)
        alice.post(url("policy_edit", reusable.pk), {**FORM, "step": "compare"})
        row = Simulation.objects.exclude(pk=row.pk).get()
        assert (row.total, row.gained, row.lost) == (2, 1, 1)

    def test_bad_rules_are_refused_as_when_saving(
        self, alice: Client, application: Application, policy: Policy
    ) -> None:
        edit = url("application_policy_edit", application.pk, policy.pk)
        for wrong in ({"rule-0-value": "no address"}, {"rule-0-value": ""}, {"name": ""}):
            answer = alice.post(edit, {**FORM, **wrong, "step": "compare"})
            assert answer.status_code == 422, wrong
        assert not Simulation.objects.exists()

    def test_an_unused_group_has_nobody_to_try_on(self, cast: Cast, alice: Client) -> None:
        group = Group.objects.create(organization=cast.widgetcorp, name="Staff", include=[email_rule(ALICE)])
        answer = alice.post(url("group_edit", group.pk), {**FORM, "name": "Staff", "step": "compare"})
        assert answer.status_code == 422
        assert "No application uses these rules" in text_of(answer)

    def test_lint_shows_while_editing(self, alice: Client, application: Application) -> None:
        add = url("application_policy_add", application.pk)
        assert "data-lint" not in shown(alice, add)
        rows = {**FORM, "rule-0-selector": "everyone", "rule-0-value": "", "step": "refresh"}
        assert 'data-lint="allow_everyone"' in text_of(alice.post(add, rows))
        assert 'data-lint="unreachable"' in text_of(alice.post(add, {**FORM, "rule-0-value": ALICE, "step": "refresh"}))
        group = {"name": "g", "rule-0-list": "exclude", "rule-0-selector": "everyone", "step": "refresh"}
        assert 'data-lint="excludes_everyone"' in text_of(alice.post(url("group_add"), group))

    def test_lint_shows_beside_saved_policies(self, alice: Client, application: Application) -> None:
        add_policy(application, include=[email_rule(ALICE)], decision="deny")
        assert 'data-lint="unreachable"' in shown(alice, url("application_policies", application.pk))


class TestReplay:
    @pytest.fixture
    def recorded(self, application: Application, people: dict[str, AccessSession]) -> list[AccessRequest]:
        now = timezone.now()
        rows = []
        for email in (ALICE, BOB, BOB):
            asker = Asker("203.0.113.7", now, people[email])
            decision = decide(application, asker)
            rows.append(record_decision(application, decision, asker, action="connect", ray_id=uuid.uuid4().hex))
        return rows

    def test_differences_under_an_edit(
        self, alice: Client, application: Application, policy: Policy, recorded: list[AccessRequest]
    ) -> None:
        old = recorded[2]
        AccessRequest.objects.filter(pk=old.pk).update(created_at=timezone.now() - timedelta(days=20))
        edit = url("application_policy_edit", application.pk, policy.pk)
        answer = alice.post(edit, {**FORM, "step": "replay", "replay_days": "7"})
        row = Simulation.objects.get()
        assert (row.kind, row.total, row.processed, row.gained, row.lost) == ("replay", 2, 2, 1, 1)
        page = shown(alice, answer["Location"])
        assert url("access_log_entry", recorded[0].pk) in page
        assert url("access_log_entry", old.pk) not in page

    def test_facts_of_then_count_not_those_of_now(
        self, cast: Cast, alice: Client, application: Application, recorded: list[AccessRequest]
    ) -> None:
        Identity.objects.all().update(groups=[], email="changed@x.test")
        provider = str(make_provider(cast.widgetcorp).pk)
        form = {
            **FORM,
            "rule-0-selector": "okta",
            "rule-0-value": "engineers",
            "rule-0-provider": provider,
            "step": "replay",
        }
        alice.post(url("application_policy_add", application.pk), form)
        row = Simulation.objects.get()
        assert (row.total, row.approved, row.gained, row.lost) == (3, 3, 2, 0)

    def test_unchanged_decisions_are_counted_not_listed(
        self, alice: Client, application: Application, recorded: list[AccessRequest]
    ) -> None:
        answer = alice.post(url("application_simulate", application.pk), {"step": "replay", "replay_days": "30"})
        row = Simulation.objects.get()
        assert (row.total, row.approved, row.blocked, row.gained, row.lost) == (3, 1, 2, 0, 0)
        assert not row.results.exists()
        assert "No decision would be another" in shown(alice, answer["Location"])

    def test_decisions_no_policy_made_are_left_out(self, alice: Client, application: Application) -> None:
        AccessRequest.objects.create(
            organization=application.organization,
            application=application,
            application_label="x",
            action="connect",
            allowed=False,
            reason="service_token_invalid",
            ray_id="r",
        )
        alice.post(url("application_simulate", application.pk), {"step": "replay"})
        assert Simulation.objects.get().total == 0

    def test_no_more_than_the_newest(
        self, monkeypatch: pytest.MonkeyPatch, alice: Client, application: Application, recorded: list[AccessRequest]
    ) -> None:
        for age, entry in enumerate(recorded):
            AccessRequest.objects.filter(pk=entry.pk).update(created_at=timezone.now() - timedelta(hours=age + 1))
        monkeypatch.setattr(engine, "MAX_REPLAYED", 1)
        alice.post(url("application_simulate", application.pk), {"step": "replay"})
        assert Simulation.objects.get().total == 2


class TestJob:
    """Parts, deaths and doubles."""

    def start(self, application: Application, monkeypatch: pytest.MonkeyPatch) -> Simulation:
        sent: list[str] = []
        monkeypatch.setattr(engine.run_simulation, "delay", sent.append)
        row = start_simulation(application.organization, actor=ACTOR, title="t", proposal=Proposal([application]))
        assert sent == [str(row.pk)]
        return row

    def test_it_goes_on_where_it_stopped_and_counts_nobody_twice(
        self, cast: Cast, application: Application, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for number in range(7):
            make_session(cast.widgetcorp, f"p{number}@x.test")
        row = self.start(application, monkeypatch)
        assert advance(row.pk, seconds=0, part=3) is False
        row.refresh_from_db()
        assert (row.processed, row.total, row.status) == (3, 7, "processing")
        with monkeypatch.context() as dying:
            dying.setattr(engine, "_count", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                advance(row.pk, seconds=0, part=3)
        assert advance(row.pk, seconds=30, part=3) is True
        assert advance(row.pk, seconds=30, part=3) is True
        row.refresh_from_db()
        assert (row.processed, row.blocked, row.status) == (7, 7, "complete")
        assert SimulationResult.objects.filter(simulation=row).values("identity").distinct().count() == 7
        assert SimulationResult.objects.filter(simulation=row).count() == 7

    def test_changes_meanwhile_are_not_seen(
        self, application: Application, policy: Policy, people: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        row = self.start(application, monkeypatch)
        policy.include = [email_rule(BOB)]
        policy.save()
        advance(row.pk, seconds=30)
        assert row.results.get(who=ALICE).status == "approved"

    def test_progress_is_shown_and_polled(
        self, alice: Client, application: Application, people: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        row = self.start(application, monkeypatch)
        page = shown(alice, url("simulation", row.pk))
        assert 'hx-trigger="every 1s"' in page
        assert "0 of 2" in page
        assert "Look again" in page
        advance(row.pk, seconds=30)
        page = shown(alice, url("simulation", row.pk))
        assert 'hx-trigger="every 1s"' not in page
        assert "2 of 2" in page

    def test_stuck_ones_are_asked_again_and_old_ones_forgotten(
        self, application: Application, people: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        row = self.start(application, monkeypatch)
        assert redrive(now=timezone.now()) == {"asked_again": 0, "forgotten": 0}
        Simulation.objects.update(updated_at=timezone.now() - timedelta(minutes=2))
        assert redrive_simulations() == {"asked_again": 1, "forgotten": 0}
        Simulation.objects.update(created_at=timezone.now() - timedelta(hours=1))
        Identity.objects.update(created_at=timezone.now() - timedelta(hours=2))
        assert advance(row.pk, seconds=30, part=1) is True
        row.refresh_from_db()
        assert row.status == "exceeded time"
        assert redrive(now=timezone.now() + timedelta(days=8))["forgotten"] > 0
        assert not Simulation.objects.exists()

    def test_few_at_a_time_and_sane_days(self, application: Application, monkeypatch: pytest.MonkeyPatch) -> None:
        row = self.start(application, monkeypatch)
        with pytest.raises(InvalidInput):
            start_simulation(
                application.organization, actor=ACTOR, title="t", proposal=Proposal([application]), replay_days=0
            )
        for _ in range(MAX_RUNNING - 1):
            self.start(application, monkeypatch)
        with pytest.raises(Conflict):
            self.start(application, monkeypatch)
        advance(row.pk, seconds=30)
        self.start(application, monkeypatch)

    def test_results_come_in_pages(self, cast: Cast, alice: Client, application: Application) -> None:
        for number in range(30):
            make_session(cast.widgetcorp, f"p{number:02}@x.test")
        alice.post(url("application_simulate", application.pk), {"step": "compare"})
        row = Simulation.objects.get()
        page = shown(alice, url("simulation", row.pk))
        assert "1 to 25 of 30" in page
        assert "26 to 30 of 30" in shown(alice, f"{url('simulation', row.pk)}?page=2")

    def test_queries_do_not_grow_with_people(
        self, cast: Cast, application: Application, monkeypatch: pytest.MonkeyPatch, django_assert_max_num_queries: Any
    ) -> None:
        for number in range(60):
            make_session(cast.widgetcorp, f"p{number:02}@x.test")
        row = self.start(application, monkeypatch)
        with django_assert_max_num_queries(12):
            advance(row.pk, seconds=30)

    def test_an_editor_may_a_viewer_may_only_look(self, cast: Cast, application: Application, people: Any) -> None:
        assert login(cast.erin).post(url("application_simulate", application.pk)).status_code == 302
        row = Simulation.objects.get()
        viewer = login(cast.bob)
        assert viewer.post(url("application_simulate", application.pk)).status_code == 403
        shown(viewer, url("simulation", row.pk))
        other = login(cast.mallory).get(reverse("simulation", args=["evilcorp", row.pk]))
        assert other.status_code == 404


class TestPicker:
    """Many applications: found by a search, offered at most 50 at a time, without scripts."""

    @pytest.fixture
    def many(self, cast: Cast) -> list[Application]:
        return Application.objects.bulk_create(
            Application(organization=cast.widgetcorp, name=f"Host {number:03}", hostname=f"h{number:03}.corp.test")
            for number in range(120)
        )

    @staticmethod
    def offered(page: str) -> list[str]:
        select = page.partition('<select name="application"')[2].partition("</select>")[0]
        return re.findall(r'<option value="([^"]+)"', select)

    def test_the_page_is_small(self, alice: Client, many: list[Application]) -> None:
        page = shown(alice, url("simulator"))
        assert len(self.offered(page)) == 50
        assert "The first 50 are offered" in page
        assert len(page.encode()) < 45_000

    @pytest.mark.parametrize("query", ["Host 117", "HOST 117", "h117.corp"])
    def test_a_search_finds_any_and_chooses_the_only_one(
        self, alice: Client, many: list[Application], query: str
    ) -> None:
        page = shown(alice, f"{url('simulator')}?find={query}&step=find")
        assert self.offered(page) == [str(many[117].pk)]
        assert f'value="{many[117].pk}" selected' in page

    def test_what_was_typed_stays_and_nothing_is_asked_yet(self, alice: Client, many: list[Application]) -> None:
        asked = {"who": "identity", "identity": ALICE, "ip": "203.0.113.9", "find": "Host 11", "step": "find"}
        page = text_of(alice.get(url("simulator"), asked))
        assert len(self.offered(page)) == 10
        assert f'value="{ALICE}"' in page and 'value="203.0.113.9"' in page
        assert 'id="answer"' not in page and "This field is required" not in page

    def test_one_that_is_not_offered_can_be_asked(
        self, alice: Client, many: list[Application], people: dict[str, AccessSession]
    ) -> None:
        asked = {"application": str(many[117].pk), "who": "identity", "identity": ALICE}
        page = text_of(alice.get(url("simulator"), asked))
        assert "at Host 117" in page.partition('id="answer"')[2]
        assert self.offered(page)[0] == str(many[117].pk)

    def test_nothing_found_says_so_and_few_need_no_search(self, alice: Client, application: Application) -> None:
        assert "Find application" not in shown(alice, url("simulator"))
        page = shown(alice, f"{url('simulator')}?find=nowhere&step=find")
        assert "No application fits" in page and self.offered(page) == []

    def test_other_tenants_and_nonsense_are_not_offered(
        self, cast: Cast, alice: Client, many: list[Application]
    ) -> None:
        theirs = make_application(cast.evilcorp, hostname="ssh.evilcorp.test", authority=False, name="Evil host")
        for value in (str(theirs.pk), "nonsense"):
            page = shown(alice, f"{url('simulator')}?find=Evil&step=find&application={value}")
            assert self.offered(page) == []
