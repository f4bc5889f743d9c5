"""What SCIM's word does to identities: who may log in, and in which groups they are.

Groups that the provider manages over SCIM are those it says, whatever older logins brought; groups SCIM knows nothing
of stay as the login gave them. Every function is part of an action with an event of its own, and runs in its
transaction, so that two changes of one person take effect in the order in which their rows were locked. Where they
say that something changed, the action's event makes edges learn it (audit.record, edges_learn).
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from django.db.models import Q
from django.utils import timezone

from accounts import scim_rows
from accounts.actions.sessions import end_sessions
from accounts.models import Identity, IdentityProvider, ScimGroup, ScimMembership, ScimUser

_CHUNK = 500
_GROUPS_CLAIM = "groups"
# Entra ID names groups in its tokens by object id, which its SCIM client sends as externalId.
_TYPES_WITH_GROUP_IDS = frozenset({"azureAD"})


def labels_of(group: ScimGroup, provider: IdentityProvider) -> list[str]:
    """What policies may call the group."""
    with_id = provider.type in _TYPES_WITH_GROUP_IDS and group.external_id
    return [group.display_name, group.external_id] if with_id else [group.display_name]


def link_identity(user: ScimUser) -> None:
    """Find the identity that is this person, if there is one already: same provider, same subject, or the address
    that the provider confirmed at a login. Never another provider's, and never one that is linked elsewhere."""
    if user.identity_id is not None:
        return
    free = Identity.objects.select_for_update(of=("self",), no_key=True).filter(
        provider_id=user.provider_id, scim_user=None
    )
    found = free.filter(subject=user.external_id).first() if user.external_id else None
    if found is None and user.email:
        same = list(free.filter(email=user.email, email_verified=True)[:2])
        found = same[0] if len(same) == 1 else None
    if found is not None:
        user.identity = found
        user.save(update_fields=["identity", "updated_at"])


def lock_user_of_login(provider: IdentityProvider, *, subject: str, confirmed_email: str) -> ScimUser | None:
    """The provisioned person who logs in right now, if SCIM knows them. Locked before the identity is, as SCIM's own
    changes lock: the two never wait for each other."""
    if not provider.scim_enabled:
        return None
    rows = ScimUser.objects.select_for_update(of=("self",), no_key=True).filter(provider=provider)
    known = rows.filter(identity__subject=subject).first() or rows.filter(identity=None, external_id=subject).first()
    if known is not None or not confirmed_email:
        return known
    same = list(rows.filter(identity=None, email=confirmed_email)[:2])
    return same[0] if len(same) == 1 else None


def link_login(user: ScimUser | None, identity: Identity) -> None:
    if user is not None and user.identity_id is None:
        user.identity = identity
        user.save(update_fields=["identity", "updated_at"])


def may_log_in(user: ScimUser | None, provider: IdentityProvider) -> bool:
    return user is None or user.active or not provider.scim_user_deprovision


def groups_at_login(user: ScimUser | None, provider: IdentityProvider, given: Sequence[str]) -> list[str]:
    """The groups of the login, corrected by what SCIM says."""
    if user is None or provider.scim_identity_update_behavior == IdentityProvider.ScimBehavior.NO_ACTION:
        return list(given)
    return _merged(given, _managed_labels(provider), _labels_by_user([user.pk], provider).get(user.pk, []))


def claims_at_login(user: ScimUser | None, provider: IdentityProvider, claims: Mapping[str, Any]) -> dict[str, Any]:
    """Rules may ask for the groups claim by name, so it says the same."""
    if user is None or provider.scim_identity_update_behavior == IdentityProvider.ScimBehavior.NO_ACTION:
        return dict(claims)
    return _merged_claims(claims, _managed_labels(provider), _labels_by_user([user.pk], provider).get(user.pk, []))


def apply_activity(user: ScimUser, provider: IdentityProvider) -> int | None:
    """Disable or enable the identity as `active` says. Returns how many sessions ended; None when nothing changed."""
    identity = scim_rows.locked_identity(user.identity_id)
    if identity is None or not provider.scim_user_deprovision:
        return None
    if not user.active and identity.disabled_at is None:
        return scim_rows.disable_identity(identity, now=timezone.now())
    if user.active and identity.disabled_at is not None and identity.disabled_by_scim:
        identity.disabled_at, identity.disabled_by_scim = None, False
        identity.save(update_fields=["disabled_at", "disabled_by_scim"])
        return 0
    return None


def apply_deletion(user: ScimUser, provider: IdentityProvider) -> int | None:
    """A deleted person is a deactivated one, until the provider makes them anew."""
    identity = scim_rows.locked_identity(user.identity_id)
    if identity is None or identity.disabled_at is not None or not provider.scim_user_deprovision:
        return None
    return scim_rows.disable_identity(identity, now=timezone.now())


def apply_groups(users: Collection[uuid.UUID], provider: IdentityProvider, *, gone: Iterable[str] = ()) -> int:
    """Bring the groups of these ScimUsers' identities up to date; `gone` are labels that managed groups had until
    now. Returns how many identities changed."""
    if not users or provider.scim_identity_update_behavior == IdentityProvider.ScimBehavior.NO_ACTION:
        return 0
    managed = _managed_labels(provider) | set(gone)
    ids = list(users)
    changed: list[Identity] = []
    for start in range(0, len(ids), _CHUNK):
        chunk = ids[start : start + _CHUNK]
        labels = _labels_by_user(chunk, provider)
        rows = Identity.objects.select_for_update(of=("self",), no_key=True).filter(scim_user__in=chunk).order_by("pk")
        for identity in rows.select_related("scim_user"):
            groups = _merged(identity.groups, managed, labels.get(identity.scim_user.pk, []))
            claims = _merged_claims(identity.claims, managed, labels.get(identity.scim_user.pk, []))
            if set(groups) != set(identity.groups) or claims != identity.claims:
                identity.groups, identity.claims = groups, claims
                changed.append(identity)
    if not changed:
        return 0
    Identity.objects.bulk_update(changed, ["groups", "claims"], batch_size=_CHUNK)
    if provider.scim_identity_update_behavior == IdentityProvider.ScimBehavior.REAUTH:
        for start in range(0, len(changed), _CHUNK):
            end_sessions(*changed[start : start + _CHUNK])
    return len(changed)


def _managed_labels(provider: IdentityProvider) -> set[str]:
    rows = ScimGroup.objects.filter(provider=provider).only("display_name", "external_id")
    return {label for group in rows for label in labels_of(group, provider)}


def _labels_by_user(users: Sequence[uuid.UUID], provider: IdentityProvider) -> dict[uuid.UUID, list[str]]:
    rows = ScimMembership.objects.filter(Q(user__in=users)).select_related("group").order_by("group__display_name")
    found: dict[uuid.UUID, list[str]] = {}
    for row in rows:
        found.setdefault(row.user_id, []).extend(labels_of(row.group, provider))
    return found


def _merged(given: Sequence[str], managed: set[str], labels: Sequence[str]) -> list[str]:
    return list(dict.fromkeys([*(group for group in given if group not in managed), *labels]))


def _merged_claims(claims: Any, managed: set[str], labels: Sequence[str]) -> dict[str, Any]:
    kept = dict(claims) if isinstance(claims, Mapping) else {}
    given = kept.get(_GROUPS_CLAIM)
    if isinstance(given, list) and all(isinstance(group, str) for group in given):
        merged = _merged(given, managed, labels)
        if set(merged) != set(given):
            kept[_GROUPS_CLAIM] = merged
    return kept
