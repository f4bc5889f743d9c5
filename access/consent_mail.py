"""Mails about requests for temporary access. access.tasks imports this module, so that workers know its tasks."""

from __future__ import annotations

from typing import Any

from celery import shared_task
from django.core.mail import EmailMessage
from django.template.loader import render_to_string

from access.models import ApprovalRequest

_MAIL_RETRY_SECONDS = 5


def approvers_of(request: ApprovalRequest) -> list[str]:
    return sorted({email for group in request.groups for email in group["emails"]})


@shared_task(bind=True, max_retries=3)
def mail_approvers(self: Any, request_id: str) -> None:
    """Tell everyone who may approve, each in a mail of their own: addresses of colleagues are nobody's business."""
    request = _approval_request(request_id)
    if request is None or request.status != ApprovalRequest.Status.PENDING:
        return
    subject = f"{request.identity} asks for access to {request.application.name}"
    _mail_about(self, request, approvers_of(request), subject, "approval_request_email.txt")


@shared_task(bind=True, max_retries=3)
def mail_requester(self: Any, request_id: str) -> None:
    request = _approval_request(request_id)
    if request is None or not request.identity.email:
        return
    subject = f"Access to {request.application.name}: {request.get_status_display().lower()}"
    _mail_about(self, request, [request.identity.email], subject, "approval_answer_email.txt")


def _approval_request(request_id: str) -> ApprovalRequest | None:
    rows = ApprovalRequest.objects.all_organizations(reason="a task is given one id")
    return rows.select_related("organization", "application", "identity", "policy").filter(pk=request_id).first()


def _mail_about(task: Any, request: ApprovalRequest, addresses: list[str], subject: str, template: str) -> None:
    body = render_to_string(f"access/public/{template}", {"request": request, "organization": request.organization})
    headers = {"Auto-Submitted": "auto-generated"}
    try:
        for address in addresses:
            EmailMessage(subject=" ".join(subject.split())[:200], body=body, to=[address], headers=headers).send()
    except OSError as error:
        raise task.retry(countdown=_MAIL_RETRY_SECONDS, exc=error) from None
