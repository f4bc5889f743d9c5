from __future__ import annotations

from importlib import import_module

from django.apps import AppConfig


class TunnelsConfig(AppConfig):
    name = "tunnels"

    def ready(self) -> None:
        # These import models, so they cannot stand at the top of this module.
        import_module("tunnels.events")
        import_module("tunnels.api_forms").register()
        import_module("tunnels.restorers").register_kinds()
        import_module("accounts.audit").set_change_announcer(import_module("tunnels.tasks").announce)
        import_module("access.hostnames").set_owner_check(import_module("tunnels.zones").assert_owned)
        import_module("access.reachability").set_reach(import_module("tunnels.way_facts").connected_applications)
        import_module("access.domain_choices").set_domain_lister(import_module("tunnels.domains").active_domains)
