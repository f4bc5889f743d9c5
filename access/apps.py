from __future__ import annotations

import importlib

from django.apps import AppConfig


class AccessConfig(AppConfig):
    name = "access"

    def ready(self) -> None:
        # Registers the audit event names; it imports models, so it cannot stand at the top of this module.
        importlib.import_module("access.events")
        importlib.import_module("access.login_events")
        importlib.import_module("access.api_forms").register()
        importlib.import_module("access.restorers").register_kinds()
        importlib.import_module("access.api_calls").register_calls()
