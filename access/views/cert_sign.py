"""POST <issuer>/cdn-cgi/access/cert_sign: a certificate for a public key (access-client.md 7, product.md 4.3).

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
from access.bearer import TokenRefused, session_behind, unverified_audience
from access.models import Application
from accounts.actor import Actor, ActorKind
from accounts.errors import DomainError, InvalidInput
from accounts.http import declares
from accounts.models import Organization
from accounts.permissions import Permission
from accounts.prepared import Parameter, PreparedRows

MAX_BODY_BYTES = 32 * 1024
RETRY_AFTER_SECONDS = 2
_APPLICATION = PreparedRows(
    lambda: Application.objects.filter(
        organization=Parameter("organization", Organization._meta.pk), aud=Parameter("aud", CharField())
    ).select_related("organization")
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
        if error.status == 503:
            response["Retry-After"] = str(RETRY_AFTER_SECONDS)
        return response


def _sign(request: HttpRequest) -> HttpResponse:
    context = cast(Any, request)
    organization: Organization = context.organization
    body = _read_body(request)
    public_key, token, issuer = _text(body, "public_key"), _text(body, "jwt"), _text(body, "issuer")
    if issuer != organization.team_url:
        raise TokenRefused(f"This is {organization.team_url}; the request is for another issuer.", code="wrong_issuer")
    application = _APPLICATION.first(organization=organization.pk, aud=unverified_audience(token))
    if application is None:
        raise TokenRefused("The token belongs to no application of this team.", code="token_wrong_application")
    session = session_behind(application, token, now=timezone.now())
    identity = session.identity
    certificate = request_certificate(
        application,
        session=session,
        public_key=public_key,
        ip=context.client_ip,
        ray_id=context.ray_id,
        actor=Actor(ActorKind.IDENTITY, str(identity.pk), identity.email or identity.subject, context.client_ip),
    )
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
