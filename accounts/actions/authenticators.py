"""A person's authenticators: enrolled, renamed and removed by themselves, reset by administrators.

The first one is enrolled on the strength of the login alone; after that every change wants one of those enrolled, a
moment ago: who stole a login cannot add a key of their own beside the owner's.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone

from accounts import audit, events, factor_mail, passkeys, totp
from accounts.actions.second_factor import (
    Challenge,
    hash_recovery_code,
    is_fresh,
    lock_session,
    new_challenge,
    new_recovery_code,
    remember,
    seal_context,
    take_challenge,
)
from accounts.actor import Actor
from accounts.errors import Conflict, InvalidInput, NotFound, PermissionDenied
from accounts.mfa_models import FactorChallenge, IdentityAuthenticator, RecoveryCode
from accounts.models import AccessSession, Identity
from accounts.sealing import seal, unseal
from accounts.second_factor import BIOMETRICS, RECOVERY, SECURITY_KEY, TOTP, amr_of

MAX_AUTHENTICATORS = 10
RECOVERY_CODES = 10
MAX_NAME = 100
_DEFAULT_NAMES = {TOTP: "Authenticator app", BIOMETRICS: "This device", SECURITY_KEY: "Security key"}


@dataclass(frozen=True, slots=True)
class Enrolled:
    """`recovery_codes` come with the first authenticator, in clear this once."""

    authenticator: IdentityAuthenticator
    recovery_codes: list[str] = field(default_factory=list, repr=False)


@transaction.atomic
def begin_totp(session: AccessSession, *, now: datetime) -> FactorChallenge:
    _assert_may_change(session, now)
    challenge = new_challenge(session, FactorChallenge.Purpose.ENROLL_TOTP, now=now, kind=TOTP)
    context = ("factor-challenge", str(challenge.pk))
    challenge.secret_sealed = seal(settings.SEAL_KEY, totp.new_secret(), *context)
    challenge.save(update_fields=["secret_sealed"])
    return challenge


def totp_secret(session: AccessSession, challenge_id: uuid.UUID, *, now: datetime) -> bytes | None:
    """Of the app being set up in this very session; None when that is over."""
    rows = FactorChallenge.objects.filter(purpose=FactorChallenge.Purpose.ENROLL_TOTP, session=session)
    challenge = rows.filter(pk=challenge_id, used_at__isnull=True, expires_at__gt=now).first()
    return None if challenge is None else _open(challenge)


@transaction.atomic
def finish_totp(
    session: AccessSession, *, challenge_id: uuid.UUID, code: str, name: str, now: datetime, actor: Actor
) -> Enrolled | None:
    """None for a wrong code: the same secret may be tried again. The code that proves it is used up by that."""
    identity = _assert_may_change(session, now)
    digits, secret = totp.clean_code(code), totp_secret(session, challenge_id, now=now)
    if secret is None:
        raise NotFound("Setting up took too long. Start again.", code="challenge_unknown")
    step = totp.matching_step(secret, digits, now=int(now.timestamp())) if digits is not None else None
    if step is None:
        return None
    if take_challenge(session, challenge_id, FactorChallenge.Purpose.ENROLL_TOTP, now=now) is None:
        raise NotFound("This app was set up already.", code="challenge_unknown")
    row = IdentityAuthenticator(
        organization_id=session.organization_id, identity=identity, kind=TOTP, last_step=step, last_used_at=now
    )
    row.secret_sealed = seal(settings.SEAL_KEY, secret, *seal_context(row.organization_id, identity.pk, row.pk))
    return _enroll(session, row, name, now, actor)


@transaction.atomic
def begin_passkey(session: AccessSession, *, kind: str, now: datetime) -> Challenge:
    if kind not in {BIOMETRICS, SECURITY_KEY}:
        raise InvalidInput("Choose what to add.", code="kind_unknown")
    identity = _assert_may_change(session, now)
    known = list(identity.authenticators.exclude(kind=TOTP))
    challenge = new_challenge(session, FactorChallenge.Purpose.ENROLL_PASSKEY, now=now, kind=kind)
    raw = passkeys.challenge_bytes(challenge.challenge)
    options = passkeys.creation_options(identity, kind=kind, challenge=raw, known=known)
    return Challenge(challenge.pk, options)


@transaction.atomic
def finish_passkey(
    session: AccessSession, *, challenge_id: uuid.UUID, answer: str, name: str, now: datetime, actor: Actor
) -> Enrolled:
    """Raises PasskeyRefused; and Conflict for a passkey that is somebody's already, anywhere."""
    identity = _assert_may_change(session, now)
    challenge = take_challenge(session, challenge_id, FactorChallenge.Purpose.ENROLL_PASSKEY, now=now)
    if challenge is None:
        raise passkeys.PasskeyRefused("Adding the passkey took too long, or was done already. Start again.")
    raw = passkeys.challenge_bytes(challenge.challenge)
    made = passkeys.check_registration(session.organization, kind=challenge.kind, challenge=raw, answer=answer)
    row = IdentityAuthenticator(
        organization_id=session.organization_id,
        identity=identity,
        kind=challenge.kind,
        credential_id=made.credential_id,
        credential=made.credential,
        sign_count=made.sign_count,
        is_synced=made.is_synced,
        last_used_at=now,
    )
    return _enroll(session, row, name, now, actor)


@transaction.atomic
def rename_authenticator(session: AccessSession, row: IdentityAuthenticator, *, name: str, actor: Actor) -> None:
    old, row.name = row.name, _clean_name(name, row.kind)
    row.save(update_fields=["name"])
    _record(events.FACTOR_RENAMED, session.identity, actor, old={"name": old}, new={"name": row.name})


@transaction.atomic
def remove_authenticator(session: AccessSession, row: IdentityAuthenticator, *, now: datetime, actor: Actor) -> None:
    """No session counts it any more. With the last one the recovery codes go too."""
    identity = _assert_may_change(session, now)
    is_last = not identity.authenticators.exclude(pk=row.pk).exists()
    _forget(identity, row, and_recovery=is_last)
    facts = {"name": row.name, "kind": row.kind}
    factor_mail.tell_person(identity, factor_mail.REMOVED, [row], actor=actor)
    row.delete()
    if is_last:
        identity.recovery_codes.all().delete()
    session.refresh_from_db(fields=["factors"])
    _record(events.FACTOR_REMOVED, identity, actor, old=facts)


@transaction.atomic
def renew_recovery_codes(session: AccessSession, *, now: datetime, actor: Actor) -> list[str]:
    """New ones, in clear this once; those from before stop working."""
    identity = _assert_may_change(session, now)
    if not identity.authenticators.exists():
        raise Conflict("Add an authenticator first: recovery codes stand in for one.", code="nothing_to_recover")
    codes = _new_codes(identity)
    _record(events.RECOVERY_CODES_MADE, identity, actor, new={"count": len(codes)})
    return codes


@transaction.atomic
def reset_authenticators(identity: Identity, *, actor: Actor) -> int:
    """By an administrator, for somebody who lost theirs. Sessions that relied on them end: whoever is in one of them
    may be who has the lost device. Returns how many authenticators went."""
    identity = (
        Identity.objects.select_for_update(of=("self",), no_key=True).select_related("organization").get(pk=identity.pk)
    )
    rows = list(identity.authenticators.all())
    now = timezone.now()
    relied = AccessSession.objects.filter(identity=identity, revoked_at__isnull=True).exclude(factors=[])
    ended = relied.update(revoked_at=now)
    RecoveryCode.objects.filter(identity=identity).delete()
    IdentityAuthenticator.objects.filter(identity=identity).delete()
    facts = [{"name": row.name, "kind": row.kind} for row in rows]
    _record(events.FACTORS_RESET, identity, actor, old={"authenticators": facts}, new={"sessions_ended": ended})
    if rows:
        factor_mail.tell_person(identity, factor_mail.RESET, rows, actor=actor)
    return len(rows)


# --- parts ----------------------------------------------------------------------------------------------------


def _assert_may_change(session: AccessSession, now: datetime) -> Identity:
    """The identity, locked: two "first" enrollments at once are one first and one that needs the check. Then the
    session, as whoever checks a factor in it does first."""
    locked = Identity.objects.select_for_update(of=("self",), no_key=True).select_related("organization")
    identity = locked.get(pk=session.identity_id)
    lock_session(session)
    rows = list(identity.authenticators.all())
    if rows and not is_fresh(session, now, rows):
        raise PermissionDenied(
            "Confirm with one of your authenticators first: that was too long ago.", code="second_factor_not_fresh"
        )
    return identity


def _enroll(session: AccessSession, row: IdentityAuthenticator, name: str, now: datetime, actor: Actor) -> Enrolled:
    identity = row.identity
    count = identity.authenticators.count()
    if count >= MAX_AUTHENTICATORS:
        raise Conflict(
            f"{MAX_AUTHENTICATORS} authenticators are enough. Remove one first.", code="too_many_authenticators"
        )
    row.name = _clean_name(name, row.kind)
    try:
        with transaction.atomic():
            row.save(force_insert=True)
    except IntegrityError as error:
        raise Conflict("This passkey is enrolled already.", code="passkey_known") from error
    codes = _new_codes(identity) if not identity.recovery_codes.exists() else []
    remember(session, row.kind, row, amr_of(row.kind, is_synced=row.is_synced), now)
    _record(
        events.FACTOR_ENROLLED, identity, actor, new={"name": row.name, "kind": row.kind, "session": str(session.pk)}
    )
    factor_mail.tell_person(identity, factor_mail.ADDED, [row], actor=actor)
    return Enrolled(row, codes)


def _new_codes(identity: Identity) -> list[str]:
    codes = [new_recovery_code() for _ in range(RECOVERY_CODES)]
    identity.recovery_codes.all().delete()
    RecoveryCode.objects.bulk_create(
        RecoveryCode(
            organization_id=identity.organization_id,
            identity=identity,
            code_hash=hash_recovery_code(identity.pk, code),
        )
        for code in codes
    )
    return codes


def _forget(identity: Identity, row: IdentityAuthenticator, *, and_recovery: bool) -> None:
    """What sessions remember of this authenticator, and of recovery codes."""
    known = AccessSession.objects.filter(identity=identity).exclude(factors=[]).order_by("pk")
    for session in known.select_for_update(no_key=True):
        kept = [factor for factor in session.factors if not _is_about(factor, row, and_recovery)]
        if kept != session.factors:
            session.factors = kept
            session.save(update_fields=["factors"])


def _is_about(factor: dict[str, object], row: IdentityAuthenticator, and_recovery: bool) -> bool:
    return factor["authenticator"] == str(row.pk) or (and_recovery and factor["kind"] == RECOVERY)


def _open(challenge: FactorChallenge) -> bytes:
    return unseal(settings.SEAL_KEY, bytes(challenge.secret_sealed), "factor-challenge", str(challenge.pk))


def _clean_name(name: str, kind: str) -> str:
    clean = " ".join(name.split())[:MAX_NAME]
    if not clean.isprintable():
        raise InvalidInput("The name holds characters that cannot be shown.", fields={"name": "Not printable."})
    return clean or _DEFAULT_NAMES[kind]


def _record(
    event: str,
    identity: Identity,
    actor: Actor,
    *,
    old: Mapping[str, object] | None = None,
    new: Mapping[str, object] | None = None,
) -> None:
    audit.record(event, organization=identity.organization, actor=actor, target=identity, old=old, new=new)
