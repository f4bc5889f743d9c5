"""The hand-over of a login from the team domain to an application host, by a one-time code."""

from __future__ import annotations

import secrets
import uuid
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.db import transaction

from access import login_events as events
from access import tokens
from access.login_links import LoginContext, hash_of
from access.models import Application, HandOver
from access.sessions import session_of_nonce
from accounts import audit
from accounts.actor import Actor, ActorKind
from accounts.errors import PermissionDenied
from accounts.models import AccessSession, Organization

HAND_OVER_SECONDS = 60


class HandOverRefused(PermissionDenied):
    code = "login_link_refused"


@dataclass(frozen=True, slots=True)
class Admission:
    """What an application host gives a browser after a login."""

    application: Application
    token: str = field(repr=False)
    expires_at: datetime
    redirect_path: str


def identity_actor(session: AccessSession, ip: str | None) -> Actor:
    return Actor(ActorKind.IDENTITY, str(session.identity_id), str(session.identity), ip)


@transaction.atomic
def issue_hand_over(
    application: Application,
    *,
    session: AccessSession,
    context: LoginContext,
    policy_id: uuid.UUID | str | None,
    session_duration_seconds: int,
    now: datetime,
    actor: Actor,
    device: str = "",
) -> str:
    """A code for `authorized`, good once, for a minute, in the browser that started at the application host."""
    code = secrets.token_urlsafe(32)
    hand_over = HandOver.objects.create(
        code_sha256=hash_of(code),
        organization=application.organization,
        application=application,
        session=session,
        app_session_sha256=context.app_session_sha256,
        hostname=context.hostname,
        redirect_path=context.redirect_path,
        policy_id=policy_id,
        session_duration_seconds=session_duration_seconds,
        device=device,
        expires_at=now + timedelta(seconds=HAND_OVER_SECONDS),
    )
    AccessSession.objects.filter(pk=session.pk).update(last_seen_at=now)
    audit.record(
        events.LOGIN_HANDED_OVER,
        organization=application.organization,
        actor=actor,
        target=application,
        new={"hostname": hand_over.hostname, "session": str(session.id), "policy": str(policy_id or "")},
    )
    return code


@transaction.atomic
def take_hand_over(
    organization: Organization, *, hostname: str, code: str, app_session: str, now: datetime, ip: str | None
) -> Admission:
    """Use the code up by one conditional UPDATE: of any number at once exactly one gets the token (AC-35).

    A wrong cookie or host changes nothing, so a stranger who sees the link can not burn it. Raises HandOverRefused.
    """
    refused = HandOverRefused("This login link was used already, is too old, or belongs to another browser.")
    if not code or not app_session:
        raise refused
    taken = HandOver.objects.for_organization(organization).filter(
        code_sha256=hash_of(code), hostname=hostname, app_session_sha256=hash_of(app_session)
    )
    if not taken.filter(used_at__isnull=True, expires_at__gt=now).update(used_at=now):
        raise refused
    hand_over = taken.select_related("application__organization", "session").get()
    session = session_of_nonce(organization, hand_over.session.nonce, now=now)
    if session is None:
        raise HandOverRefused("Your session has ended meanwhile. Log in again.", code="session_ended")
    application, lifetime = hand_over.application, hand_over.session_duration_seconds
    expires_at = tokens.application_token_end(session, now=now, lifetime_seconds=lifetime)
    token = tokens.mint_application_token(
        application, session, now=now, lifetime_seconds=lifetime, country=session.country, device=hand_over.device
    )
    audit.record(
        events.TOKEN_ISSUED,
        organization=organization,
        actor=identity_actor(session, ip),
        target=application,
        new={"hostname": hostname, "session": str(session.id), "expires_at": expires_at.isoformat()},
    )
    return Admission(application, token, expires_at, hand_over.redirect_path)
