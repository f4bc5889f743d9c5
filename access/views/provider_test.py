"""The team-domain half of a login method's test (accounts.actions.provider_tests): begin it, bring its result home."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpResponse
from django.urls import reverse
from django.utils import timezone

from access.login_links import LoginContext
from access.views.arrival import start_link
from access.views.public import PublicRequest, browser_of, keep_browser, public_page, redirect_to, show, visitor
from accounts.actions.provider_tests import (
    claim_provider_test,
    error_document,
    finish_provider_test,
    open_test_of,
    person_document,
)
from accounts.models import IdentityProvider, LoginAttempt, ProviderTest
from accounts.providers.base import LoginFailed, Person
from accounts.ratelimits import LOGIN_START_BY_ADDRESS, spend


@public_page("GET")
def begin_test(request: PublicRequest, ticket: str) -> HttpResponse:
    """Binds the test to this browser and offers the way to the provider, as the login page would."""
    spend(LOGIN_START_BY_ADDRESS, request.client_ip)
    browser = browser_of(request)
    test = claim_provider_test(request.organization, ticket, browser=browser, now=timezone.now())
    signed = LoginContext(test_id=str(test.id)).sign()
    is_pin = test.provider.type == IdentityProvider.Type.ONE_TIME_PIN
    page = {
        "provider": test.provider,
        "context": signed,
        "is_pin": is_pin,
        "link": "" if is_pin else start_link(test.provider, signed),
    }
    response = show(request, "provider_test.html", page)
    keep_browser(response, browser)
    response.csp_form_action = _dashboard_origin()  # type: ignore[attr-defined]  # the PIN form ends there
    return response


def show_admin(request: PublicRequest, attempt: LoginAttempt, person: Person) -> HttpResponse | None:
    """None: no test, go on and log the person in. Otherwise the result is kept and nobody is logged in."""
    test = open_test_of(attempt)
    if test is None:
        return None
    finish_provider_test(test, result=person_document(person), actor=visitor(request))
    return _to_dashboard(test)


def tell_admin(request: PublicRequest, attempt: LoginAttempt, error: LoginFailed) -> HttpResponse | None:
    """The same for a login that failed; None also when the test is not this browser's: then the error is the page."""
    try:
        test = open_test_of(attempt)
        if test is None:
            return None
        finish_provider_test(test, result=error_document(error), actor=visitor(request))
    except LoginFailed:
        return None
    return _to_dashboard(test)


def _to_dashboard(test: ProviderTest) -> HttpResponse:
    arguments = [test.organization.team_name, test.provider_id, test.id]
    path = reverse("login_method_test_result", args=arguments, urlconf="controlplane.urls")
    return redirect_to(f"{settings.DASHBOARD_URL.rstrip('/')}{path}", status=303)


def _dashboard_origin() -> str:
    return settings.DASHBOARD_URL.rstrip("/")
