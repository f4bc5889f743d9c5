"""The embedded set-up: Celery worker and beat as threads of the one web process, on kombu's in-memory broker.

One worker with several threads consumes both queues: workers of one application share its queue selection, so two
in one process would both read the queues of the one made last. Slow jobs (mail, DNS, a push to an edge) have time-outs
and leave threads free for a login that waits for its certificate.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from celery import Celery
from celery.beat import Scheduler, Service
from celery.worker import WorkController

log = logging.getLogger(__name__)
_started = threading.Event()
_RESTART_SECONDS = 1.0
_THREADS = 8


def start(app: Celery) -> None:
    """Start the threads once per process; they end with it (daemon threads; tasks are re-driven after a crash)."""
    if _started.is_set():
        return
    _started.set()
    app.finalize()
    _spawn("worker", lambda: _worker(app).start())
    _spawn("beat", lambda: Service(app, scheduler_cls=Scheduler).start(embedded_process=False))


def _worker(app: Celery) -> Any:
    return WorkController(
        app=app,
        hostname="worker@embedded",
        queues=["signing", "default"],
        pool_cls="threads",
        concurrency=_THREADS,
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        loglevel="WARNING",
    )


def _spawn(name: str, run: Callable[[], None]) -> None:
    """Keep `run` going in a daemon thread. A worker returns when its consumer fails; then a fresh one takes over."""

    def forever() -> None:
        while True:
            try:
                run()
            except Exception:
                log.exception("embedded thread failed", extra={"thread_name": name})
            log.error("embedded thread ended, starting it again", extra={"thread_name": name})
            time.sleep(_RESTART_SECONDS)

    threading.Thread(target=forever, name=name, daemon=True).start()
