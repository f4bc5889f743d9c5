"""Policies and groups of the database, ready to be judged and kept for as long as their rows stay the same.

A row can be given, or its text (accounts.prepared.RowText): where hundreds of rows are looked through for one request,
only the changed ones are read.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import Any

from access.kept import Kept, KeptTexts
from access.models import ApplicationPolicy
from access.models import Group as GroupRow
from access.models import Policy as PolicyRow
from access.rulesets import Group, Policy, parse_group, parse_policy
from access.terms import SshRights, Terms
from accounts.models import Organization
from accounts.prepared import Parameter, PreparedValues, RowText

log = logging.getLogger(__name__)
_GROUPS = PreparedValues(
    lambda: (
        GroupRow.objects.filter(organization=Parameter("organization", Organization._meta.pk))
        .order_by()
        .values_list("pk", RowText(GroupRow))
    )
)
_POLICIES = PreparedValues(
    lambda: (
        PolicyRow.objects.filter(organization=Parameter("organization", Organization._meta.pk))
        .order_by()
        .values_list("pk", RowText(PolicyRow))
    )
)


def policy_of(link: ApplicationPolicy) -> Policy:
    return _KEPT_POLICIES.of((link.policy_id, link.precedence), link)


def group_of(row: GroupRow) -> Group:
    return _KEPT_GROUPS.of(row.pk, row)


def groups_of(organization_id: str) -> dict[str, Group]:
    """All of an organization, by id: one query, and one more when some were edited since the last time."""
    texts = _GROUPS.all(organization=organization_id)
    found = {str(key): _TEXT_GROUPS.known(key, text) for key, text in texts}
    edited = [key for key, group in found.items() if group is None]
    if edited:
        rows = GroupRow.objects.filter(organization_id=organization_id, pk__in=edited).order_by()
        for row in rows.annotate(text=RowText(GroupRow)):
            found[str(row.pk)] = _TEXT_GROUPS.keep(row.pk, row.text, _read_group(row))
    return {key: group for key, group in found.items() if group is not None}


# A policy and its precedence. Numbers instead of UUIDs, which are slow as keys, and there are thousands.
Place = tuple[int, int]


class PolicyShelf:
    """The policies of an organization as they were at one moment; made ready when they are asked for."""

    def __init__(self, organization_id: str) -> None:
        self._organization_id = organization_id
        texts = _POLICIES.all(organization=organization_id)
        self._texts: dict[int, str] = {key.int: text for key, text in texts}

    def get(self, places: Sequence[Place]) -> list[Policy | None]:
        """In the same order. None for one that cannot be read or was deleted meanwhile: whoever meets it refuses."""
        found = [_TEXT_POLICIES.known(place, self._texts.get(place[0])) for place in places]
        edited = [index for index, policy in enumerate(found) if policy is None]
        rows = self._rows({places[index][0] for index in edited}) if edited else {}
        for index in edited:
            row = rows.get(places[index][0])
            found[index] = _made(row, places[index]) if row is not None else None
        return found

    def _rows(self, keys: Iterable[int]) -> dict[int, Any]:
        wanted = [uuid.UUID(int=key) for key in keys]
        rows = PolicyRow.objects.filter(organization_id=self._organization_id, pk__in=wanted).order_by()
        return {row.pk.int: row for row in rows.annotate(text=RowText(PolicyRow))}


def _made(row: Any, place: Place) -> Policy | None:
    try:
        return _TEXT_POLICIES.keep(place, row.text, _read_policy(row, place[1]))
    except Exception:
        log.exception("policy cannot be read", extra={"policy_id": str(row.pk)})
        return None


def _read_policy(policy: PolicyRow, precedence: int) -> Policy:
    return parse_policy(
        id=str(policy.pk),
        name=policy.name,
        decision=policy.decision,
        precedence=precedence,
        include=policy.include,
        require=policy.require,
        exclude=policy.exclude,
        session_duration_seconds=policy.session_duration_seconds,
        version=policy.updated_at.isoformat(),
        terms=Terms(
            ssh=None if policy.ssh is None else SshRights.from_dict(policy.ssh),
            needs_purpose=policy.purpose_justification_required,
            purpose_prompt=policy.purpose_justification_prompt,
            needs_approval=policy.approval_required,
            approval_groups=tuple(policy.approval_groups),
            mfa_config=policy.mfa_config,
        ),
    )


def _read_group(row: GroupRow) -> Group:
    return parse_group(
        id=str(row.pk),
        name=row.name,
        include=row.include,
        require=row.require,
        exclude=row.exclude,
        version=row.updated_at.isoformat(),
    )


# Every column: one that is added later is compared from its first day.
_policy_columns = attrgetter(*(column.attname for column in PolicyRow._meta.concrete_fields))
_group_columns = attrgetter(*(column.attname for column in GroupRow._meta.concrete_fields))
_KEPT_POLICIES: Kept[ApplicationPolicy, Policy] = Kept(
    lambda link: _read_policy(link.policy, link.precedence),
    lambda link: _policy_columns(link.policy),
    lambda policy: policy.lists.size,
)
_KEPT_GROUPS: Kept[GroupRow, Group] = Kept(_read_group, _group_columns, lambda group: group.lists.size)
_TEXT_POLICIES = KeptTexts[Policy](lambda policy: policy.lists.size)
_TEXT_GROUPS = KeptTexts[Group](lambda group: group.lists.size)
