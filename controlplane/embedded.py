"""The embedded set-up: Celery worker and beat as threads of the one web process, on kombu's in-memory broker.

Two workers, so that a slow job (mail, DNS, a push to an edge) never makes a login wait for its certificate.
"""

from __future__ import annotations

import logging
import threading
from typing import Any

from celery import Celery
from celery.beat import Scheduler, Service
from celery.worker import WorkController

log = logging.getLogger(__name__)
_started = threading.Event()


def start(app: Celery) -> None:
    """Start the threads once per process; they end with it (daemon threads; tasks are re-driven after a crash)."""
    if _started.is_set():
        return
    _started.set()
    app.finalize()
    _spawn("signing-worker", lambda: _worker(app, "signing", pool="solo", concurrency=1).start())
    _spawn("default-worker", lambda: _worker(app, "default", pool="threads", concurrency=4).start())
    _spawn("beat", lambda: Service(app, scheduler_cls=Scheduler).start(embedded_process=False))


def _worker(app: Celery, queue: str, *, pool: str, concurrency: int) -> Any:
    return WorkController(
        app=app,
        hostname=f"{queue}@embedded",
        queues=[queue],
        pool_cls=pool,
        concurrency=concurrency,
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        loglevel="WARNING",
    )


def _spawn(name: str, run: Any) -> None:
    def guarded() -> None:
        try:
            run()
        except Exception:
            log.exception("embedded thread ended", extra={"thread_name": name})
            raise

    threading.Thread(target=guarded, name=name, daemon=True).start()
