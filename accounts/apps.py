from __future__ import annotations

from importlib import import_module

from django.apps import AppConfig


class AccountsConfig(AppConfig):
    name = "accounts"

    def ready(self) -> None:
        import_module("accounts.events")
        import_module("accounts.api_forms").register()
        import_module("accounts.restorers").register_kinds()
        import_module("accounts.api_calls").register_calls()
