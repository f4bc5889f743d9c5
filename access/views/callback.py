"""The answer of an OIDC provider: state, browser and issuer first, then the code, once."""

from __future__ import annotations

from django.http import HttpResponse
from django.utils import timezone

from access.decisions import record_failed_login as record_failed_access
from access.views.login import finish, redirect_uri
from access.views.public import PublicRequest, browser_of, public_page, visitor
from accounts import oidc
from accounts.actions.login import MAX_CODE_CHARACTERS, claim_attempt, find_attempt, record_failed_login
from accounts.models import LoginAttempt
from accounts.ratelimits import CALLBACK_BY_ADDRESS, spend

# RFC 6749 4.1.2.1 and OpenID Connect Core 3.1.2.6: the only words of a provider we repeat to people.
_KNOWN_ERRORS = {
    "access_denied": "it denied access, or you cancelled",
    "login_required": "it wants you to log in there first",
    "consent_required": "it wants your consent first",
    "interaction_required": "it wants to ask you something first",
    "server_error": "it has an internal error",
    "temporarily_unavailable": "it is temporarily unavailable",
    "unauthorized_client": "this login method is not set up there",
    "invalid_scope": "a scope of this login method is not allowed there",
    "invalid_request": "the request was not understood; check the login method's settings",
}


@public_page("GET")
def callback(request: PublicRequest) -> HttpResponse:
    """A state that is missing, used, another browser's, another tenant's or too old stops the login (AC-39, AC-40)."""
    spend(CALLBACK_BY_ADDRESS, request.client_ip)
    state = request.GET.get("state", "")
    attempt = find_attempt(request.organization, state=state, browser=browser_of(request)) if state else None
    if attempt is None or attempt.email:
        raise oidc.LoginFailed(
            "This answer belongs to no login that was started in this browser. Start again.", code="state_unknown"
        )
    try:
        return _complete(request, attempt)
    except oidc.LoginFailed as error:
        # finish() has recorded what record_login refused.
        if error.code not in {"identity_disabled", "provider_deleted"}:
            record_failed_login(attempt, reason=error.code, actor=visitor(request))
            record_failed_access(
                attempt.provider, subject="", email="", reason=error.code, ip=request.client_ip, ray_id=request.ray_id
            )
        raise


def _complete(request: PublicRequest, attempt: LoginAttempt) -> HttpResponse:
    code_verifier = claim_attempt(attempt, now=timezone.now())
    provider = attempt.provider
    oidc.check_response_issuer(provider, request.GET.get("iss"))
    if "error" in request.GET:
        reason = _KNOWN_ERRORS.get(request.GET["error"], "it gave no reason we know")
        raise oidc.LoginFailed(f"{provider.name} did not log you in: {reason}.", code="provider_error")
    code = request.GET.get("code", "")
    if not code or len(code) > MAX_CODE_CHARACTERS:
        raise oidc.LoginFailed(f"{provider.name} sent no login code. Start again.", code="code_missing")
    person = oidc.fetch_person(
        provider, code=code, redirect_uri=redirect_uri(request), code_verifier=code_verifier, nonce=attempt.nonce
    )
    return finish(request, attempt, person)
