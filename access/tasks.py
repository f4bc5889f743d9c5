"""Periodic jobs of `access` on the default queue: thin, each calls actions that may run twice without harm."""

from __future__ import annotations

from datetime import timedelta

from celery import shared_task
from django.utils import timezone

from access.actions import authorities, consent, signing, token_keys
from access.models import HandOver, Transfer
from accounts.actor import system

# One-time codes and sealed transfers are kept this long after their end, for the log's reader.
_KEEP_EXPIRED = timedelta(hours=1)


@shared_task
def rotate_token_keys() -> None:
    token_keys.rotate_due(now=timezone.now())


@shared_task
def rotate_ssh_authorities() -> dict[str, int]:
    return authorities.rotate_due_authorities(now=timezone.now(), actor=system("rotate_ssh_authorities"))


@shared_task
def redrive_certificates() -> dict[str, int]:
    """Fail what got stuck, ask again for authority keys that were never made."""
    now = timezone.now()
    failed = signing.fail_stuck_certificates(now=now, actor=system("redrive_certificates"))
    return {"failed": failed, "asked_again": authorities.ask_again_for_missing_keys(now=now)}


@shared_task
def sweep_expired() -> dict[str, int]:
    """Forget one-time hand-overs and transfers that ended; their audit events stay."""
    before = timezone.now() - _KEEP_EXPIRED
    hand_overs, _ = HandOver.objects.all_organizations(reason="a sweeper").filter(expires_at__lt=before).delete()
    transfers, _ = Transfer.objects.all_organizations(reason="a sweeper").filter(expires_at__lt=before).delete()
    requests = consent.sweep_requests(now=timezone.now())
    return {"hand_overs": hand_overs, "transfers": transfers, "approval_requests": requests}
