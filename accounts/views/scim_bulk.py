"""POST /Bulk: many changes in one request (RFC 7644 section 3.7).

Changes are committed in chunks, so that a large request does not keep everybody else from writing; each succeeds or is
refused for itself and has its own line in the log. What a later one refers to by `bulkId:…` is made before it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from django.db import DatabaseError, transaction
from django.http import HttpResponse

from accounts import audit
from accounts.errors import DomainError
from accounts.models import ScimUpdate
from accounts.prepared import insert_all
from accounts.scim.bulk import BULK_RESPONSE, Operation, in_order, read_bulk, resolved
from accounts.scim.errors import ScimError
from accounts.views.scim_answers import Call, answer, json_answer, refusal, update_of

BULK = "Bulk"
# Of one transaction: what others wait for at most, and what one commit is shared by.
_CHUNK = 50


@dataclass
class _Progress:
    """What is done so far. `made`: ids by bulkId; `answers`: by the operation's place in the request."""

    errors_left: int
    made: dict[str, str] = field(default_factory=dict)
    answers: dict[int, dict[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Done:
    """One operation carried out, not committed yet."""

    operation: Operation
    answer: dict[str, Any]
    update: ScimUpdate
    is_refused: bool
    made: str = ""


def answer_bulk(call: Call) -> HttpResponse:
    """200 with the status of each change, in the order of the request; what came after too many errors is left out."""
    if call.method != "POST":
        raise ScimError(405, "Send POST.")
    operations, fail_on_errors = read_bulk(call.body)
    progress = _Progress(fail_on_errors or len(operations) + 1)
    waiting = iter(in_order(operations))
    while progress.errors_left > 0 and (chunk := list(islice(waiting, _CHUNK))):
        for done in _carried_out(call, chunk, progress):
            progress.answers[done.operation.index] = done.answer
    documents = [document for _, document in sorted(progress.answers.items())]
    return json_answer({"schemas": [BULK_RESPONSE], "Operations": documents})


def _carried_out(call: Call, chunk: Sequence[Operation], progress: _Progress) -> Iterator[_Done]:
    """In one transaction; in one for each when the database will not have them together (two bulk requests that wait
    for each other's rows)."""
    start = replace(progress, made=dict(progress.made))
    try:
        done = _together(call, chunk, start)
    except DatabaseError:
        if len(chunk) == 1:
            raise
        for operation in chunk:
            if progress.errors_left > 0:
                yield from _carried_out(call, [operation], progress)
        return
    progress.errors_left, progress.made = start.errors_left, start.made
    yield from done


@transaction.atomic
def _together(call: Call, chunk: Sequence[Operation], progress: _Progress) -> list[_Done]:
    found: list[_Done] = []
    with audit.together() as events:
        for operation in chunk:
            if progress.errors_left <= 0:
                break
            place = events.place()
            done = _one(call, operation, progress.made)
            if done.is_refused:
                # Its action has undone what it wrote (a savepoint of its own); its event goes with that.
                events.back_to(place)
                progress.errors_left -= 1
            elif operation.bulk_id and done.made:
                progress.made[operation.bulk_id] = done.made
            found.append(done)
        insert_all([done.update for done in found])
    return found


def _one(call: Call, operation: Operation, made: Mapping[str, str]) -> _Done:
    document: dict[str, Any] = {"method": operation.method}
    if operation.bulk_id:
        document["bulkId"] = operation.bulk_id
    inner = replace(
        call, method=operation.method, parts=operation.parts, body=operation.data, if_match=operation.version
    )
    try:
        operation = resolved(operation, made)
        inner = replace(inner, parts=operation.parts, body=operation.data)
        response = answer(inner)
    except DomainError as error:
        response = refusal(error)
        document |= {"status": str(response.status_code), "response": json.loads(response.content)}
        if operation.method != "POST":
            document["location"] = "/".join((call.base_url, *operation.parts))
        return _Done(operation, document, update_of(inner, response, error.message), is_refused=True)
    document |= {"status": str(response.status_code)}
    document["location"] = response.headers.get("Location") or "/".join((call.base_url, *operation.parts))
    if "ETag" in response.headers:
        document["version"] = response.headers["ETag"]
    made_id = str(json.loads(response.content)["id"]) if response.status_code == 201 else ""
    return _Done(operation, document, update_of(inner, response), is_refused=False, made=made_id)
