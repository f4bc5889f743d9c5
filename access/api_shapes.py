"""How applications, policies, groups and service tokens look in /client/v4, and what their bodies may hold.

Defaults come back as false, null or []: Terraform reports every invented value as drift (product.md 3.3).
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from ninja import Field, Schema

from access.models import Application, ApplicationPolicy, Group, Policy, ServiceToken
from accounts.api_base import ApiRequest, rfc3339
from accounts.durations import FOREVER, format_duration, parse_duration
from accounts.errors import InvalidInput
from accounts.second_factor import public_config

Rules = list[dict[str, Any]]
Name = Field(min_length=1, max_length=350)


def override_reason(request: ApiRequest) -> str:
    """Why to save although saved tests fail (access/saved_tests.py): a header, because the public bodies have no place
    for it and Terraform sends only those."""
    return str(request.headers.get("Sallyport-Override-Reason", ""))


# --- Groups and policies --------------------------------------------------------------------------------------
class GroupBody(Schema):
    name: str = Name
    include: Rules
    require: Rules | None = None
    exclude: Rules | None = None
    is_default: bool = False


class GroupResult(Schema):
    id: str
    name: str
    include: Rules
    require: Rules
    exclude: Rules
    is_default: bool
    created_at: str | None
    updated_at: str | None


class UnsupportedPolicyFields(Schema):
    """Public policy fields this product does not enforce: accepted at their defaults, otherwise refused."""

    isolation_required: bool = False


class ApprovalGroup(Schema):
    """Either addresses or the id of an e-mail list."""

    approvals_needed: float = Field(ge=1, le=100)
    email_addresses: list[str] | None = None
    email_list_uuid: str | None = None


class SshRules(Schema):
    """`usernames` and `allow_email_alias` are public; the rest is ours. Null: as the application says."""

    usernames: list[str] = []
    allow_email_alias: bool | None = None
    username_claim: str | None = None
    username_pattern: str | None = None
    certificate_lifetime: str | None = None
    extensions: list[str] | None = None
    bastion_destinations: list[str] | None = None


class ConnectionRules(Schema):
    ssh: SshRules | None = None
    rdp: dict[str, Any] | None = None


class MfaConfig(Schema):
    """Second factor: of a policy, or of an application. Null durations and lists: as the next wider place says."""

    allowed_authenticators: list[str] | None = None
    mfa_disabled: bool | None = None
    session_duration: str | None = None


class PolicyTerms(UnsupportedPolicyFields):
    approval_required: bool = False
    approval_groups: list[ApprovalGroup] = []
    purpose_justification_required: bool = False
    purpose_justification_prompt: str | None = None
    connection_rules: ConnectionRules | None = None
    mfa_config: MfaConfig | None = None


class PolicyBody(PolicyTerms):
    name: str = Name
    decision: str = Field(max_length=16)
    include: Rules
    require: Rules | None = None
    exclude: Rules | None = None
    session_duration: str | None = None
    precedence: int | None = Field(None, ge=1, le=2**31 - 1)


class PolicyResult(PolicyTerms):
    id: str
    name: str
    decision: str
    include: Rules
    require: Rules
    exclude: Rules
    session_duration: str | None
    created_at: str | None
    updated_at: str | None
    reusable: bool
    # Of the application the policy is shown in; null in the account-wide list.
    precedence: int | None = None
    app_count: int | None = None


def shape_group(group: Group) -> GroupResult:
    return GroupResult(
        id=str(group.pk),
        name=group.name,
        include=group.include,
        require=group.require,
        exclude=group.exclude,
        is_default=group.is_default,
        created_at=rfc3339(group.created_at),
        updated_at=rfc3339(group.updated_at),
    )


def group_values(body: GroupBody) -> dict[str, Any]:
    """Arguments for create_group and update_group."""
    return {**body.model_dump(), "require": body.require or [], "exclude": body.exclude or []}


def shape_policy(policy: Policy, *, precedence: int | None = None, app_count: int | None = None) -> PolicyResult:
    seconds = policy.session_duration_seconds
    return PolicyResult(
        id=str(policy.pk),
        name=policy.name,
        decision=policy.decision,
        include=policy.include,
        require=policy.require,
        exclude=policy.exclude,
        session_duration=None if seconds is None else format_duration(seconds),
        created_at=rfc3339(policy.created_at),
        updated_at=rfc3339(policy.updated_at),
        reusable=policy.reusable,
        precedence=precedence,
        app_count=app_count,
        approval_required=policy.approval_required,
        approval_groups=[ApprovalGroup(**group) for group in policy.approval_groups],
        purpose_justification_required=policy.purpose_justification_required,
        purpose_justification_prompt=policy.purpose_justification_prompt or None,
        mfa_config=shape_mfa(policy.mfa_config),
        connection_rules=None if policy.ssh is None else ConnectionRules(ssh=_shape_ssh(policy.ssh)),
    )


def shape_mfa(stored: dict[str, Any] | None) -> MfaConfig | None:
    shown = public_config(stored)
    return None if shown is None else MfaConfig(**shown)


def _shape_ssh(stored: dict[str, Any]) -> SshRules:
    seconds = stored["certificate_lifetime_seconds"]
    return SshRules(
        usernames=stored["usernames"],
        allow_email_alias=stored["allow_email_alias"],
        username_claim=stored["username_claim"] or None,
        username_pattern=stored["username_pattern"] if stored["username_claim"] else None,
        certificate_lifetime=None if seconds is None else format_duration(seconds),
        extensions=stored["extensions"],
        bastion_destinations=stored["bastion_destinations"],
    )


def shape_link(link: ApplicationPolicy) -> PolicyResult:
    return shape_policy(link.policy, precedence=link.precedence)


def policy_values(body: PolicyBody) -> dict[str, Any]:
    """Arguments for create_policy and update_policy, the application apart."""
    refuse_unsupported(body)
    return {
        "name": body.name,
        "decision": body.decision,
        "include": body.include,
        "require": body.require or [],
        "exclude": body.exclude or [],
        "session_duration_seconds": optional_seconds(body.session_duration),
        "terms": terms_of(body),
    }


def terms_of(body: PolicyTerms) -> dict[str, Any]:
    """For access.policy_terms."""
    rules = body.connection_rules
    if rules is not None and rules.rdp:
        raise InvalidInput("connection_rules.rdp is not enforced by this product.", fields={"connection_rules": "rdp"})
    ssh = None
    if rules is not None and rules.ssh is not None:
        ssh = rules.ssh.model_dump(exclude={"certificate_lifetime"})
        lifetime = rules.ssh.certificate_lifetime
        ssh["certificate_lifetime_seconds"] = (
            parse_duration(lifetime, field="connection_rules.ssh.certificate_lifetime") if lifetime else None
        )
    return {
        "ssh": ssh,
        "approval_required": body.approval_required,
        "approval_groups": [group.model_dump(exclude_none=True) for group in body.approval_groups],
        "purpose_justification_required": body.purpose_justification_required,
        "purpose_justification_prompt": body.purpose_justification_prompt or "",
        "mfa_config": None if body.mfa_config is None else body.mfa_config.model_dump(),
    }


def refuse_unsupported(body: UnsupportedPolicyFields) -> None:
    for name in UnsupportedPolicyFields.model_fields:
        if getattr(body, name):
            raise InvalidInput(f"{name} is not enforced by this product, so it is refused.", fields={name: "Refused."})


def optional_seconds(text: str | None) -> int | None:
    return parse_duration(text, field="session_duration") if text else None


# --- Service tokens -------------------------------------------------------------------------------------------
class ServiceTokenBody(Schema):
    name: str = Name
    duration: str = "8760h"
    enabled: bool = True
    # A new token has one secret, of version 1; declarative clients send these with every call.
    client_secret_version: int | None = None
    previous_client_secret_expires_at: datetime | None = None


class RotateBody(Schema):
    previous_client_secret_expires_at: datetime | None = None


class ServiceTokenChanges(RotateBody):
    name: str | None = Field(None, min_length=1, max_length=350)
    duration: str | None = None
    enabled: bool | None = None
    # One more than the present version asks for a rotation.
    client_secret_version: int | None = None


class ServiceTokenResult(Schema):
    id: str
    name: str
    client_id: str
    duration: str
    expires_at: str | None
    enabled: bool
    client_secret_version: int
    previous_client_secret_expires_at: str | None
    last_seen_at: str | None
    created_at: str | None
    updated_at: str | None


class NewServiceTokenResult(ServiceTokenResult):
    """`client_secret` is shown in this answer and never again."""

    client_secret: str


class ChangedServiceTokenResult(ServiceTokenResult):
    """`client_secret` only when the call rotated it."""

    client_secret: str | None = None


def shape_changed_service_token(token: ServiceToken, secret: str | None) -> ChangedServiceTokenResult:
    return ChangedServiceTokenResult(**_service_token_values(token), client_secret=secret)


def shape_service_token(token: ServiceToken) -> ServiceTokenResult:
    return ServiceTokenResult(**_service_token_values(token))


def shape_new_service_token(token: ServiceToken, secret: str) -> NewServiceTokenResult:
    return NewServiceTokenResult(**_service_token_values(token), client_secret=secret)


def _service_token_values(token: ServiceToken) -> dict[str, Any]:
    return {
        "id": str(token.pk),
        "name": token.name,
        "client_id": token.client_id,
        "duration": FOREVER if token.duration_seconds is None else format_duration(token.duration_seconds),
        "expires_at": rfc3339(token.expires_at),
        "enabled": token.enabled,
        "client_secret_version": token.secret_version,
        "previous_client_secret_expires_at": rfc3339(token.previous_secret_expires_at),
        "last_seen_at": rfc3339(token.last_used_at),
        "created_at": rfc3339(token.created_at),
        "updated_at": rfc3339(token.updated_at),
    }


def token_seconds(duration: str) -> int | None:
    """None: the token does not expire."""
    return None if duration == FOREVER else parse_duration(duration, field="duration")


# --- Applications: see access/api_application_shapes.py -------------------------------------------------------
def session_text(application: Application) -> str:
    """As it was sent, while that still means the stored number of seconds ("1440m" stays "1440m")."""
    sent = application.settings.get("session_duration")
    seconds = application.session_duration_seconds
    if isinstance(sent, str) and parse_duration(sent, field="session_duration") == seconds:
        return sent
    return format_duration(seconds)
