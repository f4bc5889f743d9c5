"""Login methods of an organization. Client secrets are sealed; `config` never holds one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone

from accounts import audit, events, fetch
from accounts.actions.sessions import end_sessions
from accounts.actor import Actor
from accounts.errors import Conflict, InvalidInput
from accounts.models import Identity, IdentityProvider, Organization
from accounts.oidc import secret_context
from accounts.sealing import seal

_URLS = ("auth_url", "token_url", "certs_url", "userinfo_url")
_TEXTS = ("client_id", "issuer", "email_claim_name", "authorization_server_id", "okta_account")
_LISTS = ("scopes", "claims")
_FLAGS = ("pkce_enabled", "email_verified_trusted")
_AUTH_METHODS = ("client_secret_post", "client_secret_basic")
_REQUIRED = {
    IdentityProvider.Type.OIDC: ("client_id", "auth_url", "token_url", "certs_url"),
    IdentityProvider.Type.OKTA: ("client_id", "okta_account"),
    IdentityProvider.Type.ONE_TIME_PIN: (),
}
_KEYS = {
    IdentityProvider.Type.OIDC: {*_URLS, "client_id", "issuer", "email_claim_name", *_LISTS, *_FLAGS},
    IdentityProvider.Type.OKTA: {
        "client_id",
        "okta_account",
        "authorization_server_id",
        "email_claim_name",
        *_LISTS,
        *_FLAGS,
    },
    IdentityProvider.Type.ONE_TIME_PIN: set[str](),
}
MAX_TEXT = 2048
MAX_LIST = 100


@transaction.atomic
def create_provider(
    organization: Organization,
    *,
    type: str,  # noqa: A002 - the public API's word
    name: str,
    config: Mapping[str, Any],
    client_secret: str | None,
    actor: Actor,
) -> IdentityProvider:
    kind = _clean_type(type)
    provider = IdentityProvider(
        organization=organization, type=kind, name=_clean_name(name), config=_clean_config(kind, config)
    )
    if kind == IdentityProvider.Type.ONE_TIME_PIN:
        _only_one_pin(organization)
    elif not client_secret:
        raise InvalidInput("Enter the client secret.", fields={"client_secret": "Required."})
    if client_secret and kind != IdentityProvider.Type.ONE_TIME_PIN:
        provider.client_secret_sealed = _sealed(provider, client_secret)
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
) -> IdentityProvider:
    """Only what is given changes; an empty client secret keeps the stored one."""
    kind = IdentityProvider.Type(provider.type)
    old = {"name": provider.name, "config": provider.config}
    if name is not None:
        provider.name = _clean_name(name)
    if config is not None:
        provider.config = _clean_config(kind, config)
    if client_secret and kind != IdentityProvider.Type.ONE_TIME_PIN:
        provider.client_secret_sealed = _sealed(provider, client_secret)
    fields = ["name", "config", "client_secret_sealed", "updated_at"]
    _save(provider, lambda: provider.save(update_fields=fields))
    audit.record(
        events.PROVIDER_UPDATED,
        organization=provider.organization,
        actor=actor,
        target=provider,
        old=old,
        new={"name": provider.name, "config": provider.config, "credential_changed": bool(client_secret)},
    )
    return provider


@transaction.atomic
def delete_provider(provider: IdentityProvider, *, actor: Actor) -> None:
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
    deleted = IdentityProvider.objects.filter(pk=provider.pk, deleted_at__isnull=True).update(
        deleted_at=timezone.now(), client_secret_sealed=b""
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


def _save(provider: IdentityProvider, write: Callable[[], None]) -> None:
    try:
        with transaction.atomic():
            write()
    except IntegrityError as error:
        message = f"There is a login method named {provider.name} already."
        raise Conflict(message, fields={"name": message}) from error


def _sealed(provider: IdentityProvider, client_secret: str) -> bytes:
    if len(client_secret) > MAX_TEXT:
        raise InvalidInput("The client secret is too long.", fields={"client_secret": "Too long."})
    return seal(settings.SEAL_KEY, client_secret.encode(), *secret_context(provider))


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


def _clean_config(kind: IdentityProvider.Type, config: Mapping[str, Any]) -> dict[str, Any]:
    """Known keys only (mass assignment, AC-106), each of its type, URLs by the rules of the fetch guard (AC-66)."""
    clean: dict[str, Any] = {}
    for key in sorted(_KEYS[kind]):
        value = config.get(key)
        if value not in (None, "", []):
            clean[key] = _clean_value(key, value)
    method = config.get("token_endpoint_auth_method")
    if method and kind != IdentityProvider.Type.ONE_TIME_PIN:
        if method not in _AUTH_METHODS:
            raise _bad("token_endpoint_auth_method", f"must be one of: {', '.join(_AUTH_METHODS)}")
        clean["token_endpoint_auth_method"] = method
    for key in _REQUIRED[kind]:
        if key not in clean:
            raise _bad(key, "is required")
    return clean


def _clean_value(key: str, value: object) -> object:
    if key in _FLAGS:
        if not isinstance(value, bool):
            raise _bad(key, "must be true or false")
        return value
    if key in _LISTS:
        return _clean_list(key, value)
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        raise _bad(key, f"must be text of at most {MAX_TEXT} characters")
    text = value.strip()
    if key in _URLS or key == "issuer":
        return _clean_url(key, text)
    if key == "okta_account":
        return _clean_url(key, text if "://" in text else f"https://{text}").rstrip("/")
    return text


def _clean_list(key: str, value: object) -> list[str]:
    items = value.replace(",", " ").split() if isinstance(value, str) else value
    if not isinstance(items, list) or len(items) > MAX_LIST or not all(isinstance(item, str) for item in items):
        raise _bad(key, f"must be a list of at most {MAX_LIST} words")
    words = [item.strip() for item in items if item.strip()]
    if any(len(word) > 200 or len(word.split()) > 1 for word in words):
        raise _bad(key, "must hold words without spaces")
    return words


def _clean_url(key: str, text: str) -> str:
    try:
        fetch.check_url(text)
    except fetch.FetchError as error:
        raise _bad(key, f"is refused: {error}") from error
    return text


def _bad(key: str, problem: str) -> InvalidInput:
    return InvalidInput(f"{key} {problem}.", fields={key: f"{problem[0].upper()}{problem[1:]}."})
