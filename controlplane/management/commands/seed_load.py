"""Fill a test installation with a large organization, to see how pages behave with it."""

from __future__ import annotations

import random
import secrets
import time
from datetime import datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connection, transaction
from django.utils import timezone

from accounts.actions.organizations import create_organization
from accounts.actor import system
from accounts.models import Organization, User
from controlplane.load.logs import make_logs
from controlplane.load.objects import Made, Sizes, make_objects

TEAM_NAME = "loadcorp"
OWNER = "owner@load.test"


class Command(BaseCommand):
    help = (
        "Make the organization Load Corp with many applications, groups, people and log rows. For test installations."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        sizes = Sizes()
        parser.add_argument("--applications", type=int, default=sizes.applications)
        parser.add_argument("--groups", type=int, default=sizes.groups)
        parser.add_argument("--identities", type=int, default=sizes.identities)
        parser.add_argument("--log-rows", type=int, default=sizes.log_rows)
        parser.add_argument("--seed", type=int, default=1, help="the same seed makes the same rows")
        parser.add_argument(
            "--until", type=datetime.fromisoformat, help="the newest moment in the logs, with zone; default: now"
        )
        parser.add_argument(
            "--among-real-data", action="store_true", help="also where other organizations exist already"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        sizes = Sizes(*(options[name] for name in ("applications", "groups", "identities", "log_rows")))
        _refuse_small(sizes)
        _refuse_real_data(among_real_data=options["among_real_data"])
        started = time.perf_counter()
        password = secrets.token_urlsafe(15)
        with transaction.atomic():
            _take_time()
            owner = User.objects.create_user(OWNER, password, name="Owner of the load")
            organization = create_organization("Load Corp", team_name=TEAM_NAME, owner=owner, actor=system("seed_load"))
            until = options["until"] or timezone.now()
            made = Made(organization, until, random.Random(options["seed"]))  # noqa: S311 - the same rows every time
            make_objects(made, sizes)
            written = make_logs(made, sizes.log_rows)
            _take_time()
            with connection.cursor() as cursor:
                cursor.execute("ANALYZE")
        counts = ", ".join(f"{count:,} {name}" for name, count in written.items())
        self.stdout.write(f"Load Corp: {sizes.applications:,} applications, {sizes.groups:,} groups, ")
        self.stdout.write(f"{sizes.identities:,} identities, {counts} in {time.perf_counter() - started:.0f} s")
        self.stdout.write(f"Sign in as {OWNER} with the password {password}")


def _take_time() -> None:
    """Requests have a statement timeout; loading a million rows takes longer, once."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL statement_timeout = 0")


def _refuse_small(sizes: Sizes) -> None:
    if min(sizes.applications, sizes.groups, sizes.identities) < 1 or sizes.log_rows < 0:
        raise CommandError("At least one application, group and identity are needed, and no negative number of rows.")


def _refuse_real_data(*, among_real_data: bool) -> None:
    if Organization.objects.filter(team_name=TEAM_NAME).exists() or User.objects.filter(email=OWNER).exists():
        raise CommandError("Load Corp is there already. Use a fresh database.")
    if Organization.objects.exists() and not among_real_data:
        raise CommandError(
            "This installation has organizations. Load Corp would share tables and caches with real people: use another"
            " database, or say --among-real-data if that is what you want."
        )
