"""The bare Celery round trip, started by bench.certificates in a process with the settings of the measured set-up.

Prints the median in milliseconds. With an in-memory broker it starts the embedded worker beside itself, as web does.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
import uuid

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlplane.settings")


def main() -> int:
    import django

    django.setup()
    from django.conf import settings

    from access.dispatch import await_result
    from controlplane import embedded
    from controlplane.celery import app

    if settings.EMBEDDED_WORKER:
        embedded.start(app)
    samples = []
    for number in range(int(sys.argv[1]) + 20):
        identifier, question = uuid.uuid4(), {"number": number}
        started = time.perf_counter()
        # A task every Celery worker has: it returns its first argument.
        app.send_task(
            "celery.accumulate", args=(question,), kwargs={"index": 0}, queue="signing", task_id=str(identifier)
        )
        answer = await_result(identifier, timeout=10.0)
        if answer != question:
            raise RuntimeError(f"unexpected answer: {answer}")
        if number >= 20:
            samples.append(time.perf_counter() - started)
    print(statistics.median(samples) * 1000)
    return 0


if __name__ == "__main__":
    sys.exit(main())
