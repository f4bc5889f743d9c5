"""The worker's side of an invitation: a link for the mail, its hash for the row."""

from __future__ import annotations

import hashlib
import secrets

from django.conf import settings
from django.db import transaction
from django.urls import reverse
from django.utils import timezone

from accounts import audit, events
from accounts.actor import Actor
from accounts.models import Invitation


def issue_link(invitation: Invitation, *, actor: Actor) -> str | None:
    """The link, made here so that it is in no task argument, broker or log. None when one was issued before (a task
    that runs twice mails once) or the invitation is over."""
    token = secrets.token_urlsafe(32)
    now = timezone.now()
    with transaction.atomic():
        issued = Invitation.objects.filter(
            pk=invitation.pk,
            token_sha256="",
            accepted_at=None,
            withdrawn_at=None,
            expires_at__gt=now,
        ).update(token_sha256=hashlib.sha256(token.encode()).hexdigest(), sent_at=now)
        if not issued:
            return None
        audit.record(
            events.INVITATION_SENT,
            organization=invitation.organization,
            actor=actor,
            target=invitation,
            target_label=invitation.email,
            new={"email": invitation.email, "role": invitation.role},
        )
    # The dashboard's own address, never a Host header's (AC-108).
    return f"{settings.DASHBOARD_URL}{reverse('invitation', args=[token])}"


def take_back_link(invitation: Invitation) -> None:
    """The mail could not be handed over: the task's next try issues another link."""
    Invitation.objects.filter(pk=invitation.pk, accepted_at=None).update(token_sha256="", sent_at=None)
