"""What a draft holds of an existing application: its forms filled in, as a browser would send them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from access.actions.applications import as_item
from access.application_forms import basics_of, logins_of, web_of
from access.domain_choices import domains_of
from access.forms import SshProfileForm
from access.models import Application

Fields = dict[str, list[str]]
# Stored settings that fields of the forms stand for; the others travel beside them.
FORM_SETTINGS = frozenset(
    {
        *("logo_url", "custom_deny_message", "custom_deny_url", "same_site_cookie_attribute"),
        *("http_only_cookie_attribute", "path_cookie_attribute", "options_preflight_bypass", "cors_headers"),
        "session_duration",
    }
)


def data_of(application: Application) -> dict[str, Any]:
    """For ApplicationDraft.data."""
    configure = {**basics_of(application), **logins_of(application), **_place(application)}
    setup = {**SshProfileForm.initial_of(application), **web_of(application.settings)}
    setup["skip_interstitial"] = configure.pop("skip_interstitial")
    links = application.policy_links.select_related("policy").order_by("precedence")
    return {
        "configure": as_fields(configure),
        "setup": as_fields(setup),
        "policies": [{"id": str(link.policy_id)} if link.policy.reusable else as_item(link.policy) for link in links],
        # What no step of the wizard asks about.
        "extra": {"mfa_config": application.mfa_config} if application.mfa_config else {},
        "settings": {name: value for name, value in application.settings.items() if name not in FORM_SETTINGS},
    }


def as_fields(values: Mapping[str, Any]) -> Fields:
    """A form's values as a browser sends them: unticked boxes are absent, lists of lines one text."""
    fields: Fields = {}
    for name, value in values.items():
        if isinstance(value, bool):
            fields |= {name: ["on"]} if value else {}
        elif isinstance(value, list) and name in _TICKED:
            fields[name] = [str(item) for item in value]
        elif isinstance(value, list):
            fields[name] = ["\n".join(map(str, value))]
        else:
            fields[name] = ["" if value is None else str(value)]
    return fields


_TICKED = frozenset({"allowed_provider_ids", "certificate_extensions", "cors_methods"})


def _place(application: Application) -> dict[str, str]:
    """The hostname as subdomain and zone; a zone that is gone meanwhile leaves the whole name in the first box."""
    hostname = application.hostname
    zones = [zone for zone in domains_of(application.organization) if f".{hostname}".endswith(f".{zone}")]
    zone = max(zones, key=len, default="")
    subdomain = hostname.removesuffix(zone).rstrip(".") if zone else hostname
    return {"subdomain": subdomain, "domain": zone, "path": application.path}
