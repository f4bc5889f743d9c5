"""Logging in at the team domain: the page, the way to an OIDC provider, and the one-time PIN."""

from __future__ import annotations

import uuid

from django.http import Http404, HttpResponse
from django.urls import reverse
from django.utils import timezone

from access import country
from access.login_links import LoginContext, read_signed, safe_path
from access.models import Application
from access.routing import find_application
from access.views.arrival import allowed_providers, application_of, login_page, proceed
from access.views.public import (
    PublicRequest,
    browser_of,
    keep_browser,
    public_page,
    redirect_to,
    show,
    start_team_session,
    team_session,
    visitor,
)
from accounts import oidc
from accounts.actions.identities import record_login
from accounts.actions.login import (
    PinResult,
    find_attempt,
    record_failed_login,
    start_oidc_login,
    start_pin_login,
    try_pin,
)
from accounts.errors import InvalidInput, NotFound
from accounts.models import IdentityProvider, LoginAttempt
from accounts.ratelimits import (
    LOGIN_START_BY_ADDRESS,
    PIN_SEND_BY_ACCOUNT,
    PIN_SEND_BY_ADDRESS,
    PIN_TRY_BY_ACCOUNT,
    PIN_TRY_BY_ADDRESS,
    spend,
)
from accounts.text import ascii_lower

CALLBACK_PATH = "/cdn-cgi/access/callback"


@public_page("GET", "HEAD")
def login(request: PublicRequest, host: str = "") -> HttpResponse:
    """`login/<application host>?kid&redirect_url&meta`: straight on with a live session, else the login page.

    The HEAD form is how a client turns its organization token into an application token (access-client.md 6.1).
    """
    context = _context_of(request, host)
    session = team_session(request, timezone.now())
    if session is not None:
        return proceed(request, session, context)
    return login_page(request, context, may_redirect=True)


@public_page("GET")
def start(request: PublicRequest) -> HttpResponse:
    """To an OIDC provider, with fresh state, nonce and PKCE challenge bound to this browser."""
    spend(LOGIN_START_BY_ADDRESS, request.client_ip)
    context = read_signed(request.GET.get("ctx", "")) or LoginContext()
    provider = _provider(request, context, request.GET.get("provider", ""))
    if provider.type == IdentityProvider.Type.ONE_TIME_PIN:
        return login_page(request, context)
    browser = browser_of(request)
    started = start_oidc_login(provider, browser=browser, return_to=context.as_dict(), actor=visitor(request))
    response = redirect_to(
        oidc.authorization_url(
            provider,
            redirect_uri=redirect_uri(request),
            state=started.state,
            nonce=started.attempt.nonce,
            code_verifier=started.code_verifier,
        )
    )
    keep_browser(response, browser)
    return response


@public_page("POST")
def request_pin(request: PublicRequest) -> HttpResponse:
    """Mails a PIN. The answer is the same for every address, let in or not."""
    context = read_signed(request.POST.get("ctx", "")) or LoginContext()
    provider = _provider(request, context, request.POST.get("provider", ""))
    if provider.type != IdentityProvider.Type.ONE_TIME_PIN:
        raise NotFound("This login method sends no PIN.")
    email = request.POST.get("email", "")[:254]
    spend(PIN_SEND_BY_ADDRESS, request.client_ip)
    spend(PIN_SEND_BY_ACCOUNT, request.organization.id, ascii_lower(email.strip()))
    browser = browser_of(request)
    try:
        started = start_pin_login(
            provider, email=email, browser=browser, return_to=context.as_dict(), actor=visitor(request)
        )
    except InvalidInput as error:
        return login_page(request, context, notice=error.message, email=email, status=400)
    response = redirect_to(reverse("public_pin", args=[started.state]), status=303)
    keep_browser(response, browser)
    return response


@public_page("GET", "HEAD", "POST")
def enter_pin(request: PublicRequest, state: str) -> HttpResponse:
    attempt = find_attempt(request.organization, state=state, browser=browser_of(request))
    if attempt is None or not attempt.email:
        raise NotFound("This login was started in another browser, or too long ago. Start again.")
    if request.method != "POST":
        return _pin_page(request, attempt)
    spend(PIN_TRY_BY_ADDRESS, request.client_ip)
    spend(PIN_TRY_BY_ACCOUNT, request.organization.id, attempt.email)
    result = try_pin(attempt, value=request.POST.get("pin", ""), now=timezone.now(), actor=visitor(request))
    if result is PinResult.WRONG:
        return _pin_page(request, attempt, notice="That code is not right. Look at the newest mail.", status=403)
    if result is PinResult.ENDED:
        notice = "That code has ended: used, older than 10 minutes, or tried too often. Get a new one."
        context = LoginContext.from_dict(attempt.return_to)
        return login_page(request, context, notice=notice, email=attempt.email, status=403)
    person = oidc.Person(
        subject=attempt.email,
        email=attempt.email,
        email_verified=True,
        name="",
        groups=[],
        claims={},
        authentication_methods=["otp"],
    )
    return finish(request, attempt, person)


def finish(request: PublicRequest, attempt: LoginAttempt, person: oidc.Person) -> HttpResponse:
    """The login succeeded at the provider: session, cookie, and on to where it was for."""
    try:
        session = record_login(
            attempt.provider,
            subject=person.subject,
            email=person.email,
            email_verified=person.email_verified,
            name=person.name,
            groups=person.groups,
            claims=person.claims,
            amr=person.authentication_methods,
            ip=request.client_ip,
            country=country.lookup(request.client_ip),
            user_agent=request.headers.get("User-Agent", ""),
            session_seconds=request.organization.session_duration_seconds,
        )
    except oidc.LoginFailed as error:
        record_failed_login(attempt, reason=error.code, actor=visitor(request))
        raise
    response = proceed(request, session, LoginContext.from_dict(attempt.return_to))
    start_team_session(response, session, now=timezone.now())
    return response


def redirect_uri(request: PublicRequest) -> str:
    return f"{request.organization.team_url}{CALLBACK_PATH}"


def _context_of(request: PublicRequest, host: str) -> LoginContext:
    """What this login is for. Without a good `meta` the login still works, by way of the application host."""
    if not host:
        return LoginContext()
    hostname = host.partition("/")[0].partition(":")[0].lower()
    application = _application(request, hostname)
    meta = read_signed(request.GET.get("meta", ""))
    matches = meta is not None and (meta.application_id, meta.hostname) == (str(application.id), hostname)
    return LoginContext(
        application_id=str(application.id),
        hostname=hostname,
        redirect_path=safe_path(request.GET.get("redirect_url", ""), hostname),
        app_session_sha256=meta.app_session_sha256 if meta is not None and matches else "",
    )


def _application(request: PublicRequest, hostname: str) -> Application:
    application = find_application(hostname, "/cdn-cgi/access/login", request.GET.get("kid"))
    if application is None or application.organization_id != request.organization.id:
        raise Http404("No such application here.")
    return application


def _provider(request: PublicRequest, context: LoginContext, identifier: str) -> IdentityProvider:
    try:
        wanted = uuid.UUID(identifier)
    except ValueError:
        raise NotFound("This login method does not exist (any more).") from None
    for provider in allowed_providers(request, application_of(request, context)):
        if provider.id == wanted:
            return provider
    raise NotFound("This login method does not exist (any more).")


def _pin_page(request: PublicRequest, attempt: LoginAttempt, *, notice: str = "", status: int = 200) -> HttpResponse:
    page = {
        "email": attempt.email,
        "notice": notice,
        "context": LoginContext.from_dict(attempt.return_to).sign(),
        "pin_provider": attempt.provider,
    }
    response = show(request, "pin.html", page, status=status)
    response.csp_form_action = "https:"  # type: ignore[attr-defined]  # see arrival.login_page
    return response
