"""Who approves temporary access under a policy, and whether they have agreed."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from access.models import AccessList, ApprovalRequest
from accounts.text import ascii_lower


def resolved_groups(organization_id: str, groups: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Lists become their addresses of this moment: who was asked, and who could answer in the end, stays on record."""
    resolved = []
    for group in groups:
        emails = list(group.get("email_addresses") or [])
        if group.get("email_list_uuid"):
            rows = AccessList.objects.filter(organization_id=organization_id, pk=group["email_list_uuid"])
            emails = [item["value"] for row in rows for item in row.items]
        addresses = sorted({ascii_lower(email) for email in emails})
        resolved.append({"approvals_needed": group["approvals_needed"], "emails": addresses})
    return resolved


def is_agreed(groups: Sequence[Mapping[str, Any]], agreed: Collection[str]) -> bool:
    """Whether every group has as many approvals as it wants. Without groups nobody approves."""
    known = set(agreed)
    return bool(groups) and all(len(known & set(group["emails"])) >= group["approvals_needed"] for group in groups)


def still_granted(
    requests: Iterable[ApprovalRequest], groups: Mapping[str, Iterable[Mapping[str, Any]]]
) -> list[ApprovalRequest]:
    """Those that rest on approvals which would be enough today: who is no approver of the policy any more (`groups` by
    policy id, as they are now) vouches for nobody. `requests` come with their votes."""
    held = []
    known: dict[str, list[dict[str, Any]]] = {}
    for request in requests:
        policy_id = str(request.policy_id)
        if policy_id not in known:
            known[policy_id] = resolved_groups(request.organization_id, groups.get(policy_id, ()))
        if is_agreed(known[policy_id], {vote.email for vote in request.votes.all() if vote.approves}):
            held.append(request)
    return held
