"""The facts a decision was made on, as JSON kept with it, and back into a Context for replay. Pure.

Kept are texts, numbers, yes/no and lists of them, the client certificate, approvals and what external evaluators said.
Claims are left out: they may hold anything a provider sends, and a log must not. A replay takes them from the identity
as it is now, and the organization's lists as they are now.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from access.selectors import Certificate, Context, NamedList, Person

# A person in thousands of groups must not make every line of the log as long.
MAX_LIST = 500
_LEFT_OUT = frozenset({"claims", "person", "lists", "certificate", "approvals", "external", "mfa"})


def facts_of(context: Context) -> dict[str, Any]:
    facts = _plain(context)
    facts["person"] = None if context.person is None else _plain(context.person)
    if context.certificate is not None:
        facts["certificate"] = asdict(context.certificate)
    if context.approvals:
        facts["approvals"] = dict(context.approvals)
    if context.external:
        facts["external"] = [[*urls, said] for urls, said in sorted(context.external.items())]
    return facts


def context_of(
    facts: Mapping[str, Any],
    claims: Mapping[str, Any] | None = None,
    lists: Mapping[str, NamedList] | None = None,
) -> Context:
    """The Context behind stored facts. Raises ValueError for facts of another shape."""
    person = facts.get("person")
    if not isinstance(person, Mapping | None):
        raise ValueError("the person of a decision is not an object")
    try:
        known = None if person is None else Person(**_fields(Person, person), claims=dict(claims or {}))
        values = {**_fields(Context, facts), "person": known, "lists": dict(lists or {}), **_evidence(facts)}
        return Context(**values)
    except (TypeError, ValueError) as error:
        raise ValueError("the facts of a decision cannot be read") from error


def _evidence(facts: Mapping[str, Any]) -> dict[str, Any]:
    certificate = facts.get("certificate")
    return {
        "certificate": None if certificate is None else Certificate(**certificate),
        "linked_applications": frozenset(facts.get("linked_applications", ())),
        "approvals": dict(facts.get("approvals", {})),
        "external": {(evaluate, keys): said for evaluate, keys, said in facts.get("external", ())},
    }


def _plain(row: Context | Person) -> dict[str, Any]:
    values = {item.name: getattr(row, item.name) for item in fields(row) if item.name not in _LEFT_OUT}
    return {name: _as_json(value) for name, value in values.items() if _is_plain(value)}


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple | list | frozenset):
        return all(isinstance(item, str | int | bool) for item in value)
    return value is None or isinstance(value, str | int | bool)


def _as_json(value: Any) -> Any:
    if isinstance(value, frozenset):
        value = sorted(value, key=str)
    return list(value[:MAX_LIST]) if isinstance(value, tuple | list) else value


def _fields(kind: type[Context] | type[Person], values: Mapping[str, Any]) -> dict[str, Any]:
    known = {item.name for item in fields(kind)} - _LEFT_OUT
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items() if name in known}
