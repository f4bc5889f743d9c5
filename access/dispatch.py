"""Sending jobs to the signing workers and waiting for them, both for a bounded time."""

from __future__ import annotations

import logging
import uuid
from typing import Any

from celery import Task
from celery.exceptions import TimeoutError as ResultTimeout
from celery.result import AsyncResult
from kombu.exceptions import OperationalError

from accounts.errors import TemporarilyUnavailable

log = logging.getLogger(__name__)
# The in-memory and cache result backends poll; Redis pushes and ignores this.
_POLL_SECONDS = 0.002


def submit(task: Task[Any, Any], identifiers: str | list[str], *, expires_seconds: float) -> None:
    """Send the job, named after the (first) row it works on. A job not started in time is dropped by the worker.

    Raises TemporarilyUnavailable when the broker cannot be reached; the rows then wait for their sweeper.
    """
    name = identifiers if isinstance(identifiers, str) else identifiers[0]
    try:
        task.apply_async(args=(identifiers,), task_id=name, expires=expires_seconds)
    except (OperationalError, OSError) as error:
        log.exception("the signing queue cannot be reached")
        raise TemporarilyUnavailable(
            "The signing service cannot be reached at the moment. Try again in a few seconds.",
            code="signing_unavailable",
        ) from error


def await_result(identifier: uuid.UUID, *, timeout: float) -> dict[str, Any] | None:
    """What the job returned, or None when it did not end within `timeout` seconds or its answer got lost."""
    try:
        # An embedded worker marks its whole process as "inside a task", where waiting is refused by default. Requests
        # wait in their own threads and the worker has its own, so nothing can wait for itself.
        answer: Any = AsyncResult(str(identifier)).get(
            timeout=timeout, interval=_POLL_SECONDS, propagate=False, disable_sync_subtasks=False
        )
    except ResultTimeout:
        return None
    except (OperationalError, OSError):
        log.exception("the result of a signing job cannot be read")
        return None
    return answer if isinstance(answer, dict) else None
