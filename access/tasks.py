"""Periodic jobs of `access` on the default queue: thin, each calls actions that may run twice without harm."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from itertools import groupby

from celery import shared_task
from django.conf import settings
from django.core.mail import EmailMessage
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone

from access import simulation
from access.actions import authorities, consent, drafts, service_tokens, signing, token_keys
from access.actions.host_fetches import forget_old_fetches
from access.models import HandOver, ServiceToken, Transfer
from accounts.actor import system
from accounts.models import Membership, Organization
from accounts.permissions import Role

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
def redrive_simulations() -> dict[str, int]:
    return simulation.redrive(now=timezone.now())


@shared_task
def warn_of_expiring_service_tokens() -> dict[str, int]:
    """One mail per organization to its owners and admins, a week before, once per token and end."""
    due = service_tokens.tokens_to_warn_of(now=timezone.now())
    actor = system("warn_of_expiring_service_tokens")
    warned = 0
    for _, group in groupby(due, key=lambda token: token.organization_id):
        claimed = [token for token in group if service_tokens.claim_expiry_warning(token, actor=actor)]
        if not claimed:
            continue
        try:
            _expiry_mail(claimed[0].organization, claimed).send()
        except OSError:
            for token in claimed:
                service_tokens.withdraw_expiry_warning(token)
            raise
        warned += len(claimed)
    return {"warned": warned}


def _expiry_mail(organization: Organization, tokens: Sequence[ServiceToken]) -> EmailMessage:
    members = Membership.objects.for_organization(organization).filter(
        role__in=[Role.OWNER, Role.ADMIN], user__is_active=True
    )
    path = reverse("service_tokens", args=[organization.team_name], urlconf=settings.ROOT_URLCONF)
    context = {"organization": organization, "tokens": tokens, "url": f"{settings.DASHBOARD_URL}{path}"}
    number = "A service token" if len(tokens) == 1 else f"{len(tokens)} service tokens"
    subject = f"{number} of {organization.name} will expire within a week"
    return EmailMessage(
        subject=" ".join(subject.split()),
        body=render_to_string("access/service_tokens_expire.txt", context),
        # Members need not learn of each other from a header.
        bcc=sorted(members.values_list("user__email", flat=True)),
        headers={"Auto-Submitted": "auto-generated"},
    )


@shared_task
def sweep_expired() -> dict[str, int]:
    """Forget one-time hand-overs, transfers and drafts that ended; their audit events stay."""
    before = timezone.now() - _KEEP_EXPIRED
    hand_overs, _ = HandOver.objects.all_organizations(reason="a sweeper").filter(expires_at__lt=before).delete()
    transfers, _ = Transfer.objects.all_organizations(reason="a sweeper").filter(expires_at__lt=before).delete()
    requests = consent.sweep_requests(now=timezone.now())
    forget_old_fetches(now=timezone.now())
    forgotten = drafts.forget_expired_drafts(now=timezone.now())
    return {"hand_overs": hand_overs, "transfers": transfers, "approval_requests": requests, "drafts": forgotten}
