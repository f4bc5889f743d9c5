"""Bulk requests as SCIM clients send them: checked, put in order, and their references to each other replaced by ids
(RFC 7644 section 3.7). Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from accounts.scim.errors import ScimError, invalid_value

BULK_REQUEST = "urn:ietf:params:scim:api:messages:2.0:BulkRequest"
BULK_RESPONSE = "urn:ietf:params:scim:api:messages:2.0:BulkResponse"
MAX_OPERATIONS = 500
_METHODS = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_KINDS = frozenset({"Users", "Groups"})
_REFERENCE = "bulkId:"


@dataclass(frozen=True, slots=True)
class Operation:
    index: int
    method: str
    parts: tuple[str, ...]
    bulk_id: str
    version: str
    data: dict[str, Any]


def read_bulk(body: Mapping[str, Any]) -> tuple[list[Operation], int]:
    """The operations, and after how many errors to stop (0: never). Raises ScimError for the request as a whole."""
    values = {str(key).lower(): value for key, value in body.items()}
    listed, fail_on_errors = values.get("operations"), values.get("failonerrors", 0)
    if not isinstance(listed, list) or not listed:
        raise ScimError(400, "Operations is a list of changes.", "invalidSyntax")
    if len(listed) > MAX_OPERATIONS:
        raise ScimError(413, f"A bulk request has at most {MAX_OPERATIONS} operations.", "tooMany")
    if isinstance(fail_on_errors, bool) or not isinstance(fail_on_errors, int) or fail_on_errors < 0:
        raise invalid_value("failOnErrors is a number of errors.")
    operations = [_read(index, item) for index, item in enumerate(listed)]
    names = [operation.bulk_id for operation in operations if operation.bulk_id]
    if len(set(names)) < len(names):
        raise invalid_value("Each bulkId is used once.")
    return operations, fail_on_errors


def in_order(operations: Sequence[Operation]) -> list[Operation]:
    """As sent, but what an operation refers to comes before it. Those that refer to each other in a circle stay as
    they are, and are refused when their turn comes."""
    by_name = {operation.bulk_id: operation for operation in operations if operation.bulk_id}
    # Read once: an operation that refers to many others is come back to for each of them.
    needs = {operation.index: [by_name[name] for name in _references(operation, by_name)] for operation in operations}
    found: dict[int, Operation] = {}
    for operation in operations:
        # Without recursion: a chain of references may be as long as the request.
        path, open_indexes = [operation], {operation.index}
        while path:
            needed = needs[path[-1].index]
            while needed and (needed[-1].index in found or needed[-1].index in open_indexes):
                needed.pop()
            following = needed[-1] if needed else None
            if following is None:
                done = path.pop()
                found.setdefault(done.index, done)
            else:
                path.append(following)
                open_indexes.add(following.index)
    return list(found.values())


def resolved(operation: Operation, made: Mapping[str, str]) -> Operation:
    """With ids in place of references. Raises ScimError when one stands for nothing that was made."""
    parts = tuple(_replaced(part, made) for part in operation.parts)
    return replace(operation, parts=parts, data=_replaced(operation.data, made))


def _read(index: int, item: Any) -> Operation:
    if not isinstance(item, Mapping):
        raise invalid_value("An operation is an object.")
    values = {str(key).lower(): value for key, value in item.items()}
    method, path = values.get("method"), values.get("path")
    if not isinstance(method, str) or method.upper() not in _METHODS:
        raise invalid_value("An operation's method is POST, PUT, PATCH or DELETE.")
    is_text = isinstance(path, str) and path.isprintable()
    parts = tuple(part for part in str(path).split("/") if part) if is_text else ()
    is_post = method.upper() == "POST"
    if len(parts) != (1 if is_post else 2) or parts[0] not in _KINDS:
        raise invalid_value("An operation's path is /Users or /Groups to POST, with an id for the other methods.")
    bulk_id, version, data = values.get("bulkid", ""), values.get("version", ""), values.get("data", {})
    if not isinstance(bulk_id, str) or not isinstance(version, str) or len(bulk_id) > 255:
        raise invalid_value("bulkId and version are texts.")
    if is_post and not bulk_id:
        raise invalid_value("A POST has a bulkId.")
    if not isinstance(data, dict):
        raise invalid_value("An operation's data is an object.")
    return Operation(index, method.upper(), parts, bulk_id, version, data)


def _references(operation: Operation, known: Collection[str]) -> list[str]:
    """Those of `known`, each once."""
    found: dict[str, None] = {}
    waiting: list[Any] = [*operation.parts, operation.data]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str) and value.startswith(_REFERENCE):
            if (name := value.removeprefix(_REFERENCE)) in known:
                found[name] = None
        elif isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
    return list(found)


def _replaced(value: Any, made: Mapping[str, str]) -> Any:
    if isinstance(value, str) and value.startswith(_REFERENCE):
        name = value.removeprefix(_REFERENCE)
        if name not in made:
            raise ScimError(409, f'"{value}" stands for nothing that was made in this request.', "invalidValue")
        return made[name]
    if isinstance(value, dict):
        return {key: _replaced(inner, made) for key, inner in value.items()}
    return [_replaced(inner, made) for inner in value] if isinstance(value, list) else value
