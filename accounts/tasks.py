"""Background jobs of accounts: mails with a one-time PIN or an invitation, and sweeping what has ended."""

from __future__ import annotations

from typing import Any

from celery import shared_task
from django.contrib.sessions.models import Session
from django.core.mail import EmailMessage
from django.template.loader import render_to_string
from django.utils import timezone

from accounts import factor_mail, pin
from accounts.actions import deletions, invitation_links, pins, provider_tests, second_factor, sessions, support
from accounts.actions.audit_chains import verify_all
from accounts.actions.scim import sweep_scim_updates
from accounts.actor import system
from accounts.models import Invitation, LoginAttempt

# Workers know the tasks of modules that are imported here.
__all__ = ["factor_mail"]

MAIL_RETRY_SECONDS = 5


@shared_task(bind=True, max_retries=3)
def send_pin(self: Any, attempt_id: str) -> None:
    """Mail a fresh PIN. It is made here, so that it is in no task argument, result or broker; only its hash is kept."""
    attempt = LoginAttempt.objects.select_related("organization", "provider").filter(pk=attempt_id).first()
    value = pins.issue_pin(attempt, actor=system("send_pin")) if attempt is not None else None
    if attempt is None or value is None:
        return
    try:
        _mail(attempt, value).send()
    except OSError as error:
        pins.withdraw_pin(attempt)
        raise self.retry(countdown=MAIL_RETRY_SECONDS, exc=error) from None


def _mail(attempt: LoginAttempt, value: str) -> EmailMessage:
    context = {
        "pin": value,
        "organization": attempt.organization,
        "minutes": pin.LIFETIME_SECONDS // 60,
        "ip_address": attempt.ip_address,
        "requested_at": attempt.created_at,
    }
    subject = f"{value} is your login code for {attempt.organization.name}"
    return EmailMessage(
        subject=" ".join(subject.split()),
        body=render_to_string("access/public/pin_email.txt", context),
        to=[attempt.email],
        headers={"Auto-Submitted": "auto-generated"},
    )


@shared_task(bind=True, max_retries=3)
def send_invitation(self: Any, invitation_id: str) -> None:
    rows = Invitation.objects.all_organizations(reason="a task is given one id").select_related("organization")
    invitation = rows.filter(pk=invitation_id).first()
    link = invitation_links.issue_link(invitation, actor=system("send_invitation")) if invitation is not None else None
    if invitation is None or link is None:
        return
    subject = f"{invitation.invited_by_label} invites you to {invitation.organization.name}"
    context = {"invitation": invitation, "organization": invitation.organization, "link": link}
    mail = EmailMessage(
        subject=" ".join(subject.split())[:200],
        body=render_to_string("accounts/invitation_email.txt", context),
        to=[invitation.email],
        headers={"Auto-Submitted": "auto-generated"},
    )
    try:
        mail.send()
    except OSError as error:
        invitation_links.take_back_link(invitation)
        raise self.retry(countdown=MAIL_RETRY_SECONDS, exc=error) from None


@shared_task(ignore_result=True)
def verify_audit_chains(whole: bool = False) -> int:
    """How many chains are broken; each is logged as an error and shown on its audit page."""
    return sum(1 for found in verify_all(now=timezone.now(), whole=whole).values() if found.problem)


@shared_task
def sweep_expired() -> None:
    now = timezone.now()
    sessions.sweep_attempts(now=now)
    second_factor.sweep_challenges(now=now)
    sessions.sweep_sessions(now=now)
    sweep_scim_updates(now=now)
    provider_tests.sweep_provider_tests(now=now)
    support.sweep_support_sessions(now=now)
    deletions.forget_deleted(now=now)
    Session.objects.filter(expire_date__lt=now).delete()
