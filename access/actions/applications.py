"""Applications: create, change, delete, revoke their tokens."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone

from access import events
from access.actions.custom_pages import check_denial
from access.actions.groups import checked_name
from access.actions.policies import as_item, checked_session, lock_application, new_policy, own_policy
from access.actions.tags import own_tags
from access.actions.token_keys import active_key
from access.application_settings import check_settings
from access.hostnames import assert_owned, split_domain
from access.models import Application, ApplicationPolicy, Policy
from access.principals import PrincipalRefused, check_principal
from access.saved_tests import guard
from access.sshcert import EXTENSIONS, MAX_LIFETIME_SECONDS, MIN_LIFETIME_SECONDS
from accounts import audit
from accounts.actions.deletions import keep_deleted
from accounts.actor import Actor
from accounts.errors import Conflict, InvalidInput
from accounts.models import DeletedObject, IdentityProvider, Organization
from accounts.second_factor import checked_config
from accounts.text import ascii_lower
from dataplane.wire.destination import DestinationError, parse_rule

# A reusable policy (row or id), {"id", "precedence"}, or an inline policy as the public API writes it.
PolicyItem = Policy | uuid.UUID | str | Mapping[str, Any]
MAX_APPLICATIONS = 500
MAX_LIST = 1000
_FACTS = (
    "name",
    "domain",
    "session_duration_seconds",
    "auto_redirect_to_identity",
    "app_launcher_visible",
    "skip_interstitial",
    "settings",
    "certificate_lifetime_seconds",
    "certificate_extensions",
    "principal_overrides",
    "bastion_destinations",
    "mfa_config",
    "require_key_proof",
)


_FLAGS = frozenset({"auto_redirect_to_identity", "app_launcher_visible", "skip_interstitial", "require_key_proof"})


@transaction.atomic
def create_application(
    organization: Organization,
    *,
    actor: Actor,
    name: str,
    domain: str,
    session_duration_seconds: int = 24 * 3600,
    allowed_provider_ids: Sequence[uuid.UUID | str] = (),
    policies: Sequence[PolicyItem] = (),
    tags: Sequence[str] = (),
    settings: Mapping[str, Any] | None = None,
    copied_from: Application | None = None,
    restored: Mapping[str, Any] | None = None,
    **flags: Any,
) -> Application:
    """`flags`: any of auto_redirect_to_identity, app_launcher_visible, skip_interstitial,
    certificate_lifetime_seconds, certificate_extensions, principal_overrides, bastion_destinations, mfa_config,
    require_key_proof. `copied_from` is only noted in the audit event. `restored`: columns of the row that came before,
    when its deletion is undone."""
    if Application.objects.for_organization(organization).count() >= MAX_APPLICATIONS:
        raise Conflict(f"An organization has at most {MAX_APPLICATIONS} applications.", code="too_many_applications")
    application = Application(organization=organization, **(restored or {}))
    _set_values(
        application,
        name=name,
        domain=domain,
        session_duration_seconds=session_duration_seconds,
        settings=settings or {},
        **flags,
    )
    providers = _own_providers(organization, allowed_provider_ids)
    _check_redirect(application, providers)
    labels = own_tags(organization, tags)
    _save(application)
    application.allowed_providers.set(providers)
    application.tags.set(labels)
    _set_policies(application, policies)
    # Made now, not at the first login: an edge that knows the application must know its tokens' keys, or it would
    # send a browser with a fresh token back to the login, round and round.
    active_key(organization)
    audit.record(
        events.APPLICATION_CREATED,
        organization=organization,
        actor=actor,
        target=application,
        new={**facts(application), **({"copied_from": str(copied_from.pk)} if copied_from else {})},
    )
    return application


@transaction.atomic
def duplicate_application(application: Application, *, actor: Actor, name: str, domain: str) -> Application:
    """A new application (and audience tag) at another domain, with copies of settings, SSH profile and own policies;
    reusable ones are attached. SSH authorities and certificates stay with the old one alone."""
    copied = {**copied_values(application), "name": name, "domain": domain}
    return create_application(application.organization, actor=actor, copied_from=application, **copied)


@transaction.atomic
def update_application(
    application: Application,
    *,
    actor: Actor,
    allowed_provider_ids: Sequence[uuid.UUID | str] | None = None,
    policies: Sequence[PolicyItem] | None = None,
    tags: Sequence[str] | None = None,
    override_reason: str = "",
    **values: Any,
) -> Application:
    """`values`: name, domain, session_duration_seconds, settings (all of them), settings_changes (keys that change)
    and the flags of create_application. What is not given, or None, stays; an empty `mfa_config` takes it away.
    `policies` and `tags` replace the whole list; the application's own policies left out are deleted.

    When a login method is no longer allowed, the tokens issued so far end: they may have come from it.
    `override_reason`: why to go on although saved tests fail (access/saved_tests.py)."""
    if values.get("domain") is not None:
        # Before the row is locked, as whoever changes who owns names does; asked again below, that is settled.
        _check_domain(application, values["domain"])
    application = lock_application(application.organization, application)
    old = facts(application)
    _set_values(application, **{key: value for key, value in values.items() if value is not None})
    before = list(application.allowed_providers.all())
    providers = before
    if allowed_provider_ids is not None:
        providers = _own_providers(application.organization, allowed_provider_ids)
        if _excludes_some(set(before), set(providers)):
            application.tokens_revoked_at = timezone.now()
    _check_redirect(application, providers)
    _save(application)
    application.allowed_providers.set(providers)
    if tags is not None:
        application.tags.set(own_tags(application.organization, tags))
    overruled: dict[str, Any] = {}
    if policies is not None:
        _set_policies(application, policies)
    if policies is not None or set(providers) != set(before):
        overruled = guard([application], override_reason=override_reason)
    audit.record(
        events.APPLICATION_UPDATED,
        organization=application.organization,
        actor=actor,
        target=application,
        old=old,
        new={**facts(application), **overruled},
    )
    return application


@transaction.atomic
def delete_application(application: Application, *, actor: Actor) -> DeletedObject:
    """Its own policies, SSH authorities (keys included) and certificates' records go with it; the log stays."""
    application = lock_application(application.organization, application)
    old, key = facts(application), application.pk
    document = kept_document(application)
    kept = keep_deleted(
        "application", application.organization, key=key, name=application.name, document=document, actor=actor
    )
    Policy.objects.filter(application_links__application=application, reusable=False).delete()
    application.delete()
    application.pk = key
    # Last: a million rows of its access log may just have let go of it, and the event locks what all organizations
    # share (raise_edge_version), so that nobody's revocation waits for that.
    audit.record(
        events.APPLICATION_DELETED, organization=application.organization, actor=actor, target=application, old=old
    )
    return kept


@transaction.atomic
def revoke_application_tokens(application: Application, *, actor: Actor) -> None:
    """Every token issued up to now stops being accepted; people with a live session get a new one silently."""
    application = lock_application(application.organization, application)
    application.tokens_revoked_at = timezone.now()
    application.save(update_fields=["tokens_revoked_at", "updated_at"])
    audit.record(
        events.APPLICATION_TOKENS_REVOKED,
        organization=application.organization,
        actor=actor,
        target=application,
        new={"revoked_up_to": application.tokens_revoked_at.isoformat()},
    )


def copied_values(application: Application) -> dict[str, Any]:
    """Arguments for create_application, name and domain included, that make the same application again."""
    links = application.policy_links.select_related("policy").order_by("precedence")
    return {
        **{name: getattr(application, name) for name in _FACTS},
        "allowed_provider_ids": [provider.pk for provider in application.allowed_providers.all()],
        "tags": [tag.name for tag in application.tags.all()],
        "policies": [{"id": link.policy_id} if link.policy.reusable else as_item(link.policy) for link in links],
    }


def kept_document(application: Application) -> dict[str, Any]:
    """What undoing the deletion brings back beside copied_values: ids, the audience tag, saved tests, and who holds
    which account name (or it would be free for another person)."""
    links = application.policy_links.select_related("policy").order_by("precedence")
    claims = application.principal_claims.order_by("pk")
    names = ("principal", "identity_id", "email", "key_id", "shared")
    return {
        **copied_values(application),
        "policies": [
            {"id": link.policy_id}
            if link.policy.reusable
            else {**as_item(link.policy), "restored_id": str(link.policy_id), "precedence": link.precedence}
            for link in links
        ],
        "aud": application.aud,
        "saved_tests": list(application.saved_tests.order_by("name").values("name", "question", "expected")),
        "principal_claims": list(claims.values(*names)),
    }


def facts(application: Application) -> dict[str, Any]:
    """What the audit log keeps of an application."""
    return {
        **{name: getattr(application, name) for name in _FACTS},
        "allowed_providers": sorted(str(pk) for pk in application.allowed_providers.values_list("pk", flat=True)),
        "tags": sorted(application.tags.values_list("name", flat=True)),
        "policies": [
            {"id": str(link.policy_id), "precedence": link.precedence} for link in application.policy_links.all()
        ],
    }


# --- values ---------------------------------------------------------------------------------------------------
def _set_values(application: Application, **values: Any) -> None:
    for name, value in values.items():
        if name == "domain":
            _set_domain(application, value)
        elif name == "settings":
            application.settings = _settings(application.organization, value)
        elif name == "settings_changes":
            application.settings = _settings(application.organization, {**application.settings, **value})
        elif name in _CHECKS:
            setattr(application, name, _CHECKS[name](value))
        elif name in _FLAGS:
            setattr(application, name, bool(value))
        else:
            raise TypeError(f"Applications have no value {name!r}.")


def _set_domain(application: Application, domain: str) -> None:
    hostname, path = _check_domain(application, domain)
    if (hostname, path) != (application.hostname, application.path):
        application.is_served = True
    application.hostname, application.path = hostname, path


def _check_domain(application: Application, domain: str) -> tuple[str, str]:
    hostname, path = split_domain(domain)
    if (hostname, path) != (application.hostname, application.path):
        assert_owned(application.organization, hostname)
    return hostname, path


def _session_seconds(seconds: int) -> int:
    checked = checked_session(seconds)
    if checked is None:
        raise _invalid("session_duration_seconds", "An application needs a session duration.")
    return checked


def _lifetime(seconds: int) -> int:
    if not MIN_LIFETIME_SECONDS <= seconds <= MAX_LIFETIME_SECONDS:
        text = f"Certificates live from {MIN_LIFETIME_SECONDS} to {MAX_LIFETIME_SECONDS} seconds."
        raise _invalid("certificate_lifetime_seconds", text)
    return seconds


def _extensions(names: Sequence[str]) -> list[str]:
    unknown = [name for name in names if name not in EXTENSIONS]
    if unknown:
        text = f"Unknown certificate extension {str(unknown[0])[:60]!r}; known are {', '.join(sorted(EXTENSIONS))}."
        raise _invalid("certificate_extensions", text)
    return sorted(set(names))


def _overrides(mapping: Mapping[str, str]) -> dict[str, str]:
    """E-mail address -> account name; both sides unique, because two people never share an account name."""
    if len(mapping) > MAX_LIST:
        raise _invalid("principal_overrides", f"At most {MAX_LIST} addresses can be mapped.")
    holders: dict[str, str] = {}
    for email, principal in mapping.items():
        if not isinstance(principal, str) or "@" not in email.strip("@") or email != email.strip():
            raise _invalid(
                "principal_overrides", f"{email[:60]!r} must be an e-mail address mapped to an account name."
            )
        try:
            check_principal(principal)
        except PrincipalRefused as error:
            raise _invalid("principal_overrides", f"{email}: {error.message}") from error
        if principal in holders:
            text = f"{holders[principal]} and {email} cannot both be {principal}: an account name has one holder."
            raise _invalid("principal_overrides", text)
        holders[principal] = email
    if len({ascii_lower(email) for email in mapping}) != len(mapping):
        raise _invalid("principal_overrides", "An e-mail address is mapped twice.")
    return dict(mapping)


def _destinations(rules: Sequence[str]) -> list[str]:
    if len(rules) > MAX_LIST:
        raise _invalid("bastion_destinations", f"At most {MAX_LIST} destinations can be listed.")
    for text in rules:
        try:
            parse_rule(text)
        except DestinationError as error:
            raise _invalid("bastion_destinations", f"{str(text)[:80]!r}: {error}.") from error
    return list(rules)


def _settings(organization: Organization, values: Mapping[str, Any]) -> dict[str, Any]:
    checked = check_settings(values)
    check_denial(organization, checked)
    return checked


_CHECKS: Mapping[str, Any] = {
    "mfa_config": lambda config: checked_config(config or None),
    "name": checked_name,
    "session_duration_seconds": _session_seconds,
    "certificate_lifetime_seconds": _lifetime,
    "certificate_extensions": _extensions,
    "principal_overrides": _overrides,
    "bastion_destinations": _destinations,
}


def _save(application: Application) -> None:
    try:
        with transaction.atomic():
            application.save()
    except IntegrityError as error:
        # Served hostnames are unique; ownership was checked, so the other one is this organization's own.
        message = f"There is already an application at {application.domain}."
        raise Conflict(message, code="application_already_exists", fields={"domain": message}) from error


def _check_redirect(application: Application, providers: Sequence[IdentityProvider]) -> None:
    if application.auto_redirect_to_identity and len(providers) != 1:
        text = "Instant Auth needs exactly one allowed login method."
        raise _invalid("auto_redirect_to_identity", text)


def _excludes_some(old: set[IdentityProvider], new: set[IdentityProvider]) -> bool:
    """Whether a login method that was allowed is not allowed by the new list. An empty list allows all."""
    return bool(new) and (not old or not old <= new)


def _own_providers(organization: Organization, ids: Sequence[uuid.UUID | str]) -> list[IdentityProvider]:
    wanted = {str(pk) for pk in ids}
    providers = list(IdentityProvider.objects.for_organization(organization).filter(pk__in=wanted))
    if len(providers) != len(wanted):
        text = "An allowed login method does not exist in this organization."
        raise InvalidInput(text, code="reference_not_found", fields={"allowed_provider_ids": text})
    return providers


# --- policies -------------------------------------------------------------------------------------------------
def _set_policies(application: Application, items: Sequence[PolicyItem]) -> None:
    """Replace the list. Own policies named by id stay own; reusable ones are linked; inline ones are created."""
    current = {str(link.policy_id): link for link in application.policy_links.select_related("policy")}
    placed = [_resolve(application, item, set(current)) for item in items]
    kept = {str(policy.pk) for policy, _ in placed}
    if len(kept) != len(placed):
        raise _invalid("policies", "A policy is listed twice.")
    places = _places([precedence for _, precedence in placed])
    ApplicationPolicy.objects.filter(application=application).delete()
    ApplicationPolicy.objects.bulk_create(
        ApplicationPolicy(application=application, policy=policy, precedence=place)
        for (policy, _), place in zip(placed, places, strict=True)
    )
    left = [link.policy_id for policy_id, link in current.items() if policy_id not in kept and not link.policy.reusable]
    Policy.objects.for_organization(application.organization).filter(pk__in=left).delete()


def _resolve(application: Application, item: PolicyItem, own: set[str]) -> tuple[Policy, int | None]:
    organization = application.organization
    if not isinstance(item, Mapping):
        item = {"id": item.pk if isinstance(item, Policy) else item}
    precedence = item.get("precedence")
    if item.get("id") is not None:
        policy = own_policy(organization, _uuid(item["id"]))
        if not policy.reusable and str(policy.pk) not in own:
            raise _invalid("policies", f'The policy "{policy.name}" belongs to another application.')
        return policy, precedence
    if "name" not in item or "decision" not in item:
        raise _invalid("policies", "A policy needs an id, or name, decision and include.")
    policy = new_policy(
        organization,
        name=item["name"],
        decision=item["decision"],
        lists=(item.get("include"), item.get("require"), item.get("exclude")),
        session_duration_seconds=item.get("session_duration_seconds"),
        reusable=False,
        terms=item.get("terms"),
        key=_uuid(item["restored_id"]) if item.get("restored_id") else None,
    )
    return policy, precedence


def _places(wanted: Sequence[int | None]) -> list[int]:
    """Given precedences stay; the others follow the one before them."""
    places: list[int] = []
    for precedence in wanted:
        places.append(precedence if precedence is not None else 1 + max(places, default=0))
    if len(set(places)) != len(places) or any(place < 1 for place in places):
        raise _invalid("policies", "policy precedences must be unique")
    return places


def _uuid(value: Any) -> uuid.UUID:
    try:
        return value if isinstance(value, uuid.UUID) else uuid.UUID(str(value))
    except ValueError as error:
        raise _invalid("policies", f"{str(value)[:60]!r} is not a policy id.") from error


def _invalid(field: str, message: str) -> InvalidInput:
    return InvalidInput(message, fields={field: message})
