"""The login page, and where a logged-in person goes from it: policy decision, hand-over, or denial with a reason."""

from __future__ import annotations

from datetime import datetime
from urllib.parse import urlencode

from django.http import Http404, HttpResponse
from django.urls import reverse
from django.utils import timezone

from access.actions.logins import identity_actor, issue_hand_over
from access.decisions import decide, record_decision
from access.denial import denial_of
from access.evaluation import MFA_REQUIRED, PURPOSE_REQUIRED, Decision
from access.facts import Asker
from access.login_links import LoginContext
from access.models import Application
from access.sessions import MIN_REMAINING
from access.views.consent_pages import consent_page
from access.views.public import PublicRequest, browser_of, keep_browser, parse_id, redirect_to, show, team_device
from accounts.models import AccessSession, IdentityProvider, public_url
from accounts.ratelimits import HAND_OVER_BY_SESSION, spend
from accounts.second_factor import Moment


def application_of(request: PublicRequest, context: LoginContext) -> Application | None:
    """The application a login is for, of this organization only; None for pages of the team domain."""
    if not context.application_id:
        return None
    application = (
        Application.objects.for_organization(request.organization)
        .select_related("organization")
        .filter(pk=parse_id(context.application_id))
        .first()
    )
    if application is None:
        raise Http404("The application is gone.")
    return application


def login_page(
    request: PublicRequest,
    context: LoginContext,
    *,
    notice: str = "",
    email: str = "",
    status: int = 200,
    may_redirect: bool = False,
) -> HttpResponse:
    """The choice of login methods. `may_redirect`: with a single one and Instant Auth on, go straight to it."""
    application = application_of(request, context)
    providers = allowed_providers(request, application)
    signed = context.sign()
    links = [(provider, start_link(provider, signed)) for provider in providers if not _is_pin(provider)]
    if may_redirect and request.method == "GET" and len(providers) == 1 and links and _is_instant(request, application):
        return redirect_to(links[0][1])
    page = {
        "application": application,
        "hostname": context.hostname or (application.domain if application else ""),
        "links": links,
        "pin_provider": next((provider for provider in providers if _is_pin(provider)), None),
        "context": signed,
        "notice": notice,
        "email": email,
    }
    response = show(request, "login.html", page, status=status)
    keep_browser(response, browser_of(request))
    # The PIN form ends, after redirects, at the application, which may send the browser on to anywhere of its own.
    response.csp_form_action = "https:"  # type: ignore[attr-defined]
    return with_access_headers(response, application)


def proceed(request: PublicRequest, session: AccessSession, context: LoginContext) -> HttpResponse:
    """From a live session to the place the login was for. The policy is asked now, for this login."""
    now = timezone.now()
    application = application_of(request, context)
    if application is None or not context.hostname:
        return redirect_to(context.redirect_path)
    again = why_login_again(request, session, application, now=now)
    if again:
        return login_page(request, context, notice=again)
    decision = decide_login(request, session, application, now=now)
    if not decision.allowed:
        asking = consent_page(request, session, application, decision, context)
        return asking or denied_page(request, session, application, decision, hostname=context.hostname)
    if not context.app_session_sha256:
        # Nothing binds a code to a browser session there: the application host starts the login, we come back here.
        return redirect_to(public_url(context.hostname) + context.redirect_path)
    spend(HAND_OVER_BY_SESSION, str(session.id))
    code = issue_hand_over(
        application,
        session=session,
        context=context,
        policy_id=decision.policy_id,
        session_duration_seconds=token_seconds(application, decision),
        now=now,
        actor=identity_actor(session, request.client_ip),
        device=team_device(request, now),
    )
    response = redirect_to(f"{public_url(context.hostname)}/cdn-cgi/access/authorized?{urlencode({'nonce': code})}")
    return with_access_headers(response, application)


def decide_login(
    request: PublicRequest, session: AccessSession, application: Application, *, now: datetime
) -> Decision:
    asker = Asker(request.client_ip, now, session, moment=Moment.LOGIN)
    decision = decide(application, asker)
    if decision.reason in {PURPOSE_REQUIRED, MFA_REQUIRED}:
        return decision  # a question, no answer yet
    record_decision(application, decision, asker, action="login", ray_id=request.ray_id)
    return decision


def token_seconds(application: Application, decision: Decision) -> int:
    """0 is "immediate": minting raises it to the shortest life a token can have."""
    chosen = decision.session_duration_seconds
    return application.session_duration_seconds if chosen is None else chosen


def denied_page(
    request: PublicRequest, session: AccessSession, application: Application, decision: Decision, *, hostname: str
) -> HttpResponse:
    """Why, as whom, and the reference under which an administrator finds the decision and its trace; or the address
    that the application's administrators chose for refused people."""
    denial = denial_of(application, decision, has_identity=True, reference=request.ray_id)
    if denial.location:
        return with_access_headers(redirect_to(denial.location), application)
    page = {
        "application": application,
        "hostname": hostname,
        "identity": session.identity,
        "decision": decision,
        "denial": denial,
        "reference": request.ray_id,
    }
    return with_access_headers(show(request, "denied.html", page, status=403), application)


def why_login_again(request: PublicRequest, session: AccessSession, application: Application, *, now: datetime) -> str:
    """Why this session is not good enough for the application, or ""."""
    providers = {provider.id for provider in allowed_providers(request, application)}
    if session.identity.provider_id not in providers:
        return f"{application.name} wants another login method than the one you used."
    if session.expires_at - now < MIN_REMAINING:
        return "Your session is about to end. Log in again."
    return ""


def allowed_providers(request: PublicRequest, application: Application | None) -> list[IdentityProvider]:
    """An application without a list admits every login method of the organization."""
    providers = list(IdentityProvider.objects.for_organization(request.organization))
    chosen = set(application.allowed_providers.values_list("pk", flat=True)) if application is not None else set()
    return [provider for provider in providers if provider.pk in chosen] if chosen else providers


def with_access_headers(response: HttpResponse, application: Application | None) -> HttpResponse:
    """What clients up to 2026.7 learn the application from (access-client.md 5.2)."""
    if application is not None:
        response["CF-Access-Domain"] = application.domain
        response["CF-Access-Aud"] = application.aud
    return response


def start_link(provider: IdentityProvider, signed: str) -> str:
    return f"{reverse('public_start')}?{urlencode({'provider': str(provider.id), 'ctx': signed})}"


def _is_pin(provider: IdentityProvider) -> bool:
    return provider.type == IdentityProvider.Type.ONE_TIME_PIN


def _is_instant(request: PublicRequest, application: Application | None) -> bool:
    if application is not None and application.auto_redirect_to_identity:
        return True
    return request.organization.auto_redirect_to_identity
