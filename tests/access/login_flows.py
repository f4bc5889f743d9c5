"""Logins as a person does them, for tests of everything that begins with one."""

from __future__ import annotations

import re
from urllib.parse import parse_qs, urlsplit

from django.core import mail
from django.http import HttpResponse

from access.login_links import app_session_cookie, login_url, new_app_session
from access.models import Application, ApplicationPolicy, Policy
from accounts.models import IdentityProvider, Organization
from dataplane.wire.names import COOKIE_APP_SESSION
from tests.access.edge_client import HOST, EdgeBrowser


def make_application(
    organization: Organization, *, hostname: str = HOST, emails: tuple[str, ...] = (), **fields: object
) -> Application:
    """An application that lets these e-mail addresses in (none: everyone)."""
    application = Application.objects.create(
        organization=organization, name=str(fields.pop("name", "SSH bastion")), hostname=hostname, **fields
    )
    include = [{"email": {"email": email}} for email in emails] or [{"everyone": {}}]
    policy = Policy.objects.create(organization=organization, name="Allow", decision="allow", include=include)
    ApplicationPolicy.objects.create(application=application, policy=policy, precedence=1)
    return application


def pin_provider(organization: Organization) -> IdentityProvider:
    found, _ = IdentityProvider.objects.get_or_create(organization=organization, type="onetimepin", name="One-time PIN")
    return found


def start_at_application(browser: EdgeBrowser, application: Application, path: str = "/") -> str:
    """What the edge does for a visitor without a token: a cookie on the application host, and this login URL."""
    value = new_app_session()
    assert app_session_cookie(value).startswith(f"{COOKIE_APP_SESSION}={value}; ")
    browser.set_cookie(application.hostname, COOKIE_APP_SESSION, value)
    return login_url(application, hostname=application.hostname, redirect_path=path, app_session=value)


def last_pin() -> str:
    found = re.search(r"^ {4}([0-9]{6})$", str(mail.outbox[-1].body), re.M)
    assert found, mail.outbox[-1].body
    return found.group(1)


def ask_for_pin(browser: EdgeBrowser, url: str, email: str) -> tuple[str, HttpResponse]:
    """The PIN page's URL and the page, after the form of the login page at `url`."""
    page = browser.get(url)
    answer = browser.submit(url, page, containing='name="email"', email=email)
    assert answer.status_code == 303, answer.content.decode()
    location = f"https://{urlsplit(url).netloc}{answer['Location']}"
    return location, browser.get(location)


def log_in_with_pin(browser: EdgeBrowser, url: str, email: str) -> HttpResponse:
    """The answer to the right PIN: a redirect onward, or the denial page."""
    location, page = ask_for_pin(browser, url, email)
    return browser.submit(location, page, containing='name="pin"', pin=last_pin())


def query_of(url: str) -> dict[str, str]:
    return {key: values[0] for key, values in parse_qs(urlsplit(url).query).items()}
