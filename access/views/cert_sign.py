"""POST <issuer>/cdn-cgi/access/cert_sign: a certificate for a public key (access-client.md 7, product.md 4.3).

A person shows an application token: {"public_key", "jwt", "issuer"}. A machine shows a service token in the public
headers, and says for which application: {"public_key", "aud" or "hostname"}.

Either may add a "proof" that it holds the key (access/possession.py).

Fields of the body that are not named here (principals, validity, extensions, …) are ignored: the application and its
policies say what is in a certificate, never the client (security.md AC-14, AC-17, AC-18).
"""

from __future__ import annotations

import json
from typing import Any, cast

from django.conf import settings
from django.db.models import CharField
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils import timezone

from access.actions.certificates import issued_line, request_certificate
from access.actions.service_tokens import authenticate_service_token
from access.bearer import TokenRefused, bound_to, session_behind, unverified_audience
from access.models import Application, Certificate
from access.possession import Shown
from access.routing import find_application
from access.signing_limits import TooManyCertificates
from accounts.actor import Actor, ActorKind
from accounts.errors import AuthenticationFailed, DomainError, InvalidInput, NotFound
from accounts.http import declares
from accounts.models import Organization
from accounts.permissions import Permission
from accounts.prepared import Parameter, PreparedRows
from accounts.ratelimits import SERVICE_TOKEN_FAILURE_BY_ADDRESS, spend

MAX_BODY_BYTES = 32 * 1024
RETRY_AFTER_SECONDS = 2
_APPLICATION = PreparedRows(
    lambda: Application.objects.filter(
        organization=Parameter("organization", Organization._meta.pk), aud=Parameter("aud", CharField())
    )
)


@declares(Permission.PUBLIC)
def cert_sign(request: HttpRequest) -> HttpResponse:
    """200 {"id", "certificate", "expires_at"}, or {"status", "message", "reason"} with that status."""
    if request.method != "POST":
        response = _problem(405, "method_not_allowed", "Send a POST request.")
        response["Allow"] = "POST"
        return response
    try:
        return _sign(request)
    except DomainError as error:
        response = _problem(error.status, error.code, error.message)
        if isinstance(error, TooManyCertificates):
            response["Retry-After"] = str(error.retry_after_seconds)
        if error.status == 503:
            response["Retry-After"] = str(RETRY_AFTER_SECONDS)
        return response


def _sign(request: HttpRequest) -> HttpResponse:
    context = cast(Any, request)
    organization: Organization = context.organization
    body = _read_body(request)
    if "CF-Access-Client-Id" in request.headers or "CF-Access-Client-Secret" in request.headers:
        return _sign_for_machine(request, organization, body)
    public_key, token, issuer = _text(body, "public_key"), _text(body, "jwt"), _text(body, "issuer")
    if issuer != organization.team_url:
        raise TokenRefused(f"This is {organization.team_url}; the request is for another issuer.", code="wrong_issuer")
    application = _APPLICATION.first(organization=organization.pk, aud=unverified_audience(token))
    if application is None:
        raise TokenRefused("The token belongs to no application of this team.", code="token_wrong_application")
    application.organization = organization  # read in this very request
    session = session_behind(application, token, now=timezone.now())
    identity = session.identity
    certificate = request_certificate(
        application,
        session=session,
        public_key=public_key,
        shown=Shown(token, bound_to(token), body.get("proof")),
        ip=context.client_ip,
        ray_id=context.ray_id,
        actor=Actor(ActorKind.IDENTITY, str(identity.pk), identity.email or identity.subject, context.client_ip),
    )
    return _answer(certificate)


def _sign_for_machine(request: HttpRequest, organization: Organization, body: dict[str, Any]) -> HttpResponse:
    context = cast(Any, request)
    public_key = _text(body, "public_key")
    token = authenticate_service_token(
        organization,
        request.headers.get("CF-Access-Client-Id", ""),
        request.headers.get("CF-Access-Client-Secret", ""),
        now=timezone.now(),
    )
    if token is None:
        spend(SERVICE_TOKEN_FAILURE_BY_ADDRESS, context.client_ip)
        message = "The service token is unknown, disabled or expired, or its secret is wrong."
        raise AuthenticationFailed(message, code="service_token_invalid")
    application = _named_application(organization, body)
    if application is None:
        raise NotFound('No application of this team has that "aud" or "hostname".', code="unknown_application")
    certificate = request_certificate(
        application,
        service_token=token,
        public_key=public_key,
        shown=Shown(token.client_id, proof=body.get("proof")),
        ip=context.client_ip,
        ray_id=context.ray_id,
        actor=Actor(ActorKind.SERVICE_TOKEN, str(token.pk), token.name, context.client_ip),
    )
    return _answer(certificate)


def _named_application(organization: Organization, body: dict[str, Any]) -> Application | None:
    """The audience tag says exactly which; a hostname stands for the application that serves it, without a path."""
    rows = Application.objects.for_organization(organization).select_related("organization")
    if body.get("aud") is not None:
        return rows.filter(aud=_text(body, "aud")).first()
    hostname = _text(body, "hostname").lower().removesuffix(".")
    found = find_application(hostname, "/")
    return found if found is not None and found.organization_id == organization.pk else None


def _answer(certificate: Certificate) -> HttpResponse:
    line = issued_line(certificate, timeout=settings.SIGNING_WAIT_SECONDS)
    expires_at = certificate.valid_before.strftime("%Y-%m-%dT%H:%M:%SZ")
    return JsonResponse({"id": str(certificate.pk), "certificate": line, "expires_at": expires_at})


def _read_body(request: HttpRequest) -> dict[str, Any]:
    length = request.META.get("CONTENT_LENGTH") or ""
    if not length.isdecimal():
        raise InvalidInput("The request needs a Content-Length.", code="length_required")
    if int(length) > MAX_BODY_BYTES:
        raise BodyTooLarge(f"The body is larger than {MAX_BODY_BYTES} bytes.")
    try:
        body = json.loads(request.body)
    except (ValueError, RecursionError) as error:
        raise InvalidInput("The body is not JSON.", code="invalid_json") from error
    if not isinstance(body, dict):
        raise InvalidInput("The body must be a JSON object.", code="invalid_json")
    return body


def _text(body: dict[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not value:
        raise InvalidInput(f'"{name}" is missing.', code="invalid_request", fields={name: "Missing."})
    return value


def _problem(status: int, reason: str, message: str) -> HttpResponse:
    return JsonResponse({"status": status, "message": message, "reason": reason}, status=status)


class BodyTooLarge(InvalidInput):
    status = 413
    code = "body_too_large"
