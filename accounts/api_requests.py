"""A dashboard form as the API request that does the same ("Copy as API request").

A form that is sent with step=api-request is acted upon inside a transaction that is rolled back, so the request is made
of the very object the form would save, by the shapes of the API itself. Only forms named in `register` take part, and
their actions write rows and an audit event, nothing else; what they send after the commit is never sent.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.contrib.messages import get_messages
from django.db import transaction
from django.db.models import Model
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from ninja import Schema

from accounts.audit import recorded_targets
from accounts.models import Organization

STEP = "api-request"
TOKEN_VARIABLE = "$SALLYPORT_API_TOKEN"  # noqa: S105 - the name of a shell variable
_DONE_STATUSES = frozenset({200, 302, 303})


@dataclass(frozen=True)
class ApiCall:
    """`path` is below /client/v4; `notes` say what of the form the request leaves out, or has to be filled in."""

    method: str
    path: str
    body: Mapping[str, Any]
    notes: tuple[str, ...] = ()

    @property
    def json(self) -> str:
        return json.dumps(self.body, indent=2, ensure_ascii=False)

    @property
    def command(self) -> str:
        """For a POSIX shell. The quoted word keeps the shell out of the body; a line of it alone cannot be in JSON."""
        return (
            f"curl --fail-with-body -X {self.method} '{settings.DASHBOARD_URL}/client/v4{self.path}' \\\n"
            f'  -H "Authorization: Bearer {TOKEN_VARIABLE}" \\\n'
            "  -H 'Content-Type: application/json' \\\n"
            f"  --data-binary @- <<'JSON'\n{self.json}\nJSON"
        )


@dataclass(frozen=True)
class Form:
    """What the form's action is about, and how to say it: build(object, is_new)."""

    model: type[Model]
    build: Callable[[Any, bool], ApiCall]
    is_new: bool


_FORMS: dict[str, Form] = {}


def register(url_name: str, model: type[Model], build: Callable[[Any, bool], ApiCall], *, is_new: bool) -> None:
    _FORMS[url_name] = Form(model, build, is_new)


def has_api_request(url_name: str) -> bool:
    return url_name in _FORMS


def asks_for_request(request: HttpRequest) -> bool:
    """Whether a POST wants to see the request instead of being acted upon."""
    return request.method == "POST" and request.POST.get("step") == STEP


def show_request(request: HttpRequest, organization: Organization, act: Callable[[], HttpResponse]) -> HttpResponse:
    """Acts and takes it back. The page is a whole one without htmx, and a part of one with it."""
    match = request.resolver_match
    form = _FORMS.get(match.url_name or "") if match is not None else None
    call = _dry_run(form, act) if form is not None else None
    # Whatever the view had to say was about something that did not happen.
    storage: Any = get_messages(request)
    storage._queued_messages = []
    part = "HX-Request" in request.headers
    page = {"call": call, "organization": organization, "title": "The same as an API request", "is_part": part}
    template = "components/_api_request.html" if part else "api_request.html"
    return render(request, template, page, status=200 if call is not None or part else 422)


def _dry_run(form: Form, act: Callable[[], HttpResponse]) -> ApiCall | None:
    with transaction.atomic():
        with recorded_targets() as targets:
            response = act()
        found = [target for target in targets if isinstance(target, form.model)]
        call = form.build(found[-1], form.is_new) if found and response.status_code in _DONE_STATUSES else None
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
