"""The door of the agent API: who may call, and how much they may say."""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable
from functools import wraps
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse

from accounts.errors import AuthenticationFailed, DomainError, InvalidInput
from accounts.http import declares
from accounts.permissions import Permission

View = Callable[..., HttpResponse]


class TooLarge(DomainError):
    status = 413
    code = "too_large"


def edge_only(method: str) -> Callable[[View], View]:
    """A view for edges: the bearer token is EDGE_TOKEN, compared in constant time; one method, HTTP's 405 otherwise."""

    def wrap(view: View) -> View:
        @wraps(view)
        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            if not _shows_edge_token(request):
                raise AuthenticationFailed("The agent API is for edges: show the bearer token EDGE_TOKEN.")
            if request.method != method:
                body = {"status": 405, "reason": "method_not_allowed", "message": f"Use {method}."}
                return JsonResponse(body, status=405, headers={"Allow": method})
            return view(request, *args, **kwargs)

        return declares(Permission.EDGE)(guarded)

    return wrap


def read_json(request: HttpRequest, *, max_bytes: int) -> dict[str, Any]:
    """The body as an object. Read from the stream, since Django's own limit for bodies is that of web forms."""
    content = request.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise TooLarge(f"The body is larger than {max_bytes} bytes.")
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InvalidInput("The body is not JSON.") from error
    if not isinstance(document, dict):
        raise InvalidInput("The body must be a JSON object.")
    return document


def _shows_edge_token(request: HttpRequest) -> bool:
    scheme, _, shown = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")
    is_right = hmac.compare_digest(shown.strip().encode(), settings.EDGE_TOKEN.encode())
    return is_right and bool(settings.EDGE_TOKEN) and scheme.lower() == "bearer"
