"""Checking a second factor in a session: a code, a recovery code, or a passkey. Each proof counts once.

check_code ─────────────────────────────────────────┐
begin_passkey_check ──> browser ──> finish_passkey_check ──> remembered in the session (AccessSession.factors)
"""

from __future__ import annotations

import hmac
import secrets
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.utils.crypto import salted_hmac

from accounts import audit, events, passkeys, totp
from accounts.actor import Actor
from accounts.mfa_models import FactorChallenge, IdentityAuthenticator, RecoveryCode
from accounts.models import AccessSession
from accounts.sealing import unseal
from accounts.second_factor import FRESH_SECONDS, RECOVERY, TOTP, amr_of

CHALLENGE_SECONDS = 300
RECOVERY_CHARACTERS = 12
# No letters or digits that are taken for one another on paper.
RECOVERY_ALPHABET = "23456789abcdefghjkmnpqrstuvwxyz"


@dataclass(frozen=True, slots=True)
class Challenge:
    """What the browser gets: the row's id to come back with, and WebAuthn options."""

    id: uuid.UUID
    options: dict[str, Any]


def authenticators_of(session: AccessSession) -> list[IdentityAuthenticator]:
    return list(IdentityAuthenticator.objects.filter(identity_id=session.identity_id))


def is_fresh(session: AccessSession, now: datetime, rows: Sequence[IdentityAuthenticator]) -> bool:
    """Whether the person showed one of their authenticators (`rows`) in this session a moment ago.

    With a passkey among them it must be one (or a recovery code, for who lost it): a code can be phished, and must not
    put a stranger's key beside the owner's.
    """
    has_passkey = any(row.kind != TOTP for row in rows)
    recent = [factor for factor in session.factors if 0 <= now.timestamp() - factor["at"] <= FRESH_SECONDS]
    return any(not has_passkey or factor["kind"] != TOTP for factor in recent)


@transaction.atomic
def check_code(session: AccessSession, *, text: str, now: datetime, actor: Actor) -> bool:
    """A code of an authenticator app, or a recovery code. Whichever of two tries at once comes first gets it."""
    lock_session(session)
    row = _take_totp(session, text, now)
    if row is not None:
        _accept(session, TOTP, row, amr_of(TOTP), now, actor)
        return True
    if _take_recovery_code(session, text, now):
        _accept(session, RECOVERY, None, amr_of(RECOVERY), now, actor)
        return True
    _refuse(session, "code_wrong", actor)
    return False


@transaction.atomic
def begin_passkey_check(session: AccessSession, *, kinds: Sequence[str], now: datetime) -> Challenge | None:
    """None when the person has no passkey of these kinds."""
    rows = [row for row in authenticators_of(session) if row.kind in kinds and row.kind != TOTP]
    if not rows:
        return None
    challenge = new_challenge(session, FactorChallenge.Purpose.CHECK, now=now)
    raw = passkeys.challenge_bytes(challenge.challenge)
    return Challenge(challenge.pk, passkeys.request_options(session.organization, challenge=raw, rows=rows))


@transaction.atomic
def finish_passkey_check(
    session: AccessSession, *, challenge_id: uuid.UUID, answer: str, now: datetime, actor: Actor
) -> bool:
    """False for a challenge of another session or used before, another person's passkey, or any failed check."""
    lock_session(session)
    challenge = take_challenge(session, challenge_id, FactorChallenge.Purpose.CHECK, now=now)
    if challenge is None:
        _refuse(session, "challenge_unknown", actor)
        return False
    try:
        row = _own_passkey(session, answer)
        if row is None:
            _refuse(session, "passkey_unknown", actor)
            return False
        raw = passkeys.challenge_bytes(challenge.challenge)
        assertion = passkeys.check_assertion(row, session.organization, challenge=raw, answer=answer)
    except passkeys.PasskeyRefused as error:
        _refuse(session, error.code, actor)
        return False
    if not _advance(row, assertion.sign_count, now):
        _record(events.FACTOR_COPIED, session, actor, {"authenticator": row.name, "kind": row.kind})
        return False
    _accept(session, row.kind, row, amr_of(row.kind, is_synced=row.is_synced), now, actor)
    return True


# --- challenges: for checks and enrollments -------------------------------------------------------------------


def new_challenge(session: AccessSession, purpose: str, *, now: datetime, kind: str = "") -> FactorChallenge:
    return FactorChallenge.objects.create(
        organization_id=session.organization_id,
        session=session,
        purpose=purpose,
        kind=kind,
        challenge=secrets.token_urlsafe(32),
        expires_at=now + timedelta(seconds=CHALLENGE_SECONDS),
    )


def take_challenge(
    session: AccessSession, identifier: uuid.UUID, purpose: str, *, now: datetime
) -> FactorChallenge | None:
    """Used up by one conditional UPDATE, whatever comes of it: an answer is never tried twice on one challenge."""
    rows = FactorChallenge.objects.filter(
        pk=identifier, session=session, purpose=purpose, used_at__isnull=True, expires_at__gt=now
    )
    return FactorChallenge.objects.get(pk=identifier) if rows.update(used_at=now) else None


def sweep_challenges(*, now: datetime) -> int:
    deleted, _ = FactorChallenge.objects.filter(expires_at__lt=now - timedelta(hours=1)).delete()
    return deleted


def remember(
    session: AccessSession, kind: str, row: IdentityAuthenticator | None, amr: list[str], now: datetime
) -> None:
    """In the session, one entry per kind; the row is locked, so that two checks at once both stay."""
    locked = lock_session(session)
    entry = {"kind": kind, "authenticator": str(row.pk) if row else "", "at": int(now.timestamp()), "amr": amr}
    locked.factors = [factor for factor in locked.factors if factor["kind"] != kind] + [entry]
    locked.save(update_fields=["factors"])
    session.factors = locked.factors


def lock_session(session: AccessSession) -> AccessSession:
    """Before any authenticator, challenge or recovery code, in checks as in changes of what a person has enrolled."""
    return AccessSession.objects.select_for_update(no_key=True).get(pk=session.pk)


# --- recovery codes -------------------------------------------------------------------------------------------


def new_recovery_code() -> str:
    text = "".join(secrets.choice(RECOVERY_ALPHABET) for _ in range(RECOVERY_CHARACTERS))
    return "-".join(text[start : start + 4] for start in range(0, RECOVERY_CHARACTERS, 4))


def hash_recovery_code(identity_id: uuid.UUID, text: str) -> str:
    """Keyed with SECRET_KEY, and bound to the person. Spaces, hyphens and capitals do not matter."""
    clean = "".join(text[:64].lower().replace("-", "").split())
    return salted_hmac("accounts.recovery-code", f"{identity_id}:{clean}", algorithm="sha256").hexdigest()


def _take_recovery_code(session: AccessSession, text: str, now: datetime) -> bool:
    digest = hash_recovery_code(session.identity_id, text)
    rows = RecoveryCode.objects.filter(identity_id=session.identity_id, used_at__isnull=True)
    found = next((row for row in rows if hmac.compare_digest(row.code_hash, digest)), None)
    return found is not None and bool(rows.filter(pk=found.pk).update(used_at=now))


# --- parts ----------------------------------------------------------------------------------------------------


def _take_totp(session: AccessSession, text: str, now: datetime) -> IdentityAuthenticator | None:
    code = totp.clean_code(text)
    if code is None:
        return None
    for row in IdentityAuthenticator.objects.filter(identity_id=session.identity_id, kind=TOTP):
        step = totp.matching_step(open_secret(row), code, now=int(now.timestamp()))
        # The step only ever goes up: the same code, sent twice at once or overheard, finds it taken.
        rows = IdentityAuthenticator.objects.filter(pk=row.pk)
        if step is not None and rows.filter(last_step__lt=step).update(last_step=step, last_used_at=now):
            return row
    return None


def open_secret(row: IdentityAuthenticator) -> bytes:
    return unseal(
        settings.SEAL_KEY, bytes(row.secret_sealed), *seal_context(row.organization_id, row.identity_id, row.pk)
    )


def seal_context(organization_id: str, identity_id: uuid.UUID, row_id: uuid.UUID) -> tuple[str, ...]:
    return ("identity-authenticator", organization_id, str(identity_id), str(row_id))


def _own_passkey(session: AccessSession, answer: str) -> IdentityAuthenticator | None:
    identifier = passkeys.credential_id_of(answer)
    rows = IdentityAuthenticator.objects.filter(identity_id=session.identity_id)
    return rows.exclude(kind=TOTP).filter(credential_id=identifier).first() if identifier else None


def _advance(row: IdentityAuthenticator, count: int, now: datetime) -> bool:
    """A counter must grow; passkeys that keep none always send 0 (WebAuthn level 2, section 7.2, step 21)."""
    grows = Q(sign_count__lt=count) if count else Q(sign_count=0)
    rows = IdentityAuthenticator.objects.filter(grows, pk=row.pk)
    return bool(rows.update(sign_count=count, last_used_at=now))


def _accept(
    session: AccessSession, kind: str, row: IdentityAuthenticator | None, amr: list[str], now: datetime, actor: Actor
) -> None:
    remember(session, kind, row, amr, now)
    _record(events.FACTOR_CHECKED, session, actor, {"kind": kind, "authenticator": row.name if row else ""})


def _refuse(session: AccessSession, reason: str, actor: Actor) -> None:
    _record(events.FACTOR_FAILED, session, actor, {"reason": reason})


def _record(event: str, session: AccessSession, actor: Actor, new: dict[str, Any]) -> None:
    audit.record(
        event,
        organization=session.organization,
        actor=actor,
        target=session.identity,
        new={**new, "session": str(session.pk)},
    )
