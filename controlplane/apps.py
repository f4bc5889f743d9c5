from __future__ import annotations

from importlib import import_module

from django.apps import AppConfig


class ControlplaneConfig(AppConfig):
    name = "controlplane"

    def ready(self) -> None:
        # Connects to Celery's signals, in web processes and workers alike.
        import_module("controlplane.jobs")
