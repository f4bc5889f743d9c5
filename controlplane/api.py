"""/client/v4: the routers of all apps put together, and the one place where failures become answers."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import wraps
from typing import Any

from django.core.exceptions import ObjectDoesNotExist, RequestDataTooBig
from django.db import InternalError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.urls import URLPattern, URLResolver, path
from ninja import NinjaAPI
from ninja.errors import HttpError, ValidationError
from ninja.operation import Operation
from ninja.parser import Parser

from access import (
    api_approvals,
    api_apps,
    api_certificates,
    api_custom_pages,
    api_groups,
    api_keys,
    api_lists,
    api_logs,
    api_policies,
    api_policy_tests,
    api_saved_tests,
    api_service_tokens,
    api_ssh,
    api_tags,
)
from accounts import api as accounts_api
from accounts import (
    api_deleted,
    api_members,
    api_organization,
    api_providers,
    api_scim,
    api_support,
    api_tokens,
    api_users,
)
from accounts.api_base import failure, set_zone_owner
from accounts.errors import DomainError
from accounts.http import declares
from accounts.permissions import Permission
from controlplane import api_docs
from controlplane.middleware import bounded
from tunnels import api as tunnels_api
from tunnels import api_records, api_zones

log = logging.getLogger(__name__)
MAX_BODY_BYTES = 1024 * 1024
MAX_DRAINED_BYTES = 8 * 1024 * 1024
_DRAIN_STEP = 64 * 1024
# Reason codes of our errors that have a number of their own in the public API (product.md 3.1).
_PUBLIC_CODES = {
    "tunnel_exists": 1013,
    "record_exists": 81053,
    "missing_scope": 10000,
    "group_not_found": 11020,
}


@dataclass(frozen=True, slots=True)
class ApiOperation:
    """One route of the API, for tests that walk all of them."""

    method: str
    path: str  # below /client/v4, with {parameters}
    permission: Permission


class StrictParser(Parser):
    """JSON as databases and other parsers can hold it: no NaN, no infinite numbers, no NUL, no lone surrogates."""

    def parse_body(self, request: HttpRequest) -> Any:
        body = json.loads(request.body, parse_constant=_refuse_constant, parse_float=_finite)
        if rb"\u" in request.body:
            _require_storable(json.dumps(body, ensure_ascii=False))
        return body


def _refuse_constant(text: str) -> float:
    raise ValueError(f"{text} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("number out of range")
    return number


def _require_storable(text: str) -> None:
    text.encode()
    # json.dumps writes NUL as an escape; an escaped backslash before it means the text holds no NUL.
    if "\\u0000" in text.replace("\\\\", ""):
        raise ValueError("NUL character")


class PublicApi(NinjaAPI):
    """Adds to every route what happens before and around an operation: limits, methods, unknown errors."""

    @property
    def urls(self) -> tuple[list[URLResolver | URLPattern], str, str]:
        patterns, app_name, namespace = super().urls
        own = [pattern for pattern in patterns if getattr(pattern, "name", None) != "api-root"]
        permissions: dict[str, dict[str, Permission]] = {}
        for operation in self.operations():
            route = operation.path[1:].replace("{", "<").replace("}", ">")
            permissions.setdefault(route, {})[operation.method] = operation.permission
        for pattern in own:
            if isinstance(pattern, URLPattern):
                pattern.callback = _guarded(pattern.callback, permissions[str(pattern.pattern)])
        rest = [path("<path:rest>", _unknown_route), path("", _unknown_route, name="api-root")]
        return [*own, *api_docs.pages(self), *rest], app_name, namespace

    def get_openapi_operation_id(self, operation: Operation) -> str:
        # Routers are mounted under two prefixes; api_docs replaces this by method and path.
        return f"{operation.view_func.__name__}_{id(operation)}"

    def operations(self) -> Iterator[ApiOperation]:
        for bound in self._get_bound_routers():
            for route, view in bound.path_operations.items():
                for operation in view.operations:
                    full = "/" + "/".join(part.strip("/") for part in (bound.prefix, route) if part.strip("/"))
                    for method in operation.methods:
                        yield ApiOperation(method, full, operation.view_func.permission)  # type: ignore[attr-defined]


def _guarded(view: Any, permissions: dict[str, Permission]) -> Any:
    """`permissions` (by method) is left on the view for whoever walks the resolver."""

    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if _length(request) > MAX_BODY_BYTES:
            _drain(request)
            return failure(413, [_item(10013, "The request body is larger than 1 MiB.")])
        if "HTTP_TRANSFER_ENCODING" in request.META and not request.META.get("CONTENT_LENGTH"):
            # WSGI gives no body without its length: better said than read as an empty one.
            return failure(411, [_item(10013, "Send the body with a Content-Length header.")])
        if "\0" in request.path_info or "%00" in request.META.get("QUERY_STRING", ""):
            return failure(400, [_item(7003, "The address holds a NUL character.")])
        response: HttpResponse = view(request, *args, **kwargs)
        if isinstance(response, HttpResponseNotAllowed):
            refused = failure(405, [_item(10405, f"{request.method} is not allowed here.")])
            refused["Allow"] = response["Allow"]
            return refused
        return response

    guarded.permissions = permissions  # type: ignore[attr-defined]
    guarded.permission = next(iter(permissions.values()))  # type: ignore[attr-defined]
    return guarded


def _length(request: HttpRequest) -> int:
    text = request.META.get("CONTENT_LENGTH") or "0"
    return int(text) if text.isdigit() and len(text) < 19 else MAX_BODY_BYTES + 1


def _drain(request: HttpRequest) -> None:
    """Read and drop a body that is too large, within bounds: a client that is still sending would otherwise see a
    broken connection instead of the answer."""
    for _ in range(MAX_DRAINED_BYTES // _DRAIN_STEP):
        try:
            if not request.read(_DRAIN_STEP):
                return
        except OSError:
            return


@declares(Permission.PUBLIC)
def _unknown_route(request: HttpRequest, rest: str = "") -> HttpResponse:
    return failure(404, [_item(7003, "No route for that URI.")])


def _item(code: int, message: str) -> dict[str, Any]:
    return {"code": code, "message": message}


# --- Failures -------------------------------------------------------------------------------------------------
def _domain_error(request: HttpRequest, error: Any) -> HttpResponse:
    code = _PUBLIC_CODES.get(error.code, error.api_code)
    item = _item(code, error.message) | {"reason": error.code}
    if error.fields:
        item["fields"] = error.fields
    response = failure(error.status, [item])
    if error.status == 401:
        response["WWW-Authenticate"] = 'Bearer realm="sallyport"'
    if error.status == 503:
        response["Retry-After"] = "2"
    return response


def _database_refused(request: HttpRequest, error: Any) -> HttpResponse:
    return _domain_error(request, bounded(error))


def _invalid_input(request: HttpRequest, error: Any) -> HttpResponse:
    items = []
    for problem in error.errors:
        where = [str(part) for part in problem["loc"][1:] if part not in ("body", "paging", "filters")]
        message = (
            f"{'.'.join(where)}: {problem['msg']}" if where else f"The body must be a JSON object: {problem['msg']}"
        )
        items.append(_item(12130, message) | {"source": {"pointer": "/" + "/".join(where)}})
    return failure(400, items)


def _http_error(request: HttpRequest, error: Any) -> HttpResponse:
    return failure(error.status_code, [_item(12130, f"{error.message}.".replace("..", "."))])


def _too_big(request: HttpRequest, error: Any) -> HttpResponse:
    return failure(413, [_item(10013, "The request body is larger than 1 MiB.")])


def _missing(request: HttpRequest, error: Any) -> HttpResponse:
    return failure(404, [_item(12135, "Not found.")])


def _unknown(request: HttpRequest, error: Any) -> HttpResponse:
    log.error("api operation failed", exc_info=error, extra={"path": request.path_info})
    return failure(500, [_item(10013, "Internal error. The server's log has the details.")])


api = PublicApi(
    title="Sallyport API",
    version="4",
    description="Organizations, access, tunnels and DNS. Bearer tokens are made on the dashboard's API tokens page.",
    docs_url=None,
    openapi_url=None,
    parser=StrictParser(),
    urls_namespace="api",
)
api.add_exception_handler(DomainError, _domain_error)
api.add_exception_handler(OperationalError, _database_refused)
api.add_exception_handler(InternalError, _database_refused)
api.add_exception_handler(ValidationError, _invalid_input)
api.add_exception_handler(HttpError, _http_error)
api.add_exception_handler(RequestDataTooBig, _too_big)
api.add_exception_handler(Http404, _missing)
# A row that was deleted between being found and being locked.
api.add_exception_handler(ObjectDoesNotExist, _missing)
api.add_exception_handler(Exception, _unknown)
api.add_router("", accounts_api.router)
api.add_router("/user", api_tokens.router, url_name_prefix="user")
for _router in (api_tokens.router, api_members.router, api_support.router, api_deleted.router):
    api.add_router("/accounts/{account_id}", _router, url_name_prefix="account")
api.add_router("", api_zones.router)
api.add_router("", api_records.router)
api.add_router("", tunnels_api.router)
# Served below an account and below a zone alike; a zone stands for its organization (product.md 3.2).
for _router in (
    api_organization.router,
    api_providers.router,
    api_groups.router,
    api_apps.authority_router,
    api_apps.router,
    api_policies.router,
    api_policy_tests.router,
    api_service_tokens.router,
    api_certificates.router,
):
    api.add_router("/accounts/{account_id}/access", _router, url_name_prefix="account")
    api.add_router("/zones/{zone_id}/access", _router, url_name_prefix="zone")
for _router in (
    api_policies.account_router,
    api_policy_tests.account_router,
    api_users.router,
    api_scim.router,
    api_logs.router,
    api_keys.router,
    api_tags.router,
    api_custom_pages.router,
    api_saved_tests.router,
    api_approvals.router,
    api_ssh.router,
):
    api.add_router("/accounts/{account_id}/access", _router)
api.add_router("/accounts/{account_id}/gateway", api_lists.router)
set_zone_owner(api_zones.organization_id_of_zone)
