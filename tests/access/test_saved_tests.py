"""Saved tests: pages, and how they hold back changes of policies, groups and applications."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from access.actions.applications import update_application
from access.actions.groups import create_group, update_group
from access.actions.policies import (
    attach_policy,
    create_policy,
    delete_policy,
    detach_policy,
    reorder_policies,
    update_policy,
)
from access.actions.saved_tests import MAX_TESTS, create_saved_test
from access.models import Application, Group, Policy, SavedTest
from access.questions import Question
from access.saved_tests import SavedTestsFailed, run_application
from accounts.errors import DomainError
from tests.access.makers import ACTOR, email_rule, make_application, make_provider, make_session
from tests.controlplane.api_kit import make_api
from tests.factories import Cast
from tests.pages_kit import event_names, last_event, login, rows_of, shown, text_of

ALICE = "alice@widgetcorp.test"
REASON = "Moving to the new directory tonight"


@pytest.fixture
def application(cast: Cast) -> Application:
    return make_application(cast.widgetcorp, include=[email_rule(ALICE)], authority=False)


@pytest.fixture
def own(application: Application) -> Policy:
    return application.policy_links.get().policy


@pytest.fixture
def tests(cast: Cast, application: Application) -> list[SavedTest]:
    """alice must get in, contractors must not."""
    make_session(cast.widgetcorp, ALICE)
    return [
        create_saved_test(
            application,
            actor=ACTOR,
            name="Alice gets in",
            question=Question(identity=ALICE, country="PT"),
            expected="allow",
        ),
        create_saved_test(
            application,
            actor=ACTOR,
            name="Contractors stay out",
            question=Question(who="typed", email="carl@contractors.test", groups=["contractors"]),
            expected="deny",
        ),
    ]


@pytest.fixture
def alice(cast: Cast) -> Client:
    return login(cast.alice)


def url(name: str, *args: object) -> str:
    return reverse(name, args=["widgetcorp", *args])


@pytest.mark.usefixtures("tests")
class TestGuard:
    def test_a_good_change_passes(self, cast: Cast, own: Policy) -> None:
        update_policy(own, actor=ACTOR, include=[email_rule(ALICE), email_rule("bob@widgetcorp.test")])
        event = last_event(cast.widgetcorp)
        assert event.name == "access.policy.updated"
        assert "override_reason" not in (event.new or {})

    def test_every_way_to_break_them_is_refused_and_rolled_back(
        self, cast: Cast, application: Application, own: Policy
    ) -> None:
        organization = cast.widgetcorp
        reusable = create_policy(
            organization, actor=ACTOR, name="Block alice", decision="deny", include=[email_rule(ALICE)]
        )
        wide = create_policy(organization, actor=ACTOR, name="Wide", decision="allow", include=[{"everyone": {}}])
        before = rows_of(organization)
        breaking: list[Any] = [
            lambda **extra: update_policy(own, actor=ACTOR, include=[email_rule("bob@widgetcorp.test")], **extra),
            lambda **extra: attach_policy(application, wide, actor=ACTOR, **extra),
            lambda **extra: create_policy(
                organization,
                actor=ACTOR,
                name="Contractors too",
                decision="allow",
                include=[{"email_domain": {"domain": "contractors.test"}}],
                application=application,
                **extra,
            ),
            lambda **extra: update_application(application, actor=ACTOR, policies=[reusable], **extra),
            lambda **extra: delete_policy(own, actor=ACTOR, **extra),
        ]
        for change in breaking:
            with pytest.raises(SavedTestsFailed) as refused:
                change()
            assert "override_reason" in refused.value.fields
            assert rows_of(organization) == before
        breaking[0](override_reason=f"  {REASON} ")
        event = last_event(organization)
        assert event.new is not None
        assert (event.new["override_reason"], event.new["overridden_tests"]) == (REASON, ["Alice gets in"])

    def test_order_and_detaching_are_guarded(self, cast: Cast, application: Application, own: Policy) -> None:
        block = create_policy(
            cast.widgetcorp, actor=ACTOR, name="Block alice", decision="deny", include=[email_rule(ALICE)]
        )
        attach_policy(application, block, actor=ACTOR)
        with pytest.raises(SavedTestsFailed):
            reorder_policies(application, [block.pk, own.pk], actor=ACTOR)
        reorder_policies(application, [block.pk, own.pk], actor=ACTOR, override_reason=REASON)
        assert (last_event(cast.widgetcorp).new or {})["override_reason"] == REASON
        detach_policy(application, block, actor=ACTOR)  # repairs it, so nothing holds it back

    def test_groups_count_however_deep(self, cast: Cast, application: Application, own: Policy) -> None:
        inner = create_group(cast.widgetcorp, actor=ACTOR, name="inner", include=[email_rule(ALICE)])
        outer = create_group(cast.widgetcorp, actor=ACTOR, name="outer", include=[{"group": {"id": str(inner.pk)}}])
        update_policy(own, actor=ACTOR, include=[{"group": {"id": str(outer.pk)}}])
        with pytest.raises(SavedTestsFailed, match="Alice gets in"):
            update_group(inner, actor=ACTOR, include=[email_rule("bob@widgetcorp.test")])
        assert Group.objects.get(pk=inner.pk).include == [email_rule(ALICE)]
        update_group(inner, actor=ACTOR, include=[email_rule("bob@widgetcorp.test")], override_reason=REASON)
        event = last_event(cast.widgetcorp)
        assert (event.name, (event.new or {})["override_reason"]) == ("access.group.updated", REASON)
        unrelated = create_group(cast.widgetcorp, actor=ACTOR, name="unrelated", include=[{"everyone": {}}])
        update_group(unrelated, actor=ACTOR, include=[email_rule("bob@widgetcorp.test")])

    def test_what_cannot_be_evaluated_fails_both_ways(self, application: Application, own: Policy) -> None:
        Policy.objects.filter(pk=own.pk).update(include=[{"unheard_of": {}}])
        assert [run.passed for run in run_application(application)] == [False, False]

    def test_a_person_who_is_gone_fails_the_test(self, cast: Cast, application: Application) -> None:
        cast.widgetcorp.identities.all().delete()
        runs = run_application(application)
        assert [run.passed for run in runs] == [False, True]
        assert "cannot be asked" in runs[0].message

    @pytest.mark.parametrize("reason", ["x" * 501, "line\nbreak"])
    def test_reasons_are_checked(self, own: Policy, reason: str) -> None:
        with pytest.raises(DomainError):
            update_policy(own, actor=ACTOR, include=[email_rule("b@x.test")], override_reason=reason)

    def test_the_api_takes_the_reason_as_a_header(self, cast: Cast, application: Application, own: Policy) -> None:
        api = make_api(cast.widgetcorp)
        path = f"{api.account}/access/apps/{application.pk}/policies/{own.pk}"
        body = {"name": "n", "decision": "allow", "include": [email_rule("bob@widgetcorp.test")]}
        error = api.refused("PUT", path, body, status=409)
        assert "Alice gets in" in error["message"]
        answer = api.send("PUT", path, body, **{"Sallyport-Override-Reason": REASON})
        assert answer.status_code == 200
        assert answer.json()["messages"] == []
        assert (last_event(cast.widgetcorp).new or {})["override_reason"] == REASON


class TestPages:
    def test_add_see_change_delete(self, cast: Cast, alice: Client, application: Application) -> None:
        make_session(cast.widgetcorp, ALICE)
        form = {
            "name": "Alice gets in",
            "expected": "allow",
            "who": "identity",
            "identity": ALICE,
            "country": "Portugal",
        }
        answer = alice.post(url("application_test_add", application.pk), form)
        assert answer["Location"] == url("application_tests", application.pk)
        test = SavedTest.objects.get()
        assert test.question["country"] == "PT"
        assert last_event(cast.widgetcorp).name == "access.saved_test.created"
        page = shown(alice, url("application_tests", application.pk))
        assert "alice@widgetcorp.test from Portugal" in page
        assert "holds" in page
        edit = url("application_test_edit", application.pk, test.pk)
        assert f'value="{ALICE}"' in shown(alice, edit)
        alice.post(edit, {**form, "expected": "deny"})
        page = shown(alice, url("application_tests", application.pk))
        assert "1 test fails right now" in page
        alice.post(url("application_test_delete", application.pk, test.pk))
        assert not SavedTest.objects.exists()
        assert event_names(cast.widgetcorp)[-2:] == ["access.saved_test.updated", "access.saved_test.deleted"]

    @pytest.mark.parametrize(
        "wrong",
        [
            {"name": ""},
            {"expected": "maybe"},
            {"identity": "nobody@nowhere.test"},
            {"who": "service_token"},
            {"who": "typed", "claims": "no equals sign"},
            {"who": "typed", "ip": "300.1.1.1"},
            {"country": "Atlantis"},
        ],
    )
    def test_refusals_keep_the_input(
        self, cast: Cast, alice: Client, application: Application, wrong: dict[str, str]
    ) -> None:
        make_session(cast.widgetcorp, ALICE)
        form = {"name": "A test", "expected": "allow", "who": "identity", "identity": ALICE} | wrong
        answer = alice.post(url("application_test_add", application.pk), form)
        assert answer.status_code == 422
        assert 'role="alert"' in text_of(answer)
        assert not SavedTest.objects.exists()

    def test_names_are_unique_and_tests_bounded(self, application: Application, tests: list[SavedTest]) -> None:
        with pytest.raises(DomainError, match="already"):
            create_saved_test(
                application, actor=ACTOR, name="Alice gets in", question=Question(who="nobody"), expected="deny"
            )
        SavedTest.objects.bulk_create(
            SavedTest(organization=application.organization, application=application, name=f"t{n}", question={})
            for n in range(MAX_TESTS - 2)
        )
        with pytest.raises(DomainError, match="at most"):
            create_saved_test(application, actor=ACTOR, name="more", question=Question(who="nobody"), expected="deny")

    def test_a_refused_edit_asks_for_a_reason_and_takes_it(
        self, cast: Cast, alice: Client, application: Application, own: Policy, tests: list[SavedTest]
    ) -> None:
        edit = url("application_policy_edit", application.pk, own.pk)
        assert 'type="hidden" name="override_reason"' in shown(alice, edit)
        form = {
            "name": "Bob",
            "decision": "allow",
            "rule-0-list": "include",
            "rule-0-selector": "email",
            "rule-0-value": "bob@widgetcorp.test",
            "step": "save",
        }
        answer = alice.post(edit, form)
        page = text_of(answer)
        assert answer.status_code == 422
        assert "Alice gets in" in page
        assert 'type="text" name="override_reason"' in page
        assert Policy.objects.get(pk=own.pk).name != "Bob"
        assert alice.post(edit, {**form, "override_reason": REASON}).status_code == 302
        assert (last_event(cast.widgetcorp).new or {})["override_reason"] == REASON

    def test_login_methods_are_guarded(
        self, cast: Cast, alice: Client, application: Application, tests: list[SavedTest]
    ) -> None:
        """Alice's login method is taken away: the policies would let her in, the application no longer does."""
        other = make_provider(cast.widgetcorp, "Elsewhere")
        page = url("application_authentication_edit", application.pk)
        sent = {"allowed_provider_ids": [str(other.pk)]}
        response = alice.post(page, sent)
        assert response.status_code == 422
        assert "login_method_not_allowed" in text_of(response)
        assert "Do it although saved tests fail" in text_of(response)
        assert not application.allowed_providers.exists()
        assert alice.post(page, {**sent, "override_reason": REASON}).status_code == 302
        assert list(application.allowed_providers.all()) == [other]
        assert (last_event(cast.widgetcorp).new or {})["overridden_tests"] == ["Alice gets in"]

    def test_moving_and_deleting_ask_too(
        self, cast: Cast, alice: Client, application: Application, own: Policy, tests: list[SavedTest]
    ) -> None:
        block = create_policy(
            cast.widgetcorp,
            actor=ACTOR,
            name="Block alice",
            decision="deny",
            include=[email_rule(ALICE)],
            application=application,
        )
        move = url("application_policy_move", application.pk, block.pk)
        page = alice.post(move, {"direction": "up"})
        assert page.status_code == 422
        assert 'name="direction" value="up"' in text_of(page)
        assert alice.post(move, {"direction": "up", "override_reason": REASON}).status_code == 302
        first = application.policy_links.order_by("precedence").first()
        assert first is not None
        assert first.policy_id == block.pk
        delete = url("application_policy_delete", application.pk, own.pk)
        assert alice.post(delete).status_code == 422
        assert alice.post(delete, {"override_reason": REASON}).status_code == 302
        assert not Policy.objects.filter(pk=own.pk).exists()
