"""Saved tests hold back edits of lists, and decide about external evaluation without calling anybody."""

from __future__ import annotations

from typing import Any

import pytest

from access.actions.groups import create_group
from access.actions.lists import create_list, update_list
from access.actions.policies import update_policy
from access.actions.saved_tests import create_saved_test
from access.models import AccessList, Application, Policy, SavedTest
from access.questions import Question
from access.saved_tests import SavedTestsFailed, run_application
from accounts.errors import InvalidInput
from tests.access.makers import ACTOR, make_application
from tests.access.test_saved_tests import ALICE, REASON, url
from tests.controlplane.api_kit import make_api
from tests.factories import Cast
from tests.pages_kit import last_event, login, shown, text_of

BOB = "bob@widgetcorp.test"


@pytest.fixture
def people(cast: Cast) -> AccessList:
    items = [{"value": ALICE}, {"value": BOB}]
    return create_list(cast.widgetcorp, actor=ACTOR, name="People", type="EMAIL", items=items)


@pytest.fixture
def application(cast: Cast, people: AccessList) -> Application:
    """A policy, a group within a group, the list; and a test that Alice gets in."""
    inner = create_group(cast.widgetcorp, actor=ACTOR, name="in", include=[{"email_list": {"id": str(people.pk)}}])
    outer = create_group(cast.widgetcorp, actor=ACTOR, name="out", include=[{"group": {"id": str(inner.pk)}}])
    made = make_application(cast.widgetcorp, include=[{"group": {"id": str(outer.pk)}}], authority=False)
    question = Question(who="typed", email=ALICE)
    create_saved_test(made, actor=ACTOR, name="Alice gets in", question=question, expected="allow")
    return made


def test_an_edit_of_a_list_runs_the_tests_of_all_that_use_it(
    cast: Cast, application: Application, people: AccessList
) -> None:
    update_list(people, actor=ACTOR, remove=[BOB])
    with pytest.raises(SavedTestsFailed, match="Alice gets in"):
        update_list(people, actor=ACTOR, remove=[ALICE])
    people.refresh_from_db()
    assert [item["value"] for item in people.items] == [ALICE]
    update_list(people, actor=ACTOR, items=[], override_reason=REASON)
    event = last_event(cast.widgetcorp)
    assert event.name == "access.list.updated"
    assert event.new is not None
    assert (event.new["override_reason"], event.new["overridden_tests"]) == (REASON, ["Alice gets in"])


def test_lists_that_nothing_reaches_are_free(
    cast: Cast, application: Application, django_assert_max_num_queries: Any
) -> None:
    free = create_list(cast.widgetcorp, actor=ACTOR, name="Free", type="EMAIL", items=[{"value": ALICE}])
    update_list(free, actor=ACTOR, items=[])
    SavedTest.objects.all().delete()
    # 13, and up to two more when what the process keeps of the rules has to be read again.
    with django_assert_max_num_queries(16):
        update_list(free, actor=ACTOR, items=[{"value": BOB}])


def test_the_page_asks_for_the_reason(cast: Cast, application: Application, people: AccessList) -> None:
    alice, edit = login(cast.alice), url("list_edit", people.pk)
    assert 'type="hidden" name="override_reason"' in shown(alice, edit)
    form = {"name": "People", "items": BOB}
    refused = alice.post(edit, form)
    assert refused.status_code == 422
    assert "Alice gets in" in text_of(refused)
    assert 'type="text" name="override_reason"' in text_of(refused)
    assert alice.post(edit, {**form, "override_reason": REASON}).status_code == 302
    assert (last_event(cast.widgetcorp).new or {})["override_reason"] == REASON


@pytest.mark.parametrize(
    ("method", "body"), [("PATCH", {"remove": [ALICE]}), ("PUT", {"name": "People", "items": [{"value": BOB}]})]
)
def test_the_api_takes_the_reason_as_a_header(
    cast: Cast, application: Application, people: AccessList, method: str, body: dict[str, Any]
) -> None:
    api = make_api(cast.widgetcorp)
    path = f"{api.account}/gateway/lists/{people.pk}"
    assert "Alice gets in" in api.refused(method, path, body, status=409)["message"]
    assert api.send(method, path, body, **{"Sallyport-Override-Reason": REASON}).status_code == 200
    assert (last_event(cast.widgetcorp).new or {})["override_reason"] == REASON


# --- External evaluation ----------------------------------------------------------------------------------------
RULE = {
    "external_evaluation": {"evaluate_url": "https://eval.example.test/", "keys_url": "https://eval.example.test/k"}
}


@pytest.fixture
def guarded(cast: Cast) -> Application:
    return make_application(cast.widgetcorp, include=[RULE], authority=False)


@pytest.mark.parametrize(
    ("external", "who", "expected", "passes"),
    [
        ("allow", "typed", "allow", True),
        ("allow", "typed", "deny", False),
        ("deny", "typed", "deny", True),
        ("deny", "typed", "allow", False),
        ("", "typed", "allow", False),
        ("", "typed", "deny", False),
        # Nobody is asked about nobody, whatever the test says.
        ("allow", "nobody", "allow", False),
    ],
)
def test_the_test_says_what_the_external_service_answers(
    guarded: Application, external: str, who: str, expected: str, passes: bool
) -> None:
    question = Question(who=who, email=ALICE if who == "typed" else "", external=external)
    create_saved_test(guarded, actor=ACTOR, name="t", question=question, expected=expected)
    (run,) = run_application(guarded)
    assert run.passed is passes, run.message
    assert ("say in the test what it answers" in run.message) is (external == "")


def test_it_holds_back_an_edit(guarded: Application) -> None:
    question = Question(who="typed", email=ALICE, external="deny")
    create_saved_test(guarded, actor=ACTOR, name="Denied outside", question=question, expected="deny")
    policy: Policy = guarded.policy_links.get().policy
    with pytest.raises(SavedTestsFailed, match="Denied outside"):
        update_policy(policy, actor=ACTOR, include=[RULE, {"everyone": {}}])


def test_the_form_keeps_the_answer(cast: Cast, guarded: Application) -> None:
    alice = login(cast.alice)
    form = {"name": "t", "expected": "deny", "who": "typed", "email": ALICE, "external": "deny"}
    assert alice.post(url("application_test_add", guarded.pk), form).status_code == 302
    test = SavedTest.objects.get()
    assert test.question["external"] == "deny"
    assert "(external evaluation answers deny)" in shown(alice, url("application_tests", guarded.pk))
    page = shown(alice, url("application_test_edit", guarded.pk, test.pk))
    assert '<option value="deny" selected>' in page
    with pytest.raises(InvalidInput):
        create_saved_test(
            guarded, actor=ACTOR, name="u", question=Question(who="nobody", external="maybe"), expected="deny"
        )
