"""The answer of an identity provider: state, browser and address first, then the code or assertion, once."""

from __future__ import annotations

from collections.abc import Mapping

from django.http import Http404, HttpResponse
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt

from access.decisions import record_failed_login as record_failed_access
from access.views.login import finish
from access.views.provider_test import tell_admin
from access.views.public import PublicRequest, browser_of, posting_browser_of, public_page, visitor
from accounts.actions.login import claim_attempt, find_attempt, record_failed_login
from accounts.models import IdentityProvider, LoginAttempt
from accounts.providers import method_of, redirect_url
from accounts.providers.base import Flow, LoginFailed
from accounts.providers.saml import service_metadata
from accounts.ratelimits import CALLBACK_BY_ADDRESS, spend


@csrf_exempt
@public_page("GET", "POST")
def callback(request: PublicRequest) -> HttpResponse:
    """The shared address. POST is for SAML: the provider's page sends it, which knows no CSRF token of ours.

    What a CSRF token would prove is proved by state and cookie: posting_browser_of must be the browser that started
    this very login, so another site's form finds no login to answer (AC-39, AC-40).
    """
    return _answered(request, "")


@public_page("GET")
def callback_of(request: PublicRequest, slug: str) -> HttpResponse:
    """The address of one type, or of one login method (LoginMethod.callback_slug)."""
    return _answered(request, slug)


def _answered(request: PublicRequest, slug: str) -> HttpResponse:
    """A state that is missing, used, another browser's, another tenant's or too old stops the login (AC-39, AC-40)."""
    spend(CALLBACK_BY_ADDRESS, request.client_ip)
    is_post = request.method == "POST"
    answer: Mapping[str, str] = (request.POST if is_post else request.GET).dict()
    state = answer.get("RelayState" if is_post else "state", "")
    browser = posting_browser_of(request) if is_post else browser_of(request)
    attempt = find_attempt(request.organization, state=state, browser=browser) if state and browser else None
    if attempt is None or attempt.email:
        raise LoginFailed(
            "This answer belongs to no login that was started in this browser. Start again, at the application or at "
            "this address.",
            code="state_unknown",
        )
    try:
        return _complete(request, attempt, answer, slug)
    except LoginFailed as error:
        # finish() has recorded what record_login refused.
        if error.code not in {"identity_disabled", "provider_deleted"}:
            record_failed_login(attempt, reason=error.code, actor=visitor(request))
            record_failed_access(
                attempt.provider, subject="", email="", reason=error.code, ip=request.client_ip, ray_id=request.ray_id
            )
        told = tell_admin(request, attempt, error)
        if told is None:
            raise
        return told


def _complete(request: PublicRequest, attempt: LoginAttempt, answer: Mapping[str, str], slug: str) -> HttpResponse:
    code_verifier = claim_attempt(attempt, now=timezone.now())
    provider, method = attempt.provider, method_of(attempt.provider)
    if slug != method.callback_slug(provider) or request.method != method.answer_method:
        raise LoginFailed(
            f"The answer came to an address that is not the one of {provider.name}. Start the login again.",
            code="wrong_callback",
        )
    # The state itself was checked by its hash; nothing after this needs it.
    flow = Flow(redirect_uri=redirect_url(provider), state="", nonce=attempt.nonce, code_verifier=code_verifier)
    return finish(request, attempt, method.finish(provider, flow, answer))


@public_page("GET", "HEAD")
def saml_metadata(request: PublicRequest, provider_id: str) -> HttpResponse:
    """Our half of a SAML trust, for import at the identity provider. Public by nature: addresses and a certificate."""
    provider = (
        IdentityProvider.objects.for_organization(request.organization)
        .select_related("organization")
        .filter(pk=provider_id, type=IdentityProvider.Type.SAML)
        .first()
    )
    if provider is None:
        raise Http404
    response = HttpResponse(service_metadata(provider), content_type="application/samlmetadata+xml")
    response["Content-Disposition"] = f'attachment; filename="{request.organization.team_name}-saml-metadata.xml"'
    return response
