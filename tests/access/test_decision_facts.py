"""Every decision keeps trace, rules' version and facts; the person refused learns little, the admin all (AC-86)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from access import decisions
from access.actions.groups import create_group, update_group
from access.actions.policies import update_policy
from access.authorize import AuthorizeRequest, as_json, authorize_request
from access.decision_facts import MAX_LIST, context_of, facts_of
from access.decisions import RulesInMotion, load_rules
from access.evaluation import rules_version
from access.models import AccessRequest, Application, Group, Policy
from access.selectors import Certificate, Context, NamedList, Person
from accounts.models import AccessSession
from tests.access.edge_client import EdgeBrowser
from tests.access.login_flows import log_in_with_pin, pin_provider, start_at_application
from tests.access.makers import ACTOR, CLIENT_IP, HOSTNAME, app_token, email_rule, make_application, make_session
from tests.factories import Cast
from tests.pages_kit import login, shown, text_of


def connect(application: Application, session: AccessSession, ray: str = "ray-1") -> AccessRequest:
    authorize_request(
        AuthorizeRequest(
            ray_id=ray,
            hostname=HOSTNAME,
            path="/",
            client_ip=CLIENT_IP,
            token=app_token(application, session),
            token_source="header",
            websocket=True,
        )
    )
    return AccessRequest.objects.get(ray_id=ray)


class TestFacts:
    def test_facts_lead_back_to_the_same_context(self) -> None:
        person = Person("a@x.test", True, "p", ("one", "two"), {"department": "R&D"})
        context = Context("192.0.2.7", "PT", person, "token-1")
        facts = facts_of(context)
        assert context_of(facts, {"department": "R&D"}) == context
        assert "department" not in str(facts)

    def test_evidence_consent_and_answers_survive_lists_are_todays(self) -> None:
        person = Person("a@x.test", True, "p", authentication_methods=("mfa",))
        lists = {"l": NamedList("Contractors", emails=frozenset({"a@x.test"}))}
        context = Context(
            "192.0.2.7",
            "PT",
            person,
            certificate=Certificate("laptop-7", "ab" * 32),
            linked_applications=frozenset({"one", "two"}),
            lists=lists,
            external={("https://e.test/ask", "https://e.test/keys"): True},
            approvals={"policy": 60},
            is_justified=True,
        )
        facts = json.loads(json.dumps(facts_of(context)))
        assert "lists" not in facts
        assert context_of(facts, lists=lists) == context

    def test_nobody_and_no_country_survive(self) -> None:
        assert context_of(facts_of(Context("", None))) == Context("", None)

    def test_lists_are_bounded_and_unknown_names_dropped(self) -> None:
        facts = facts_of(Context("1.1.1.1", person=Person(groups=tuple(map(str, range(9999))))))
        assert len(facts["person"]["groups"]) == MAX_LIST
        assert context_of({**facts, "later": 1}).ip == "1.1.1.1"

    @pytest.mark.parametrize("facts", [{"person": "x", "ip": ""}, {"person": None}, {"ip": "", "external": [1]}])
    def test_other_shapes_are_refused(self, facts: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match="of a decision"):
            context_of(facts)


class TestRecord:
    def test_a_decision_keeps_trace_facts_and_version(self, cast: Cast) -> None:
        group = create_group(cast.widgetcorp, actor=ACTOR, name="Staff", include=[email_rule("alice@widgetcorp.test")])
        application = make_application(cast.widgetcorp, include=[{"group": {"id": str(group.pk)}}], authority=False)
        session = make_session(cast.widgetcorp, groups=["engineers"], claims={"secret_claim": "CANARY"})
        first = connect(application, session, "ray-1")
        policy = application.policy_links.get().policy
        assert first.allowed
        assert first.rules_version == rules_version(*load_rules(application))
        assert first.trace[0]["policy_id"] == str(policy.pk)
        assert first.trace[0]["version"] == policy.updated_at.isoformat()
        leaf = first.trace[2]
        assert (leaf["selector"], leaf["actual"], leaf["verdict"], leaf["via"]) == (
            "email",
            "alice@widgetcorp.test",
            "match",
            ["Staff"],
        )
        assert first.facts["person"]["groups"] == ["engineers"]
        assert first.facts["ip"] == CLIENT_IP
        assert "CANARY" not in str(first.facts)
        update_group(group, actor=ACTOR, include=[email_rule("bob@widgetcorp.test")])
        second = connect(application, session, "ray-2")
        assert not second.allowed
        assert second.rules_version not in {"", first.rules_version}
        update_policy(policy, actor=ACTOR, name="Renamed")
        assert connect(application, session, "ray-3").rules_version not in {first.rules_version, second.rules_version}

    def test_a_refusal_after_the_policies_keeps_their_trace_but_no_facts(self, cast: Cast) -> None:
        application = make_application(cast.widgetcorp, authority=False, bastion_destinations=["10.0.0.1:22"])
        answer = as_json(
            authorize_request(
                AuthorizeRequest(
                    ray_id="ray-1",
                    hostname=HOSTNAME,
                    path="/",
                    client_ip=CLIENT_IP,
                    token=app_token(application, make_session(cast.widgetcorp)),
                    token_source="header",
                    websocket=True,
                    destination="192.168.0.1:22",
                )
            )
        )
        entry = AccessRequest.objects.get()
        assert answer["outcome"] == "deny"
        assert (entry.allowed, entry.facts) == (False, {})
        assert entry.trace and entry.rules_version

    def test_ac_86_policies_that_change_while_they_are_read_are_read_again(
        self, cast: Cast, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        group = Group.objects.create(organization=cast.widgetcorp, name="g", include=[email_rule("a@x.test")])
        application = make_application(cast.widgetcorp, include=[{"group": {"id": str(group.pk)}}], authority=False)
        original, edits = decisions._load_groups, []

        def edited_meanwhile(app: Application) -> Any:
            if len(edits) < 1:
                policy = Policy.objects.get()
                policy.name = f"edit {len(edits)}"
                policy.save()
                edits.append(policy.name)
            return original(app)

        monkeypatch.setattr(decisions, "_load_groups", edited_meanwhile)
        policies, _ = load_rules(application)
        assert policies[0].name == "edit 0"
        edits_forever: list[int] = []

        def always(app: Application) -> Any:
            edits_forever.append(1)
            Policy.objects.get().save()
            return original(app)

        monkeypatch.setattr(decisions, "_load_groups", always)
        with pytest.raises(RulesInMotion):
            load_rules(application)
        session = make_session(cast.widgetcorp)
        entry = connect(application, session, "ray-9")
        assert (entry.allowed, entry.reason) == (False, "policy_error")

    def test_reading_rules_costs_three_queries_at_most(self, cast: Cast) -> None:
        group = Group.objects.create(organization=cast.widgetcorp, name="g", include=[email_rule("a@x.test")])
        application = make_application(cast.widgetcorp, include=[{"group": {"id": str(group.pk)}}], authority=False)
        load_rules(application)  # and one more when a group was edited since the last time
        with CaptureQueriesContext(connection) as queries:
            load_rules(application)
        assert len(queries) == 3


def test_the_denied_page_names_what_was_missing_and_nothing_else(cast: Cast) -> None:
    """Reason in plain words and a reference; the policy's wishes stay with the admin, who finds them by it."""
    pin_provider(cast.widgetcorp)
    application = make_application(
        cast.widgetcorp, include=[email_rule("the-boss@widgetcorp.test")], authority=False, name="Vault"
    )
    policy = application.policy_links.get().policy
    update_policy(policy, actor=ACTOR, name="Bosses only")
    browser = EdgeBrowser()
    page = text_of(log_in_with_pin(browser, start_at_application(browser, application), "eve@people.test"))
    entry = AccessRequest.objects.get()
    assert "Your e-mail address (eve@people.test) is not on this application" in page
    assert entry.ray_id in page
    for secret in ("the-boss", "Bosses only", entry.rules_version, str(policy.pk)):
        assert secret not in page
    client = login(cast.alice)
    listing = shown(client, f"{reverse('access_log', args=['widgetcorp'])}?q={entry.ray_id}")
    address = reverse("access_log_entry", args=["widgetcorp", entry.pk])
    assert address in listing
    detail = shown(client, address)
    for told in ("the-boss@widgetcorp.test", "Bosses only", "eve@people.test", entry.rules_version):
        assert told in detail
