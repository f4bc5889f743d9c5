"""The worker's side of a PIN login: a PIN for the mail, its hash for the row."""

from __future__ import annotations

from django.db import transaction
from django.utils import timezone

from accounts import audit, events, pin
from accounts.actor import Actor
from accounts.models import LoginAttempt


def issue_pin(attempt: LoginAttempt, *, actor: Actor) -> str | None:
    """A PIN for the mail, its hash stored. None when one was issued before (a task that runs twice sends once)."""
    value = pin.new_pin()
    with transaction.atomic():
        issued = LoginAttempt.objects.filter(
            pk=attempt.pk, pin_hash="", used_at__isnull=True, expires_at__gt=timezone.now()
        ).update(pin_hash=pin.hash_pin(attempt.id, value))
        if not issued:
            return None
        audit.record(
            events.LOGIN_PIN_SENT,
            organization=attempt.organization,
            actor=actor,
            target=attempt,
            target_label=attempt.email,
        )
    return value


def withdraw_pin(attempt: LoginAttempt) -> None:
    """The mail could not be handed over: the task's next try issues another PIN."""
    LoginAttempt.objects.filter(pk=attempt.pk, used_at__isnull=True).update(pin_hash="")
