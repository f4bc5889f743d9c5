"""Login methods of an organization. Secrets are sealed; `config` never holds one.

What a type's configuration may hold is said by its class (accounts.providers); nothing here asks the network.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import Q
from django.utils import timezone

from accounts import audit, events
from accounts.actions.deletions import keep_deleted
from accounts.actions.sessions import end_sessions
from accounts.actor import Actor
from accounts.errors import Conflict, InvalidInput
from accounts.models import DeletedObject, Identity, IdentityProvider, Organization
from accounts.providers import LOGIN_METHODS
from accounts.providers.config import PLACE_KINDS, bad, clean_config, clean_secret
from accounts.providers.secrets import named_secrets, seal_client_secret, seal_named_secrets
from accounts.providers.signing_keys import make_signing_key

MAX_CLIENT_SECRET = 2048
_SEALED = ("client_secret_sealed", "secrets_sealed")

# What says whose people a login method knows, by type; the others have one issuer for everybody.
_ISSUER_KEYS: Mapping[IdentityProvider.Type, tuple[str, ...]] = {
    IdentityProvider.Type.OIDC: ("issuer",),
    IdentityProvider.Type.OKTA: ("okta_account",),
    IdentityProvider.Type.AZURE_AD: ("cloud", "directory_id"),
    IdentityProvider.Type.GITHUB: ("github_host",),
    IdentityProvider.Type.SAML: ("issuer_url",),
}


@transaction.atomic
def create_provider(
    organization: Organization,
    *,
    type: str,  # noqa: A002 - the public API's word
    name: str,
    config: Mapping[str, Any],
    client_secret: str | None,
    actor: Actor,
    secrets: Mapping[str, str] | None = None,
) -> IdentityProvider:
    """`secrets`: named ones of the type (LoginMethod.secret_names), besides the client secret."""
    kind = _clean_type(type)
    provider = IdentityProvider(
        organization=organization, type=kind, name=_clean_name(name), config=clean_config(kind, config)
    )
    if kind == IdentityProvider.Type.ONE_TIME_PIN:
        _only_one_pin(organization)
    elif LOGIN_METHODS[kind].needs_client_secret and not client_secret:
        raise InvalidInput("Enter the client secret.", fields={"client_secret": "Required."})
    named = _clean_secrets(kind, secrets or {})
    if kind == IdentityProvider.Type.SAML:
        named |= make_signing_key(organization.team_domain, now=timezone.now())
    _seal_client_secret(provider, client_secret)
    provider.secrets_sealed = seal_named_secrets(provider, named)
    _check_together(provider, named)
    _save(provider, lambda: provider.save(force_insert=True))
    audit.record(
        events.PROVIDER_CREATED,
        organization=organization,
        actor=actor,
        target=provider,
        new={"type": kind.value, "name": provider.name, "config": provider.config},
    )
    return provider


@transaction.atomic
def update_provider(
    provider: IdentityProvider,
    *,
    actor: Actor,
    name: str | None = None,
    config: Mapping[str, Any] | None = None,
    client_secret: str | None = None,
    secrets: Mapping[str, str] | None = None,
) -> IdentityProvider:
    """Only what is given changes; an empty client secret, or named secret, keeps the stored one. Where the provider
    is to be found only changes together with its secrets."""
    kind = IdentityProvider.Type(provider.type)
    old = {"name": provider.name, "config": provider.config}
    if name is not None:
        provider.name = _clean_name(name)
    if config is not None:
        provider.config = clean_config(kind, config)
    given = _clean_secrets(kind, secrets or {})
    _keep_issuer_of_people(provider, old["config"])
    _require_secrets_again(provider, old["config"], {"client_secret": client_secret, **given})
    named = {**named_secrets(provider), **given}
    _seal_client_secret(provider, client_secret)
    if given:
        provider.secrets_sealed = seal_named_secrets(provider, named)
    _check_together(provider, named)
    fields = ["name", "config", "client_secret_sealed", "secrets_sealed", "updated_at"]
    _save(provider, lambda: provider.save(update_fields=fields))
    doubted = _withdraw_trust(provider, old["config"])
    new = {"name": provider.name, "config": provider.config, "credential_changed": bool(client_secret or given)}
    audit.record(
        events.PROVIDER_UPDATED,
        organization=provider.organization,
        actor=actor,
        target=provider,
        old=old,
        new={**new, "addresses_no_longer_trusted": doubted} if doubted else new,
        edges_learn=doubted > 0,
    )
    return provider


@transaction.atomic
def delete_provider(provider: IdentityProvider, *, actor: Actor) -> DeletedObject:
    """Nobody logs in with it any more and its sessions end. Its identities stay: certificates and logs name them.

    Refused while an application admits only chosen login methods and this is one: dropping it from the list could
    leave the list empty, which means "all of them".
    """
    applications = list(provider.applications.order_by("name").values_list("name", flat=True)[:5])
    if applications:
        raise Conflict(
            f"These applications list {provider.name} as a login method: {', '.join(applications)}. Change them first.",
            code="provider_in_use",
        )
    sealed = {
        name: base64.b64encode(bytes(value)).decode()
        for name, value in IdentityProvider.objects.filter(pk=provider.pk).values(*_SEALED).get().items()
    }
    kept = keep_deleted(
        "login_method",
        provider.organization,
        key=provider.pk,
        name=provider.name,
        document={"type": provider.type},
        actor=actor,
        sealed=sealed,
    )
    deleted = IdentityProvider.objects.filter(pk=provider.pk, deleted_at__isnull=True).update(
        deleted_at=timezone.now(), client_secret_sealed=b"", secrets_sealed=b""
    )
    if not deleted:
        raise Conflict(f"{provider.name} is deleted already.", code="already_deleted")
    ended = end_sessions(*Identity.objects.filter(provider=provider))
    audit.record(
        events.PROVIDER_DELETED,
        organization=provider.organization,
        actor=actor,
        target=provider,
        old={"type": provider.type, "name": provider.name},
        new={"sessions": ended},
    )
    return kept


@transaction.atomic
def restore_provider(kept: DeletedObject, *, actor: Actor) -> IdentityProvider:
    """The login method whose deletion is undone, with its sealed secrets. Its row never went: identities name it. The
    sessions that ended stay ended."""
    provider = (
        IdentityProvider.objects.select_for_update(of=("self",), no_key=True)
        .select_related("organization")
        .filter(pk=kept.object_id, organization=kept.organization, deleted_at__isnull=False)
        .first()
    )
    if provider is None:
        raise Conflict(f"{kept.name} is there already.", code="nothing_to_undo")
    if provider.type == IdentityProvider.Type.ONE_TIME_PIN:
        _only_one_pin(provider.organization)
    for name in _SEALED:
        setattr(provider, name, base64.b64decode(kept.sealed.get(name, "")))
    provider.deleted_at = None
    _save(provider, lambda: provider.save(update_fields=["deleted_at", *_SEALED, "updated_at"]))
    audit.record(
        events.PROVIDER_RESTORED,
        organization=provider.organization,
        actor=actor,
        target=provider,
        new={"type": provider.type, "name": provider.name, "config": provider.config},
    )
    return provider


def _withdraw_trust(provider: IdentityProvider, old: Mapping[str, Any]) -> int:
    """Addresses that may have counted by an administrator's trust alone stop counting now, not at the next login:
    sessions live up to a month. Whose address the provider itself confirms has it back by logging in. Returns how
    many."""
    lost = Q(pk__in=())
    for domain in set(old.get("email_trusted_domains") or ()) - set(provider.config.get("email_trusted_domains") or ()):
        lost |= Q(email__endswith=f"@{domain}")
    if old.get("email_verified_trusted") is True and provider.config.get("email_verified_trusted") is not True:
        lost = ~Q(email="")
    return Identity.objects.filter(lost, provider=provider, email_verified=True).update(email_verified=False)


def _save(provider: IdentityProvider, write: Callable[[], None]) -> None:
    try:
        with transaction.atomic():
            write()
    except IntegrityError as error:
        message = f"There is a login method named {provider.name} already."
        raise Conflict(message, fields={"name": message}) from error


def _seal_client_secret(provider: IdentityProvider, client_secret: str | None) -> None:
    if not client_secret or not LOGIN_METHODS[provider.type].needs_client_secret:
        return
    if len(client_secret) > MAX_CLIENT_SECRET:
        raise InvalidInput("The client secret is too long.", fields={"client_secret": "Too long."})
    provider.client_secret_sealed = seal_client_secret(provider, client_secret)


def _keep_issuer_of_people(provider: IdentityProvider, old: Mapping[str, Any]) -> None:
    """A subject is unique within its issuer only (OpenID Connect Core section 2): under another issuer the same
    subject may be another person, who would be the old one here (AC-13)."""
    keys = _ISSUER_KEYS.get(IdentityProvider.Type(provider.type), ())
    moved = [key for key in keys if (provider.config.get(key) or "") != (old.get(key) or "")]
    if moved and Identity.objects.filter(provider=provider).exists():
        words = "Add another login method for the new one; then delete this one."
        raise Conflict(
            f"People logged in with {provider.name} already; {' and '.join(moved)} says whose people they are. {words}",
            code="provider_has_people",
            fields=dict.fromkeys(moved, words),
        )


def _require_secrets_again(provider: IdentityProvider, old: Mapping[str, Any], given: Mapping[str, str | None]) -> None:
    """A stored secret goes only to the places it was entered for: whoever may edit a login method must not be able to
    have it sent to a host of their own."""
    method = LOGIN_METHODS[provider.type]
    moved = sorted(
        key for key, kind in method.keys.items() if kind in PLACE_KINDS and provider.config.get(key) != old.get(key)
    )
    stored = set(named_secrets(provider)) & set(method.secret_names)
    stored |= {"client_secret"} if provider.client_secret_sealed else set()
    missing = sorted(name for name in stored if not given.get(name))
    if moved and missing:
        words = "Enter it again: the stored one was meant for the old address."
        raise InvalidInput(
            f"{', '.join(moved)} changed, so {' and '.join(missing)} must be entered again: "
            "a stored secret is never sent to a new address.",
            code="secret_needed_again",
            fields=dict.fromkeys(missing, words),
        )


def _clean_secrets(kind: IdentityProvider.Type, secrets: Mapping[str, str]) -> dict[str, str]:
    names = LOGIN_METHODS[kind].secret_names
    return {name: clean_secret(name, secrets[name]) for name in names if secrets.get(name)}


def _check_together(provider: IdentityProvider, named: Mapping[str, str]) -> None:
    if "service_account_key" in named and not provider.config.get("admin_email"):
        raise bad("admin_email", "is required with a service account: the administrator it reads groups as")


def _only_one_pin(organization: Organization) -> None:
    existing = IdentityProvider.objects.for_organization(organization)
    if existing.filter(type=IdentityProvider.Type.ONE_TIME_PIN).exists():
        raise Conflict("One-time PIN is set up already.", code="provider_exists")


def _clean_type(type_name: str) -> IdentityProvider.Type:
    try:
        return IdentityProvider.Type(type_name)
    except ValueError as error:
        known = ", ".join(IdentityProvider.Type.values)
        raise InvalidInput(
            f"Login methods of type {type_name[:32]} are not supported. Supported: {known}.",
            fields={"type": "Not supported."},
        ) from error


def _clean_name(name: str) -> str:
    clean = " ".join(name.split())
    if not 1 <= len(clean) <= 350:
        raise InvalidInput("The name must have 1 to 350 characters.", fields={"name": "1 to 350 characters."})
    return clean
