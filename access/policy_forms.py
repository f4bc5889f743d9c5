"""The form of a policy: what it decides, for how long, with which SSH rights, and what it asks for before its yes."""

from __future__ import annotations

from typing import Any

from django import forms

from access.forms import (
    APPLICATION_SESSION_CHOICES,
    CERTIFICATE_CHOICES,
    EXTENSION_TEXTS,
    OverridableForm,
    set_choices,
)
from access.models import DEFAULT_EXTENSIONS, AccessList, Policy
from access.terms import PLACEHOLDER, SshRights
from accounts.forms import LinesField, duration_choices
from accounts.mfa_forms import MfaForm
from accounts.models import Organization

_LIST_WORD = "list "


class PolicyForm(OverridableForm, MfaForm):
    """A policy apart from its rules, which the rule builder reads."""

    inherited_from = "the application"

    name = forms.CharField(max_length=350, label="Policy name", help_text="Appears in logs: say who this lets in.")
    decision = forms.ChoiceField(label="Action", choices=Policy.Decision.choices, initial=Policy.Decision.ALLOW)
    session_duration_seconds = forms.TypedChoiceField(
        coerce=int,
        empty_value=None,
        required=False,
        label="Session duration",
        help_text="For people this policy lets in.",
    )
    # --- before the yes
    purpose_justification_required = forms.BooleanField(
        required=False,
        label="Ask what access is for",
        help_text="Once per session; the answer is kept in the access log.",
    )
    purpose_justification_prompt = forms.CharField(
        required=False, max_length=500, label="Question", help_text="Empty: What do you need access for?"
    )
    approval_required = forms.BooleanField(
        required=False,
        label="Access must be approved, for a limited time",
        help_text="People ask for up to 24 hours; approvers get a mail and answer on your team domain.",
    )
    approval_groups = forms.CharField(
        required=False,
        max_length=20_000,
        label="Approvers",
        widget=forms.Textarea(attrs={"rows": 3, "class": "mono", "spellcheck": "false", "autocapitalize": "none"}),
        help_text="One group per line, with the number of approvals wanted from it, for example "
        "1: dora@widgetcorp.tech, eve@widgetcorp.tech or 2: list Managers. Every group must agree.",
    )
    # --- SSH rights
    ssh_own = forms.BooleanField(
        required=False,
        label="This policy has SSH rights of its own",
        help_text="They win over the application's. Unticked, the fields below count for nothing.",
    )
    ssh_usernames = LinesField(
        required=False,
        label="Accounts by name",
        help_text="One per line. Everyone this policy lets in may use them; logs still name the person. With Service "
        "Auth these alone are the accounts of service tokens, and no person gets them.",
    )
    ssh_allow_email_alias = forms.BooleanField(
        required=False, initial=True, label="Also the part of the e-mail before @", help_text="Held by one person each."
    )
    ssh_username_claim = forms.CharField(
        required=False,
        max_length=500,
        label="Accounts from a claim or attribute",
        help_text="Its name, as the login method sends it. One value or several.",
    )
    ssh_username_pattern = forms.CharField(
        required=False,
        max_length=100,
        initial=PLACEHOLDER,
        label="Pattern of the value",
        help_text="{} stands for the account, everything else is literal: {}@widgetcorp.tech",
    )
    ssh_certificate_lifetime_seconds = forms.TypedChoiceField(
        coerce=int, empty_value=None, required=False, label="Certificate lifetime"
    )
    ssh_extensions_own = forms.BooleanField(required=False, label="Say what sessions may use")
    ssh_extensions = forms.MultipleChoiceField(
        required=False,
        label="Sessions may use",
        choices=EXTENSION_TEXTS,
        widget=forms.CheckboxSelectMultiple,
        initial=list(DEFAULT_EXTENSIONS),
    )
    ssh_destinations_own = forms.BooleanField(required=False, label="Say where a bastion may go")
    ssh_bastion_destinations = LinesField(
        required=False,
        label="Bastion destinations",
        help_text="One host:port or network:port per line. Empty means nowhere.",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        initial = self.initial or {}
        choices = duration_choices(APPLICATION_SESSION_CHOICES, initial.get("session_duration_seconds"))
        named = [(value, "Immediate: a login for each connection" if value == "0" else text) for value, text in choices]
        set_choices(self.fields["session_duration_seconds"], [("", "As the application says"), *named])
        lifetimes = duration_choices(CERTIFICATE_CHOICES, initial.get("ssh_certificate_lifetime_seconds"))
        set_choices(self.fields["ssh_certificate_lifetime_seconds"], [("", "As the application says"), *lifetimes])

    def clean_approval_groups(self) -> list[dict[str, Any]]:
        """Lists by name, in `list`; `values` puts ids in their place."""
        return [_read_group(line) for line in self.cleaned_data["approval_groups"].splitlines() if line.strip()]

    def values(self, organization: Organization) -> dict[str, Any]:
        """Arguments for the policy actions. Only after is_valid()."""
        data = self.cleaned_data
        return {
            "name": data["name"],
            "decision": data["decision"],
            "session_duration_seconds": data["session_duration_seconds"],
            "override_reason": data["override_reason"],
            "terms": {
                "ssh": self._ssh() if data["ssh_own"] else None,
                "purpose_justification_required": data["purpose_justification_required"],
                "purpose_justification_prompt": data["purpose_justification_prompt"],
                "approval_required": data["approval_required"],
                "approval_groups": [_with_id(organization, group) for group in data["approval_groups"]],
                "mfa_config": self.mfa_config(),
            },
        }

    def _ssh(self) -> dict[str, Any]:
        data = self.cleaned_data
        return {
            "usernames": data["ssh_usernames"],
            "allow_email_alias": data["ssh_allow_email_alias"],
            "username_claim": data["ssh_username_claim"],
            "username_pattern": data["ssh_username_pattern"] or PLACEHOLDER,
            "certificate_lifetime_seconds": data["ssh_certificate_lifetime_seconds"],
            "extensions": data["ssh_extensions"] if data["ssh_extensions_own"] else None,
            "bastion_destinations": data["ssh_bastion_destinations"] if data["ssh_destinations_own"] else None,
        }

    @staticmethod
    def initial_of(policy: Policy) -> dict[str, Any]:
        rights = SshRights.from_dict(policy.ssh) if policy.ssh is not None else SshRights()
        own_extensions, own_destinations = rights.extensions, rights.bastion_destinations
        return {
            "name": policy.name,
            "decision": policy.decision,
            "session_duration_seconds": policy.session_duration_seconds,
            "purpose_justification_required": policy.purpose_justification_required,
            "purpose_justification_prompt": policy.purpose_justification_prompt,
            "approval_required": policy.approval_required,
            "approval_groups": "\n".join(_group_line(policy.organization, group) for group in policy.approval_groups),
            **MfaForm.mfa_initial(policy.mfa_config),
            "ssh_own": policy.ssh is not None,
            "ssh_usernames": list(rights.usernames),
            "ssh_allow_email_alias": rights.allow_email_alias,
            "ssh_username_claim": rights.username_claim,
            "ssh_username_pattern": rights.username_pattern,
            "ssh_certificate_lifetime_seconds": rights.certificate_lifetime_seconds,
            "ssh_extensions_own": own_extensions is not None,
            "ssh_extensions": list(DEFAULT_EXTENSIONS if own_extensions is None else own_extensions),
            "ssh_destinations_own": own_destinations is not None,
            "ssh_bastion_destinations": list(own_destinations or ()),
        }


def _read_group(line: str) -> dict[str, Any]:
    number, colon, rest = line.partition(":")
    if not colon or not number.strip().isdecimal() or not rest.strip():
        raise forms.ValidationError(f"{line[:80]}: write a number, a colon, and who approves.")
    group: dict[str, Any] = {"approvals_needed": int(number)}
    who = rest.strip()
    if who.lower().startswith(_LIST_WORD):
        return {**group, "list": who[len(_LIST_WORD) :].strip()}
    addresses = [address.strip() for address in who.replace(";", ",").split(",")]
    return {**group, "email_addresses": [address for address in addresses if address]}


def _with_id(organization: Organization, group: dict[str, Any]) -> dict[str, Any]:
    """An unknown name stays one that no list has as its id: the action refuses it."""
    if "list" not in group:
        return group
    rows = AccessList.objects.for_organization(organization).filter(name=group["list"])
    row = rows.first()
    identifier = str(row.pk) if row is not None else group["list"]
    return {"approvals_needed": group["approvals_needed"], "email_list_uuid": identifier}


def _group_line(organization: Organization, group: dict[str, Any]) -> str:
    number = group["approvals_needed"]
    list_id = group.get("email_list_uuid")
    if not list_id:
        return f"{number}: {', '.join(group.get('email_addresses', []))}"
    row = AccessList.objects.for_organization(organization).filter(pk=list_id).first()
    return f"{number}: {_LIST_WORD}{row.name if row is not None else list_id}"
