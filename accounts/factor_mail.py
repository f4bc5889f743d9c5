"""Mails about a person's authenticators and a member's account: whoever did not change them learns that somebody did.

accounts.tasks imports this module, so that workers know its task.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from celery import shared_task
from django.core.mail import EmailMessage
from django.db import transaction
from django.template.loader import render_to_string
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from accounts.actor import Actor
from accounts.mfa_models import IdentityAuthenticator
from accounts.models import Identity
from accounts.second_factor import KIND_TEXTS

ADDED, REMOVED, RESET = "added", "removed", "reset"
_SUBJECTS = {
    ADDED: "An authenticator was added to your account at {}",
    REMOVED: "An authenticator was removed from your account at {}",
    RESET: "Your authenticators at {} were reset",
}
_MAIL_RETRY_SECONDS = 5


def tell_person(identity: Identity, change: str, rows: list[IdentityAuthenticator], *, actor: Actor) -> None:
    """After the commit. The facts go along: a removed row is not there any more when the task runs."""
    names = [f"{row.name} ({KIND_TEXTS[row.kind]})" for row in rows]
    # Where the person's own browser was; an administrator's address is not theirs to know.
    address = actor.ip if change != RESET else None
    arguments = (str(identity.pk), change, names, timezone.now().isoformat(), address)
    # The change stands, even where no broker takes the mail.
    transaction.on_commit(lambda: mail_about_authenticators.delay(*arguments), robust=True)


def tell_member(subject: str, body: str, address: str) -> None:
    """About a dashboard account's own password or factors: rendered by the request that changed it, no secret in it."""
    transaction.on_commit(lambda: mail_about_account.delay(subject, body, address), robust=True)


@shared_task(bind=True, max_retries=3)
def mail_about_account(self: Any, subject: str, body: str, address: str) -> None:
    headers = {"Auto-Submitted": "auto-generated"}
    mail = EmailMessage(subject=" ".join(subject.split())[:200], body=body, to=[address], headers=headers)
    try:
        mail.send()
    except OSError as error:
        raise self.retry(countdown=_MAIL_RETRY_SECONDS, exc=error) from None


@shared_task(bind=True, max_retries=3)
def mail_about_authenticators(
    self: Any, identity_id: str, change: str, names: list[str], at: str, address: str | None
) -> None:
    rows = Identity.objects.all_organizations(reason="a task is given one id").select_related("organization")
    identity = rows.filter(pk=UUID(identity_id)).first()
    if identity is None or not identity.email:
        return
    context = {
        "organization": identity.organization,
        "change": change,
        "names": names,
        "at": parse_datetime(at),
        "address": address,
    }
    mail = EmailMessage(
        subject=" ".join(_SUBJECTS[change].format(identity.organization.name).split())[:200],
        body=render_to_string("accounts/authenticators_email.txt", context),
        to=[identity.email],
        headers={"Auto-Submitted": "auto-generated"},
    )
    try:
        mail.send()
    except OSError as error:
        raise self.retry(countdown=_MAIL_RETRY_SECONDS, exc=error) from None
