"""What a policy adds to its yes, checked when it is saved (the pure side is access.terms)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from access.models import AccessList, Policy
from access.principals import PrincipalRefused, check_principal
from access.sshcert import EXTENSIONS, MAX_LIFETIME_SECONDS, MAX_PRINCIPALS, MIN_LIFETIME_SECONDS
from access.terms import MAX_USERNAMES, PLACEHOLDER, SshRights
from accounts.errors import InvalidInput
from accounts.models import Organization
from accounts.second_factor import checked_config
from dataplane.wire.destination import DestinationError, parse_rule

MAX_DESTINATIONS = 1000
MAX_TEXT = 500
MAX_PATTERN = 100
MAX_APPROVERS = 100
MAX_APPROVAL_GROUPS = 10
FIELDS = (
    "ssh",
    "purpose_justification_required",
    "purpose_justification_prompt",
    "approval_required",
    "approval_groups",
    "mfa_config",
)


def checked_terms(
    organization: Organization, decision: str, given: Mapping[str, Any], current: Policy | None = None
) -> dict[str, Any]:
    """All FIELDS of a policy with this decision; what is not given stays. Raises InvalidInput."""
    defaults = {name: getattr(current, name) for name in FIELDS} if current is not None else _NOTHING
    values = {**defaults, **{name: value for name, value in given.items() if name in FIELDS}}
    allows = decision == Policy.Decision.ALLOW
    wants = values["purpose_justification_required"] or values["approval_required"]
    if wants and not allows:
        raise _invalid("decision", "Only Allow policies can ask for a purpose or an approval.")
    if values["ssh"] is not None and decision not in {Policy.Decision.ALLOW, Policy.Decision.NON_IDENTITY}:
        raise _invalid("ssh", "SSH rights belong to Allow and Service Auth policies.")
    rights = None if values["ssh"] is None else checked_ssh(values["ssh"])
    if decision == Policy.Decision.NON_IDENTITY and rights is not None and len(rights["usernames"]) > MAX_PRINCIPALS:
        raise _invalid("ssh", f"Certificates of service tokens name all accounts: at most {MAX_PRINCIPALS}.")
    prompt = str(values["purpose_justification_prompt"] or "").strip()
    if len(prompt) > MAX_TEXT or not all(character.isprintable() for character in prompt):
        raise _invalid("purpose_justification_prompt", f"At most {MAX_TEXT} printable characters.")
    groups = [_approval_group(organization, group) for group in values["approval_groups"] or ()]
    if values["approval_required"] and not groups:
        raise _invalid("approval_groups", "Say who approves: at least one group of approvers.")
    mfa = checked_config(values["mfa_config"])
    if mfa is not None and not allows:
        raise _invalid("mfa_config", "Only Allow policies can ask for a second factor, or waive it.")
    if len(groups) > MAX_APPROVAL_GROUPS:
        raise _invalid("approval_groups", f"At most {MAX_APPROVAL_GROUPS} groups of approvers.")
    return {
        "ssh": rights,
        "purpose_justification_required": bool(values["purpose_justification_required"]),
        "purpose_justification_prompt": prompt,
        "approval_required": bool(values["approval_required"]),
        "approval_groups": groups,
        "mfa_config": mfa,
    }


_NOTHING: Mapping[str, Any] = {
    "ssh": None,
    "purpose_justification_required": False,
    "purpose_justification_prompt": "",
    "approval_required": False,
    "approval_groups": [],
    "mfa_config": None,
}


def checked_ssh(values: Mapping[str, Any]) -> dict[str, Any]:
    usernames = _texts("usernames", values.get("usernames") or [])
    if len(usernames) > MAX_USERNAMES or len(set(usernames)) != len(usernames):
        raise _invalid("ssh", f"At most {MAX_USERNAMES} accounts, each once.")
    for name in usernames:
        try:
            check_principal(name, named=True)
        except PrincipalRefused as error:
            raise _invalid("ssh", error.message) from error
    alias = values.get("allow_email_alias")
    claim = str(values.get("username_claim") or "").strip()
    pattern = str(values.get("username_pattern") or PLACEHOLDER)
    if len(claim) > MAX_TEXT or not claim.isprintable():
        raise _invalid("ssh", "The claim's name is too long or holds control characters.")
    if pattern.count(PLACEHOLDER) != 1 or len(pattern) > MAX_PATTERN or not pattern.isprintable():
        raise _invalid("ssh", f"The pattern is plain text with one {PLACEHOLDER} for the name: {PLACEHOLDER}@corp.tech")
    takes_alias = not (usernames or claim) if alias is None else bool(alias)
    if not (usernames or claim or takes_alias):
        raise _invalid("ssh", "Nobody would have an account: name accounts, a claim, or allow the e-mail's local part.")
    rights = SshRights(
        usernames=tuple(usernames),
        allow_email_alias=takes_alias,
        username_claim=claim,
        username_pattern=pattern,
        certificate_lifetime_seconds=_lifetime(values.get("certificate_lifetime_seconds")),
        extensions=_extensions(values.get("extensions")),
        bastion_destinations=_destinations(values.get("bastion_destinations")),
    )
    return rights.as_dict()


def _lifetime(seconds: Any) -> int | None:
    if seconds is None:
        return None
    if not isinstance(seconds, int) or not MIN_LIFETIME_SECONDS <= seconds <= MAX_LIFETIME_SECONDS:
        raise _invalid("ssh", f"Certificates live from {MIN_LIFETIME_SECONDS} to {MAX_LIFETIME_SECONDS} seconds.")
    return seconds


def _extensions(names: Any) -> tuple[str, ...] | None:
    if names is None:
        return None
    known = _texts("extensions", names)
    unknown = [name for name in known if name not in EXTENSIONS]
    if unknown:
        raise _invalid("ssh", f"Unknown certificate extension {unknown[0][:60]!r}.")
    return tuple(sorted(set(known)))


def _destinations(rules: Any) -> tuple[str, ...] | None:
    if rules is None:
        return None
    texts = _texts("bastion_destinations", rules)
    if len(texts) > MAX_DESTINATIONS:
        raise _invalid("ssh", f"At most {MAX_DESTINATIONS} destinations.")
    for text in texts:
        try:
            parse_rule(text)
        except DestinationError as error:
            raise _invalid("ssh", f"{text[:80]!r}: {error}.") from error
    return tuple(texts)


def _approval_group(organization: Organization, group: Any) -> dict[str, Any]:
    if not isinstance(group, Mapping):
        raise _invalid("approval_groups", "A group of approvers is an object.")
    needed = group.get("approvals_needed")
    if isinstance(needed, float) and needed.is_integer():
        needed = int(needed)
    addresses = _texts("approval_groups", group.get("email_addresses") or [])
    list_id = str(group.get("email_list_uuid") or "")
    if not isinstance(needed, int) or isinstance(needed, bool) or not 1 <= needed <= MAX_APPROVERS:
        raise _invalid("approval_groups", "Each group of approvers needs at least one approval.")
    if len(addresses) > MAX_APPROVERS or not all(address.count("@") == 1 for address in addresses):
        raise _invalid("approval_groups", "Approvers are e-mail addresses.")
    if bool(addresses) == bool(list_id):
        raise _invalid("approval_groups", "Approvers are either e-mail addresses or one e-mail list.")
    if addresses and needed > len(set(addresses)):
        raise _invalid("approval_groups", f"{needed} approvals are wanted from {len(set(addresses))} approvers.")
    if not list_id:
        return {"approvals_needed": needed, "email_addresses": addresses}
    lists = AccessList.objects.for_organization(organization).filter(type=AccessList.Type.EMAIL)
    if list_id not in {str(pk) for pk in lists.values_list("pk", flat=True)}:
        raise _invalid("approval_groups", "There is no such e-mail list in this organization.")
    return {"approvals_needed": needed, "email_list_uuid": list_id}


def _texts(name: str, values: Any) -> list[str]:
    if not isinstance(values, Sequence) or isinstance(values, str) or not all(isinstance(v, str) for v in values):
        raise _invalid("ssh" if name != "approval_groups" else name, f"{name} must be a list of texts.")
    return [value.strip() for value in values]


def _invalid(field: str, message: str) -> InvalidInput:
    return InvalidInput(message, code="invalid_policy_terms", fields={field: message})
