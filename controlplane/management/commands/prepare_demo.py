"""Make the demo organization Widget Corp once, with one owner and one API token, and say how to reach them."""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandParser
from django.db import transaction
from mmdb_writer import MMDBWriter
from netaddr import IPSet

from accounts.actions.api_tokens import create_api_token
from accounts.actions.organizations import create_organization
from accounts.actor import system
from accounts.models import Organization, User
from accounts.permissions import SCOPES
from tunnels.actions.zones import create_zone

TEAM_NAME = "widgetcorp"
ZONE = "widgetcorp.localhost"
ADMIN_EMAIL = "admin@widgetcorp.localhost"
# What the demo's country database says of loopback addresses, so that country rules can be tried on one machine.
LOOPBACK_COUNTRY = "PT"


class Command(BaseCommand):
    help = "Create the demo organization (once) and write its addresses and first credentials to a private file."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--output", type=Path, required=True)
        parser.add_argument("--migrate", action="store_true", help="Bring the database up to date first.")

    def handle(self, *args: Any, **options: Any) -> None:
        output: Path = options["output"]
        if options["migrate"]:
            call_command("migrate", verbosity=0)
        country_file = Path(settings.GEOIP_DATABASE) if settings.GEOIP_DATABASE else None
        if country_file is not None and not country_file.exists():
            _write_country_database(country_file)
        if output.exists() and Organization.objects.filter(team_name=TEAM_NAME).exists():
            return
        facts = _create()
        descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(facts, file, indent=2)


@transaction.atomic
def _create() -> dict[str, str]:
    """The organization may exist while its file is lost: then only the credentials are made anew."""
    actor = system("prepare_demo")
    password = secrets.token_urlsafe(15)
    owner = User.objects.filter(email=ADMIN_EMAIL).first() or User.objects.create_user(ADMIN_EMAIL, name="Admin")
    owner.set_password(password)
    owner.save(update_fields=["password"])
    organization = Organization.objects.filter(team_name=TEAM_NAME).first()
    if organization is None:
        organization = create_organization("Widget Corp", team_name=TEAM_NAME, owner=owner, actor=actor)
    zone = organization.zones.filter(name=ZONE).first() or create_zone(organization, name=ZONE, actor=actor)
    _, token = create_api_token(
        organization,
        name=f"quickstart {secrets.token_hex(2)}",
        scopes=[scope.value for scope in SCOPES],
        expires_at=None,
        user=owner,
        actor=actor,
    )
    return {
        "account_id": organization.id,
        "zone_id": zone.id,
        "zone": zone.name,
        "team_domain": organization.team_domain,
        "admin_email": owner.email,
        "admin_password": password,
        "api_token": token,
    }


def _write_country_database(path: Path) -> None:
    writer = MMDBWriter(ip_version=6, database_type="Sallyport-Demo-Country", ipv4_compatible=True)
    writer.insert_network(IPSet(["127.0.0.0/8", "::1/128"]), {"country": {"iso_code": LOOPBACK_COUNTRY}})
    writer.to_db_file(str(path))
