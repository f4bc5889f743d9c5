"""STAFF_REQUIRES_MFA: no page of support staff opens on a password alone."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from django.test import Client

from accounts.actions.support import request_support_session
from accounts.actor import system
from accounts.models import User
from tests.accounts.test_two_factor import activate
from tests.factories import PASSWORD, Cast
from tests.pages_kit import browser, event_names, login, text_of

PAGES = ["/staff/", "/staff/jobs/", "/staff/data/", "/staff/data/accounts/user/"]


@pytest.fixture
def sam(cast: Cast, settings: Any) -> User:
    settings.STAFF_REQUIRES_MFA = True
    user = User.objects.create_user("sam@operator.test", PASSWORD, is_staff=True)
    request_support_session(
        cast.widgetcorp,
        staff=user,
        reason="Ticket 17: nobody gets in",
        duration=timedelta(hours=1),
        actor=system("tests"),
    )
    return user


def sign_in_with_factor(user: User) -> Client:
    client = browser()
    client.post("/accounts/login/", {"login": user.email, "password": PASSWORD})
    codes = Authenticator.objects.get(user=user, type=Authenticator.Type.RECOVERY_CODES).wrap().get_unused_codes()
    assert client.post("/accounts/2fa/authenticate/", {"code": codes[0]}).status_code == 302
    return client


@pytest.mark.parametrize("page", [*PAGES, "/o/widgetcorp/access/applications/"])
def test_without_a_factor_nothing_opens(sam: User, cast: Cast, page: str) -> None:
    before = event_names(cast.widgetcorp)
    for method in ("get", "post"):
        answer = getattr(login(sam), method)(page)
        assert answer.status_code == 403
        assert "/accounts/2fa/" in text_of(answer) and "A second factor first" in text_of(answer)
    assert event_names(cast.widgetcorp) == before


@pytest.mark.parametrize("page", [*PAGES, "/o/widgetcorp/access/applications/"])
def test_a_session_from_before_shows_the_factor_first(sam: User, page: str) -> None:
    old = login(sam)
    activate(sam)
    answer = old.get(page)
    assert answer.status_code == 302
    assert answer["Location"].startswith("/accounts/2fa/reauthenticate/?next=%2F")


def test_with_the_factor_shown_everything_opens(sam: User) -> None:
    activate(sam)
    client = sign_in_with_factor(sam)
    for page in [*PAGES, "/o/widgetcorp/access/applications/"]:
        assert client.get(page).status_code == 200, page


def test_the_way_there_leads_back(sam: User) -> None:
    client = login(sam)
    activate(sam)
    place = client.get("/staff/jobs/")["Location"]
    codes = Authenticator.objects.get(user=sam, type=Authenticator.Type.RECOVERY_CODES).wrap().get_unused_codes()
    answer = client.post(place, {"code": codes[0], "next": "/staff/jobs/"})
    assert answer.status_code == 302 and answer["Location"] == "/staff/jobs/"
    assert client.get("/staff/jobs/").status_code == 200


def test_off_and_for_others_nothing_changes(sam: User, cast: Cast, settings: Any) -> None:
    assert login(cast.alice).get("/staff/").status_code == 404
    assert login(cast.alice).get("/o/widgetcorp/access/applications/").status_code == 200
    settings.STAFF_REQUIRES_MFA = False
    assert login(sam).get("/staff/").status_code == 200


def test_it_is_on_unless_turned_off() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "STAFF_REQUIRES_MFA"}
    environment["DJANGO_SETTINGS_MODULE"] = "controlplane.settings"
    asked = "from django.conf import settings; print(settings.STAFF_REQUIRES_MFA)"
    told = subprocess.run(
        [sys.executable, "-c", asked],
        env=environment,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert told.stdout.strip() == "True"
