"""Tasks of queue `signing`: the only code that runs where AUTHORITY_SEAL_KEY is. Ids in, status out, never a secret."""

from __future__ import annotations

import uuid

from celery import shared_task

from access.actions import signing


@shared_task(ignore_result=False)
def sign_certificate(certificate_id: str) -> dict[str, str]:
    """Executes an approved row, once. Redelivery finds it claimed and answers what is known."""
    return signing.sign_certificate(uuid.UUID(certificate_id))


@shared_task(ignore_result=False)
def generate_authority(authority_id: str) -> dict[str, str]:
    return signing.generate_authority(uuid.UUID(authority_id))
