"""A dashboard form as the API request that does the same ("Copy as API request").

A form that is sent with step=api-request is acted upon inside a transaction that is rolled back, so the request is made
of the very object the form would save, by the shapes of the API itself. Only forms that are registered take part:
`register` for forms that save an object, `register_call` for buttons and questions, whose request says only what is
acted upon. Their actions write rows and an audit event, nothing else; what they send after the commit is never sent.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from django.conf import settings
from django.contrib.messages import get_messages
from django.db import transaction
from django.db.models import Model
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import render
from ninja import Schema

from accounts.audit import events_written, recorded_targets
from accounts.models import Organization
from accounts.ratelimits import uncounted

STEP = "api-request"
TOKEN_VARIABLE = "$SALLYPORT_API_TOKEN"  # noqa: S105 - the name of a shell variable
ModelT = TypeVar("ModelT", bound=Model)
_DONE_STATUSES = frozenset({200, 302, 303})


@dataclass(frozen=True)
class ApiCall:
    """`path` is below /client/v4; `notes` say what of the form the request leaves out, or has to be filled in."""

    method: str
    path: str
    body: Mapping[str, Any] | list[Any] | None
    notes: tuple[str, ...] = ()

    @property
    def json(self) -> str:
        return json.dumps(self.body, indent=2, ensure_ascii=False)

    @property
    def command(self) -> str:
        """For a POSIX shell. The quoted word keeps the shell out of the body; a line of it alone cannot be in JSON."""
        head = (
            f"curl --fail-with-body -X {self.method} '{settings.DASHBOARD_URL}/client/v4{self.path}' \\\n"
            f'  -H "Authorization: Bearer {TOKEN_VARIABLE}"'
        )
        if self.body is None:
            return head
        body = f"  --data-binary @- <<'JSON'\n{self.json}\nJSON"
        return f"{head} \\\n  -H 'Content-Type: application/json' \\\n{body}"


@dataclass(frozen=True)
class Asked:
    """What a form was sent for: the arguments of its address, its fields, and what its action was about."""

    organization: Organization
    arguments: Mapping[str, Any]
    data: QueryDict
    targets: list[Model]

    def target(self, model: type[ModelT]) -> ModelT | None:
        """The last one of this kind."""
        found = [target for target in self.targets if isinstance(target, model)]
        return found[-1] if found else None


Build = Callable[[Asked], ApiCall | None]
_FORMS: dict[str, Build] = {}


def register(url_name: str, model: type[ModelT], build: Callable[[ModelT, bool], ApiCall], *, is_new: bool) -> None:
    """A form that saves a `model`: build(object, is_new)."""

    def of_object(asked: Asked) -> ApiCall | None:
        found = asked.target(model)
        return build(found, is_new) if found is not None else None

    _FORMS[url_name] = of_object


def register_build(url_name: str, build: Build) -> None:
    _FORMS[url_name] = build


def register_call(
    url_name: str,
    method: str,
    path: str,
    *,
    body: Callable[[Asked], Mapping[str, Any] | None] | None = None,
    notes: tuple[str, ...] = (),
) -> None:
    """A button or a question. `path` names {account} and arguments of the form's own address."""

    def of_address(asked: Asked) -> ApiCall:
        filled = path.format(account=f"/accounts/{asked.organization.pk}", **asked.arguments)
        return ApiCall(method, filled, body(asked) if body is not None else None, notes)

    _FORMS[url_name] = of_address


def has_api_request(url_name: str) -> bool:
    return url_name in _FORMS


def asks_for_request(request: HttpRequest) -> bool:
    """Whether a POST wants to see the request instead of being acted upon."""
    return request.method == "POST" and request.POST.get("step") == STEP


def show_request(request: HttpRequest, organization: Organization, act: Callable[[], HttpResponse]) -> HttpResponse:
    """Acts and takes it back. The page is a whole one without htmx, and a part of one with it."""
    match = request.resolver_match
    build = _FORMS.get(match.url_name or "") if match is not None else None
    arguments = match.kwargs if match is not None else {}
    call = _dry_run(build, organization, arguments, request.POST, act) if build is not None else None
    # Whatever the view had to say was about something that did not happen.
    storage: Any = get_messages(request)
    storage._queued_messages = []
    part = "HX-Request" in request.headers
    page = {"call": call, "organization": organization, "title": "The same as an API request", "is_part": part}
    template = "components/_api_request.html" if part else "api_request.html"
    return render(request, template, page, status=200 if call is not None or part else 422)


def _dry_run(
    build: Build,
    organization: Organization,
    arguments: Mapping[str, Any],
    data: QueryDict,
    act: Callable[[], HttpResponse],
) -> ApiCall | None:
    """None when the form would not have been acted upon: no change is made without an event of the audit log."""
    before = events_written()
    with transaction.atomic(), uncounted():
        with recorded_targets() as targets:
            response = act()
        acted = response.status_code in _DONE_STATUSES and events_written() != before
        call = build(Asked(organization, arguments, data, targets)) if acted else None
        transaction.set_rollback(True)
    return call


def body_of(result: Schema, body: type[Schema], *, keep: tuple[str, ...] = (), **changed: Any) -> dict[str, Any]:
    """What of an answer of the API its own requests take, without what means the same when it is absent. Checked: a
    body that the API would not read is an error here, not at whoever copies it. `keep`: fields without a default that
    counts; `changed`: values that requests write otherwise."""
    shaped = {**result.model_dump(mode="json", by_alias=True), **changed}
    chosen = {}
    for name, field in body.model_fields.items():
        if name in shaped and (name in keep or field.is_required() or shaped[name] != field.get_default()):
            chosen[name] = shaped[name]
    body.model_validate(chosen)
    return chosen
