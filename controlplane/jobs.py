"""What background work looks like from outside: queues, workers, periodic jobs, failures.

Signals of Celery write the facts down (`watch`), the staff area reads them. Depth and age of a queue are asked of the
broker itself; what workers did is kept in the cache, which all processes share; failures are rows.
"""

from __future__ import annotations

import json
import logging
import re
import time
import traceback
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

from celery import Celery
from celery.signals import before_task_publish, task_failure, task_postrun
from django.core.cache import cache
from django.db import DatabaseError, transaction
from kombu.exceptions import KombuError
from redis.exceptions import RedisError

from accounts.models import JobFailure
from accounts.text import in_words

log = logging.getLogger(__name__)
QUEUES = ("signing", "default")
SENT_AT = "sallyport_sent_at"
_WORKERS = "jobs.workers"
_KEEP_SECONDS = 7 * 86400
_WORKER_EVERY_SECONDS = 5.0
_OUR_PACKAGES = ("controlplane", "accounts", "access", "tunnels")
_PLAIN_ARGUMENT = re.compile(r"[0-9A-Za-z_.-]{1,64}")
_said: dict[str, float] = {}


# --- Written down by workers ------------------------------------------------------------------------------------
@before_task_publish.connect
def _stamp(headers: dict[str, Any] | None = None, **_: Any) -> None:
    """Celery's messages carry no time of their own, and the age of the oldest one says more than their number."""
    if headers is not None:
        headers.setdefault(SENT_AT, time.time())


@task_postrun.connect
def _ran(task: Any = None, state: str = "", **_: Any) -> None:
    name, now = getattr(task, "name", ""), time.time()
    worker = _worker_of(task)
    if now - _said.get(worker, 0.0) > _WORKER_EVERY_SECONDS:
        _said[worker] = now
        seen = {key: at for key, at in (cache.get(_WORKERS) or {}).items() if now - at < _KEEP_SECONDS}
        cache.set(_WORKERS, {**seen, worker: now}, _KEEP_SECONDS)
    if name in _periodic(task):
        cache.set(f"jobs.ran:{name}", {"at": now, "state": str(state)}, _KEEP_SECONDS)


@task_failure.connect
def _failed(
    sender: Any = None,
    exception: BaseException | None = None,
    args: Any = None,
    kwargs: Any = None,
    traceback: TracebackType | None = None,
    **_: Any,
) -> None:
    try:
        with transaction.atomic():
            JobFailure.objects.create(
                task=sender.name[:200],
                exception=type(exception).__qualname__[:200],
                place=place_of(traceback),
                worker=_worker_of(sender)[:200],
                arguments=_plain_arguments(args, kwargs),
            )
    except DatabaseError:
        log.exception("a failed job could not be written down", extra={"task": sender.name})


def place_of(trace: TracebackType | None) -> str:
    """The innermost frame of our own code. Never the exception's text, which may name anything."""
    frames = [
        f"{frame.f_globals.get('__name__', '')}.{frame.f_code.co_name}, line {line}"
        for frame, line in traceback.walk_tb(trace)
        if str(frame.f_globals.get("__name__", "")).partition(".")[0] in _OUR_PACKAGES
    ]
    return frames[-1][:300] if frames else ""


def _plain_arguments(args: Any, kwargs: Any) -> list[Any] | None:
    """Tasks take ids. Anything else is not kept, and the job cannot be sent again from here."""
    values = list(args or ())
    if kwargs or not all(isinstance(value, int) or _is_plain(value) for value in values):
        return None
    return values


def _is_plain(value: Any) -> bool:
    return isinstance(value, str) and _PLAIN_ARGUMENT.fullmatch(value) is not None


def _worker_of(task: Any) -> str:
    return str(getattr(getattr(task, "request", None), "hostname", None) or "in this process")


def _periodic(task: Any) -> set[str]:
    app = getattr(task, "app", None)
    return {entry["task"] for entry in app.conf.beat_schedule.values()} if app is not None else set()


# --- Read by the staff area -------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class QueueState:
    name: str
    depth: int | None  # None: the broker does not answer
    oldest_seconds: float | None


@dataclass(frozen=True, slots=True)
class PeriodicState:
    name: str
    every_seconds: int
    ran_at: datetime | None
    succeeded: bool
    is_late: bool

    @property
    def title(self) -> str:
        """ "access.tasks.sweep_expired" -> "Sweep expired"."""
        text = in_words(self.name.rpartition(".")[2])
        return text[:1].upper() + text[1:]


@dataclass(frozen=True, slots=True)
class WorkerState:
    name: str
    seen_at: datetime
    is_recent: bool


def queue_states(app: Celery) -> list[QueueState]:
    """Asks the broker: Redis, or the in-memory one of this very process."""
    try:
        with app.connection_for_write(connect_timeout=2) as connection:
            channel = connection.default_channel
            return [_queue_state(channel, name) for name in QUEUES]
    except (OSError, KombuError, RedisError):
        return [QueueState(name, None, None) for name in QUEUES]


def _queue_state(channel: Any, name: str) -> QueueState:
    """A queue nobody has used yet does not exist; that is an empty queue."""
    if not channel._has_queue(name):
        return QueueState(name, 0, None)
    return QueueState(name, int(channel._size(name)), _age(_oldest(channel, name)))


def _oldest(channel: Any, name: str) -> Any:
    client = getattr(channel, "client", None)
    if client is not None and hasattr(client, "lindex"):
        raw = client.lindex(name, -1)  # taken from the right end
        return json.loads(raw) if raw else None
    waiting = channel._queue_for(name).queue
    return waiting[0] if waiting else None


def _age(message: Any) -> float | None:
    sent = (message or {}).get("headers", {}).get(SENT_AT)
    return max(0.0, time.time() - float(sent)) if sent else None


def periodic_states(app: Celery, now: datetime) -> list[PeriodicState]:
    found = []
    for entry in sorted(app.conf.beat_schedule.values(), key=lambda entry: str(entry["task"])):
        name, every = str(entry["task"]), int(float(entry["schedule"]))
        ran = cache.get(f"jobs.ran:{name}")
        at = datetime.fromtimestamp(ran["at"], UTC) if ran else None
        late = at is None or (now - at).total_seconds() > 3 * every + 30
        found.append(PeriodicState(name, every, at, bool(ran) and ran["state"] == "SUCCESS", late))
    return found


def worker_states(now: datetime) -> list[WorkerState]:
    seen: Iterable[tuple[str, float]] = (cache.get(_WORKERS) or {}).items()
    moments = [(name, datetime.fromtimestamp(at, UTC)) for name, at in seen]
    return [WorkerState(name, at, (now - at).total_seconds() < 60) for name, at in sorted(moments)]


# --- Actions ----------------------------------------------------------------------------------------------------
def requeue(app: Celery, failure: JobFailure, *, by: str, now: datetime) -> bool:
    """Send a failed job again, once. False when it cannot be, or was already."""
    if failure.arguments is None or failure.task not in app.tasks:
        return False
    claimed = JobFailure.objects.filter(pk=failure.pk, requeued_at=None).update(requeued_at=now, requeued_by=by[:254])
    if claimed:
        arguments = list(failure.arguments)
        transaction.on_commit(lambda: app.send_task(failure.task, args=arguments))
    return bool(claimed)
