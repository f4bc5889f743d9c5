"""Tokens for a command-line client, sealed to the key it made for this one login (access-client.md 6.2).

client polls /transfer/<key> ──> take_transfer: None, and "somebody at this address waits" is noted
person approves ──> approve_transfer: sealed row ──> next poll ──> take_transfer: the body, once
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

from django.core.cache import cache
from django.db import IntegrityError, transaction
from nacl.exceptions import CryptoError
from nacl.public import Box, PrivateKey, PublicKey

from access import login_events as events
from access import tokens
from access.models import Application, Transfer
from accounts import audit
from accounts.actor import Actor, ActorKind
from accounts.errors import Conflict, InvalidInput
from accounts.models import AccessSession

LIFETIME_SECONDS = 600
WAITING_SECONDS = 90
# How long a refusal waits for the client's next poll.
REFUSAL_SECONDS = 90
_KEY = re.compile(r"[A-Za-z0-9_-]{43}=")
_THUMBPRINT = re.compile(r"[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True)
class WaitingClient:
    """Who polls for a key right now, as the edge sees it."""

    ip_address: str
    since: datetime


@dataclass(frozen=True, slots=True)
class TransferRefusal:
    """Why no token will come for a key: the waiting client ends with this instead of waiting on."""

    reason: str
    message: str
    reference: str  # under which the decision is found in the access log


def clean_public_key(text: str) -> str:
    """The key in its one canonical spelling: 44 characters of base64url. Raises InvalidInput."""
    try:
        data = base64.urlsafe_b64decode(text) if _KEY.fullmatch(text) else b""
    except binascii.Error:
        data = b""
    if len(data) != 32 or base64.urlsafe_b64encode(data).decode() != text:
        raise InvalidInput(
            "The link is damaged: its key is not valid. Run the command again.", code="transfer_key_invalid"
        )
    return text


def clean_thumbprint(text: str) -> str:
    """Of a device key (RFC 7638), or "". Raises InvalidInput: a damaged one must not become a bearer token."""
    if text and not _THUMBPRINT.fullmatch(text):
        raise InvalidInput(
            "The link is damaged: its device key is not valid. Run the command again.", code="transfer_key_invalid"
        )
    return text


def approve_transfer(
    application: Application,
    *,
    session: AccessSession,
    public_key: str,
    with_organization_token: bool,
    lifetime_seconds: int,
    now: datetime,
    actor: Actor,
    device: str = "",
) -> Transfer:
    """Seal the tokens for the waiting client, bound to its device key if it has one. Raises Conflict when the key was
    used before, whatever came of it."""
    key = clean_public_key(public_key)
    content = {
        "app_token": tokens.mint_application_token(
            application, session, now=now, lifetime_seconds=lifetime_seconds, country=session.country, device=device
        )
    }
    if with_organization_token:
        content["org_token"] = tokens.mint_organization_token(session, now=now, device=device)
    service_key, body = _seal(key, content)
    return _store(
        application,
        Transfer(
            public_key=key,
            organization=application.organization,
            service_public_key=service_key,
            body=body,
            expires_at=now + timedelta(seconds=LIFETIME_SECONDS),
        ),
        event=events.TRANSFER_APPROVED,
        session=session,
        actor=actor,
    )


def deny_transfer(
    application: Application, *, session: AccessSession, public_key: str, now: datetime, actor: Actor
) -> Transfer:
    """Burn the key: nobody can approve this link later."""
    burned = Transfer(
        public_key=clean_public_key(public_key),
        organization=application.organization,
        expires_at=now + timedelta(seconds=LIFETIME_SECONDS),
        fetched_at=now,
    )
    refuse_transfer(public_key, TransferRefusal("login_denied", "The login was denied in the browser.", ""))
    return _store(application, burned, event=events.TRANSFER_DENIED, session=session, actor=actor)


@transaction.atomic
def _store(
    application: Application, transfer: Transfer, *, event: str, session: AccessSession, actor: Actor
) -> Transfer:
    try:
        with transaction.atomic():
            transfer.save(force_insert=True)
    except IntegrityError as error:
        raise Conflict(
            "This command-line login was answered already. Run the command again for a new one.",
            code="transfer_key_used",
        ) from error
    audit.record(
        event,
        organization=application.organization,
        actor=actor,
        target=application,
        new={"session": str(session.id), "key": transfer.public_key[:8], "waiting_at": _waiting_address(transfer)},
    )
    return transfer


def take_transfer(public_key: str, *, client_ip: str | None, now: datetime) -> tuple[str, str] | None:
    """(service public key, sealed body) exactly once, or None: not approved yet, fetched before, unknown, malformed.

    The key is the only capability, and the body opens only with its private half. The row forgets the body.
    """
    try:
        key = clean_public_key(public_key)
    except InvalidInput:
        return None
    # Anybody may ask twice a second, and nearly all of these questions come too early: they get by with a read.
    transfer = Transfer.objects.select_related("organization").filter(pk=key, expires_at__gt=now).first()
    if transfer is None:
        _note_waiting(key, client_ip, now)
        return None
    return _take(transfer, client_ip=client_ip, now=now) if transfer.fetched_at is None else None


@transaction.atomic
def _take(transfer: Transfer, *, client_ip: str | None, now: datetime) -> tuple[str, str] | None:
    key = transfer.public_key
    if not Transfer.objects.filter(pk=key, fetched_at__isnull=True).update(fetched_at=now, body=""):
        return None
    audit.record(
        events.TRANSFER_FETCHED,
        organization=transfer.organization,
        actor=Actor(ActorKind.EDGE, "transfer", "command-line client", client_ip),
        new={"key": key[:8]},
    )
    return transfer.service_public_key, transfer.body


def refuse_transfer(public_key: str, refusal: TransferRefusal) -> None:
    """Tell the waiting client that its login ended without a token. The key itself stays usable: the person may still
    log in as somebody the policy allows, within the client's patience."""
    cache.set(_refusal_key(public_key), asdict(refusal), REFUSAL_SECONDS)


def refusal_of(public_key: str) -> TransferRefusal | None:
    """Nothing secret: only the holder of the key asks, and the person has read the same on their page."""
    found = cache.get(_refusal_key(public_key))
    return TransferRefusal(**found) if found else None


def waiting_client(public_key: str) -> WaitingClient | None:
    """Where the client polls from, if an edge asked for it within WAITING_SECONDS."""
    found = cache.get(_waiting_key(public_key))
    return WaitingClient(found["ip"], datetime.fromisoformat(found["since"])) if found else None


def _note_waiting(public_key: str, client_ip: str | None, now: datetime) -> None:
    name = _waiting_key(public_key)
    known = cache.get(name)
    since = known["since"] if known and known["ip"] == client_ip else now.isoformat()
    cache.set(name, {"ip": client_ip or "", "since": since}, WAITING_SECONDS)


def _waiting_key(public_key: str) -> str:
    return f"transfer-waiting:{hashlib.sha256(public_key.encode()).hexdigest()}"


def _refusal_key(public_key: str) -> str:
    return f"transfer-refused:{hashlib.sha256(public_key.encode()).hexdigest()}"


def _waiting_address(transfer: Transfer) -> str:
    client = waiting_client(transfer.public_key)
    return client.ip_address if client else ""


def _seal(public_key: str, content: dict[str, str]) -> tuple[str, str]:
    """Ephemeral service key and nonce || box, in the alphabets the client insists on."""
    private = PrivateKey.generate()
    try:
        peer = PublicKey(base64.urlsafe_b64decode(public_key))
        sealed = Box(private, peer).encrypt(json.dumps(content).encode())
    except (CryptoError, RuntimeError) as error:
        # A point of low order: nothing sealed to it would be secret.
        raise InvalidInput(
            "The link's key is not usable. Run the command again.", code="transfer_key_invalid"
        ) from error
    service_key = base64.urlsafe_b64encode(bytes(private.public_key)).decode()
    return service_key, base64.b64encode(bytes(sealed)).decode()
