"""Tasks of queue `signing`: the only code that runs where AUTHORITY_SEAL_KEY is. Ids in, status out, never a secret."""

from __future__ import annotations

import uuid

from celery import shared_task

from access.actions import signing
from access.replies import send_answers


@shared_task(ignore_result=True)
def sign_certificates(certificate_ids: list[str]) -> None:
    """Executes approved rows, each once, and answers whoever waits. Redelivery finds them claimed and answers what is
    known."""
    send_answers(signing.sign_certificates(certificate_ids))


@shared_task(ignore_result=False)
def generate_authority(authority_id: str) -> dict[str, str]:
    return signing.generate_authority(uuid.UUID(authority_id))
