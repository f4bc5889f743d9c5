"""PATCH of a resource (RFC 7644 section 3.5.2): operations on a JSON object, as real clients send them.

Beyond the RFC, because large providers do it: operation names in any case ("Add", "Replace"), booleans as texts
("False"), and dotted names as keys of a value without a path ({"name.givenName": "A"}).
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from accounts.scim.errors import ScimError, invalid_path, invalid_value
from accounts.scim.filters import Node, matches, parse_filter, without_urn

MAX_OPERATIONS = 1000
PATCH_SCHEMA = "urn:ietf:params:scim:api:messages:2.0:PatchOp"
_PATH = re.compile(r"(?P<name>[A-Za-z$][\w$-]*)(?:\[(?P<filter>.*)\])?(?:\.(?P<sub>[A-Za-z$][\w$-]*))?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Operation:
    """`name` "" means the whole resource. Names in lower case."""

    op: str
    name: str
    filter: Node | None
    sub: str
    value: Any


def read_operations(document: Mapping[str, Any]) -> list[Operation]:
    """Raises ScimError."""
    listed = next((value for key, value in document.items() if key.lower() == "operations"), None)
    if not isinstance(listed, list) or not listed:
        raise ScimError(400, 'A PATCH needs "Operations".', "invalidSyntax")
    if len(listed) > MAX_OPERATIONS:
        raise ScimError(413, f"A PATCH has at most {MAX_OPERATIONS} operations.")
    return [_operation(item) for item in listed]


def apply_operation(resource: dict[str, Any], operation: Operation) -> dict[str, Any]:
    """The changed resource; the given one stays as it was."""
    changed = copy.deepcopy(resource)
    if not operation.name:
        for name, value in _pairs(operation):
            changed = apply_operation(changed, _with_path(operation.op, name, value))
        return changed
    key = _key(changed, operation.name)
    if operation.op == "remove":
        _remove(changed, key, operation)
    elif operation.filter is not None:
        _set_matching(changed, key, operation)
    elif operation.sub:
        _set_sub(changed, key, operation)
    else:
        changed[key] = _merged(changed.get(key), operation)
    return changed


def _operation(item: Any) -> Operation:
    if not isinstance(item, Mapping):
        raise ScimError(400, "An operation is an object.", "invalidSyntax")
    values = {str(key).lower(): value for key, value in item.items()}
    op = str(values.get("op", "")).lower()
    if op not in {"add", "replace", "remove"}:
        raise ScimError(400, f"{op[:20]!r} is not an operation: add, replace or remove.", "invalidSyntax")
    path = values.get("path")
    if op == "remove" and not path:
        raise ScimError(400, "A remove operation needs a path.", "noTarget")
    if op != "remove" and "value" not in values:
        raise invalid_value(f"The {op} operation has no value.")
    return _with_path(op, path or "", values.get("value"))


def _with_path(op: str, path: Any, value: Any) -> Operation:
    if not isinstance(path, str) or len(path) > 1000:
        raise invalid_path("A path is a text.")
    bare = without_urn(path.strip())
    if not bare:
        return Operation(op, "", None, "", value)
    match = _PATH.fullmatch(bare)
    if match is None:
        raise invalid_path(f"{path[:100]!r} is not a path.")
    condition = match["filter"]
    node = parse_filter(condition) if condition is not None else None
    return Operation(op, match["name"].lower(), node, (match["sub"] or "").lower(), value)


def _pairs(operation: Operation) -> list[tuple[str, Any]]:
    if not isinstance(operation.value, Mapping):
        raise invalid_value("Without a path, the value is an object of attributes.")
    # An extension's attributes stand below its URN; ours has none.
    return [(name, value) for name, value in operation.value.items() if not str(name).lower().startswith("urn:")]


def _key(values: Mapping[str, Any], name: str) -> str:
    """The name as the object has it; SCIM names have no case."""
    return next((key for key in values if key.lower() == name.lower()), name)


def _remove(changed: dict[str, Any], key: str, operation: Operation) -> None:
    current = changed.get(key)
    if operation.filter is not None:
        if not isinstance(current, list):
            return
        if operation.sub:
            for item in (item for item in current if matches(operation.filter, item)):
                item.pop(_key(item, operation.sub), None)
        else:
            changed[key] = [item for item in current if not matches(operation.filter, item)]
    elif operation.sub:
        if isinstance(current, dict):
            current.pop(_key(current, operation.sub), None)
    elif isinstance(current, list) and isinstance(operation.value, list):
        gone = [_identity(item) for item in operation.value]
        changed[key] = [item for item in current if _identity(item) not in gone]
    else:
        changed.pop(key, None)


def _set_matching(changed: dict[str, Any], key: str, operation: Operation) -> None:
    assert operation.filter is not None
    current = changed.setdefault(key, [])
    found = [item for item in current if matches(operation.filter, item)] if isinstance(current, list) else []
    if not found:
        # RFC 7644 3.5.2.3: a replace without target fails; providers rely on it making the value instead.
        found = [_made_by(operation.filter)]
        changed[key] = [*(current if isinstance(current, list) else []), *found]
    for item in found:
        if operation.sub:
            item[_key(item, operation.sub)] = operation.value
        elif isinstance(operation.value, Mapping):
            item.update(operation.value)
        else:
            raise invalid_value("The values chosen by the filter are replaced by an object.")


def _made_by(node: Node) -> dict[str, Any]:
    attribute, operator = getattr(node, "attribute", ""), getattr(node, "operator", "")
    if operator != "eq" or "." in attribute:
        raise ScimError(400, "Nothing matches the path.", "noTarget")
    return {attribute: getattr(node, "value", None)}


def _set_sub(changed: dict[str, Any], key: str, operation: Operation) -> None:
    current = changed.setdefault(key, {})
    if not isinstance(current, dict):
        raise invalid_path(f"{operation.name} has no single {operation.sub}.")
    current[_key(current, operation.sub)] = operation.value


def _merged(current: Any, operation: Operation) -> Any:
    if operation.op == "replace":
        return operation.value
    if isinstance(current, list):
        added = operation.value if isinstance(operation.value, list) else [operation.value]
        known = [_identity(item) for item in current]
        return [*current, *(item for item in added if _identity(item) not in known)]
    if isinstance(current, dict) and isinstance(operation.value, Mapping):
        return {**current, **operation.value}
    return operation.value


def _identity(item: Any) -> Any:
    return item.get("value") if isinstance(item, Mapping) else item


def unique_values(items: Sequence[Any]) -> list[str]:
    """The `value`s of a list of references, each once."""
    found = [_identity(item) for item in items]
    if not all(isinstance(value, str) and value for value in found):
        raise invalid_value('Each member is an object with a "value".')
    return list(dict.fromkeys(found))
