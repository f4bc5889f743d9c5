"""The Celery application and the periodic jobs."""

from __future__ import annotations

import os
from typing import Any

from celery import Celery
from celery.signals import task_postrun, task_prerun
from django.db import close_old_connections, connection

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlplane.settings")

app = Celery("sallyport")
# Threads other than the importing one (embedded workers) must find this application too, not an empty default.
app.set_default()
app.config_from_object("django.conf:settings", namespace="CELERY")
# Celery would close the database connection after every task; close_old_connections below keeps healthy ones, which
# saves a PostgreSQL connect per certificate.
app.conf["CELERY_DB_REUSE_MAX"] = 2**62
app.autodiscover_tasks(["accounts", "access", "tunnels"])
app.autodiscover_tasks(["access"], related_name="signing")
app.conf.beat_schedule = {
    "accounts.tasks.sweep_expired": {"task": "accounts.tasks.sweep_expired", "schedule": 600.0},
    "accounts.tasks.verify_audit_chains": {"task": "accounts.tasks.verify_audit_chains", "schedule": 3600.0},
    # From the first event on: a change of an old one does not show in what the hourly check looks at.
    "accounts.tasks.verify_whole_audit_chains": {
        "task": "accounts.tasks.verify_audit_chains",
        "schedule": 86400.0,
        "kwargs": {"whole": True},
    },
    "access.tasks.rotate_token_keys": {"task": "access.tasks.rotate_token_keys", "schedule": 3600.0},
    "access.tasks.rotate_ssh_authorities": {"task": "access.tasks.rotate_ssh_authorities", "schedule": 3600.0},
    "access.tasks.redrive_certificates": {"task": "access.tasks.redrive_certificates", "schedule": 5.0},
    "access.tasks.redrive_simulations": {"task": "access.tasks.redrive_simulations", "schedule": 30.0},
    "access.tasks.sweep_expired": {"task": "access.tasks.sweep_expired", "schedule": 600.0},
    "access.tasks.warn_of_expiring_service_tokens": {
        "task": "access.tasks.warn_of_expiring_service_tokens",
        "schedule": 3600.0,
    },
    "tunnels.tasks.sweep_connections": {"task": "tunnels.tasks.sweep_connections", "schedule": 5.0},
    "tunnels.tasks.roll_up_activity": {"task": "tunnels.tasks.roll_up_activity", "schedule": 60.0},
    "tunnels.tasks.verify_records": {"task": "tunnels.tasks.verify_records", "schedule": 60.0},
    "tunnels.tasks.verify_zones": {"task": "tunnels.tasks.verify_zones", "schedule": 60.0},
}


@task_prerun.connect
@task_postrun.connect
def _refresh_connections(**_: Any) -> None:
    """Drop connections the database has closed. Not inside a transaction (tasks run eagerly in tests)."""
    if not connection.in_atomic_block:
        close_old_connections()
