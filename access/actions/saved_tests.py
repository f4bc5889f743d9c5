"""Saved tests: create, change, delete."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

from django.db import IntegrityError, transaction

from access import events
from access.actions.groups import checked_name
from access.actions.policies import lock_application
from access.models import Application, SavedTest
from access.questions import Question, check
from accounts import audit
from accounts.actions.deletions import keep_deleted
from accounts.actor import Actor
from accounts.errors import Conflict, InvalidInput
from accounts.models import DeletedObject

MAX_TESTS = 100


@transaction.atomic
def create_saved_test(
    application: Application,
    *,
    actor: Actor,
    name: str,
    question: Question,
    expected: str,
    key: UUID | None = None,
) -> SavedTest:
    """It may fail from the start: whoever writes the test before the policy is right to. `key`: the id it had, when
    its deletion is undone."""
    application = lock_application(application.organization, application)
    if application.saved_tests.count() >= MAX_TESTS:
        raise Conflict(f"An application has at most {MAX_TESTS} saved tests.", code="too_many_tests")
    test = SavedTest(pk=key or uuid4(), organization=application.organization, application=application)
    _set(test, name, question, expected)
    audit.record(
        events.SAVED_TEST_CREATED, organization=application.organization, actor=actor, target=test, new=_facts(test)
    )
    return test


@transaction.atomic
def update_saved_test(test: SavedTest, *, actor: Actor, name: str, question: Question, expected: str) -> SavedTest:
    test = (
        SavedTest.objects.for_organization(test.organization)
        .select_for_update(of=("self",), no_key=True)
        .get(pk=test.pk)
    )
    old = _facts(test)
    _set(test, name, question, expected)
    audit.record(
        events.SAVED_TEST_UPDATED,
        organization=test.organization,
        actor=actor,
        target=test,
        old=old,
        new=_facts(test),
    )
    return test


@transaction.atomic
def delete_saved_test(test: SavedTest, *, actor: Actor) -> DeletedObject:
    test = (
        SavedTest.objects.for_organization(test.organization)
        .select_for_update(of=("self",), no_key=True)
        .get(pk=test.pk)
    )
    kept = keep_deleted(
        "saved_test", test.organization, key=test.pk, name=test.name, document=_facts(test), actor=actor
    )
    audit.delete(test)
    audit.record(events.SAVED_TEST_DELETED, organization=test.organization, actor=actor, target=test, old=_facts(test))
    return kept


def _set(test: SavedTest, name: str, question: Question, expected: str) -> None:
    if expected not in SavedTest.Expected.values:
        raise InvalidInput("A test expects allow or deny.", fields={"expected": "allow or deny"})
    test.name = checked_name(name)
    test.question = check(test.organization, question).as_json()
    test.expected = expected
    try:
        with transaction.atomic():
            test.save()
    except IntegrityError as error:
        message = f'This application has a test named "{test.name}" already.'
        raise Conflict(message, code="test_name_taken", fields={"name": message}) from error


def _facts(test: SavedTest) -> dict[str, Any]:
    return {
        "name": test.name,
        "application": str(test.application_id),
        "question": test.question,
        "expected": test.expected,
    }
