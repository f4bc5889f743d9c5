"""Let an organization of a demo installation look used: days of logins, certificates and sessions behind it."""

from __future__ import annotations

import random
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from access.models import SshAuthority
from accounts.models import Organization
from controlplane.load.days import live_through
from controlplane.load.objects import Made


class Command(BaseCommand):
    help = "Write days of logins, certificates and sessions for an organization. For demo installations only."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("team", help="the organization's team name")
        parser.add_argument("--days", type=int, default=28)

    def handle(self, *args: Any, **options: Any) -> None:
        if not settings.UNVERIFIED_ZONE_SUFFIX:
            raise CommandError(
                "This is no demo installation (UNVERIFIED_ZONE_SUFFIX is empty): invented rows would stand among real"
                " ones in its logs."
            )
        organization = Organization.objects.filter(team_name=options["team"]).first()
        if organization is None:
            raise CommandError(f"There is no organization with the team name {options['team']}.")
        if not SshAuthority.objects.for_organization(organization).exists():
            raise CommandError("Generate an SSH certificate for one of its applications first: logins lead there.")
        made = Made(organization, timezone.now(), random.Random(1))  # noqa: S311 - the same rows every time
        written = live_through(made, days=options["days"])
        counts = ", ".join(f"{count:,} {name}" for name, count in written.items())
        self.stdout.write(f"{organization.name}: {counts} in the last {options['days']} days")
