"""Make an organization with its first owner; the way in for a new installation, which has no open sign-up."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from accounts.actions.members import add_member
from accounts.actions.organizations import create_organization
from accounts.actor import system
from accounts.errors import DomainError
from accounts.permissions import Role


class Command(BaseCommand):
    help = "Create an organization and its owner; prints a new owner's password once."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name")
        parser.add_argument("--team", required=True, help="team name: the label below ACCESS_DOMAIN")
        parser.add_argument("--owner", required=True, metavar="EMAIL")

    def handle(self, *args: Any, **options: Any) -> None:
        actor = system("create_organization")
        try:
            with transaction.atomic():
                organization = create_organization(options["name"], team_name=options["team"], owner=None, actor=actor)
                _, password = add_member(organization, email=options["owner"], role=Role.OWNER, actor=actor)
        except DomainError as error:
            raise CommandError(error.message) from error
        self.stdout.write(f"Organization {organization.name}: account id {organization.id}, {organization.team_url}")
        self.stdout.write(f"Owner {options['owner']}: " + (f"password {password}" if password else "existing account"))
