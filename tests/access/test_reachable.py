"""The launcher asks about all applications at once: the same answers as one decision each, edits seen at once."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.utils import timezone

from access.decisions import decide
from access.evaluation import QUESTIONS
from access.facts import Asker
from access.models import Application, ApplicationPolicy, Group, Policy
from access.reachable import candidates, reachable
from access.views.launcher import TILES_PER_PAGE
from accounts.models import AccessSession
from tests.access.edge_client import EdgeBrowser
from tests.access.login_flows import make_application
from tests.access.test_launcher import HOME, browser_of
from tests.access.test_login_hand_over import EMAIL, make_session
from tests.factories import Cast

IP = "203.0.113.7"
_MINE, _OTHERS = {"email": {"email": EMAIL}}, {"email": {"email": "bob@corp.test"}}


@pytest.fixture
def session(cast: Cast) -> AccessSession:
    return make_session(cast.widgetcorp, ip=IP)


def names(session: AccessSession) -> set[str]:
    found = reachable(candidates(session), session=session, ip=IP, now=timezone.now())
    return set(Application.objects.filter(pk__in=list(found)).values_list("name", flat=True))


def asked_one_by_one(session: AccessSession) -> Iterator[str]:
    for application in Application.objects.select_related("organization"):
        decision = decide(application, Asker(IP, timezone.now(), session))
        if decision.allowed or decision.reason in QUESTIONS:
            yield application.name


def test_the_answers_are_those_of_one_decision_each(cast: Cast, session: AccessSession) -> None:
    group = Group.objects.create(organization=cast.widgetcorp, name="g", include=[_MINE])
    outer = Group.objects.create(organization=cast.widgetcorp, name="o", include=[{"group": {"id": str(group.pk)}}])
    in_group: Any = [{"group": {"id": str(outer.pk)}}]
    policies: dict[str, list[dict[str, Any]]] = {
        "mine": [{"include": [_MINE]}],
        "others": [{"include": [_OTHERS]}],
        "nobody": [],
        "by group": [{"include": in_group}],
        "blocked first": [{"include": in_group, "decision": "deny"}, {"include": [_MINE]}],
        "blocked later": [{"include": [_MINE]}, {"include": in_group, "decision": "deny"}],
        "open": [{"include": [{"everyone": {}}], "decision": "bypass"}],
        "machines": [{"include": [{"everyone": {}}], "decision": "non_identity"}],
        "excluded": [{"include": [_MINE], "exclude": in_group}],
        "unreadable rule": [{"include": [_MINE, {"planet": {}}]}],
        "gone group": [{"include": [_MINE, {"group": {"id": "gone"}}]}],
        "purpose": [{"include": [_MINE], "purpose_justification_required": True}],
        "approval": [{"include": [_MINE], "approval_required": True}],
        "factor": [{"include": [_MINE], "mfa_config": {"allowed_authenticators": ["totp"]}}],
        "unreadable policy": [{"include": [_MINE], "ssh": {"usernames": 3}}],
    }
    for number, (name, rows) in enumerate(policies.items()):
        application = Application.objects.create(
            organization=cast.widgetcorp, name=name, hostname=f"a{number}.widgetcorp.test"
        )
        for place, row in enumerate(rows, start=1):
            policy = Policy.objects.create(organization=cast.widgetcorp, name=name, **{"decision": "allow", **row})
            ApplicationPolicy.objects.create(application=application, policy=policy, precedence=place)
    expected = {"mine", "by group", "blocked later", "open", "purpose", "approval", "factor"}
    assert names(session) == set(asked_one_by_one(session)) == expected


def test_every_edit_counts_at_once(cast: Cast, session: AccessSession) -> None:
    """Rules are kept between requests; an edit that leaves the time stamp alone must be seen all the same."""
    group = Group.objects.create(organization=cast.widgetcorp, name="g", include=[_OTHERS])
    make_application(cast.widgetcorp, name="direct")
    make_application(cast.widgetcorp, name="by group", hostname="b.widgetcorp.test")
    in_group = [{"group": {"id": str(group.pk)}}]
    Policy.objects.filter(application_links__application__name="by group").update(include=in_group)
    for _ in range(2):
        assert names(session) == set(asked_one_by_one(session)) == {"direct"}
    Group.objects.update(include=[_MINE])
    Policy.objects.filter(application_links__application__name="direct").update(include=[_OTHERS])
    assert names(session) == set(asked_one_by_one(session)) == {"by group"}


def test_applications_beyond_the_first_page_have_a_page(cast: Cast, session: AccessSession) -> None:
    policy = Policy.objects.create(organization=cast.widgetcorp, name="Everybody", decision="allow", include=[_MINE])
    made = Application.objects.bulk_create(
        Application(organization=cast.widgetcorp, name=f"App {number:03}", hostname=f"a{number}.widgetcorp.test")
        for number in range(TILES_PER_PAGE + 5)
    )
    ApplicationPolicy.objects.bulk_create(ApplicationPolicy(application=a, policy=policy, precedence=1) for a in made)
    browser = browser_of(session)
    first, second = _page(browser, ""), _page(browser, "?page=2")
    assert len(re.findall("App [0-9]+", first)) == TILES_PER_PAGE and 'rel="next"' in first
    assert sorted(set(re.findall("App [0-9]+", second))) == [f"App {TILES_PER_PAGE + n:03}" for n in range(5)]
    assert 'rel="prev"' in second and 'rel="next"' not in second
    assert "App 064" in _page(browser, "?q=app+064") and "no more applications" in _page(browser, "?page=9")


def _page(browser: EdgeBrowser, query: str) -> str:
    return browser.get(f"{HOME}{query}").content.decode()
