"""Check that no event of the audit log was changed, removed, moved or slipped in. Exits with 1 when one was."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from accounts.actions.audit_chains import holds_anchor, verify_chain
from accounts.models import AuditChain, Organization


class Command(BaseCommand):
    help = "Verify the audit log's chains and print their heads; keep a head elsewhere to check it later with --anchor."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--team", help="only this organization (team name)")
        parser.add_argument(
            "--anchor",
            metavar="NUMBER:DIGEST",
            help="a head printed earlier: fails unless that event is still in the chain of --team",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        chains = self._chains(options["team"])
        names = dict(Organization.objects.values_list("id", "team_name"))
        broken = False
        for chain in chains:
            found = verify_chain(chain, now=timezone.now())
            broken = broken or bool(found.problem)
            name = names.get(chain.pk, "(deleted organization)") if chain.pk else "(installation)"
            says = f"BROKEN: {found.problem}" if found.problem else "verified"
            self.stdout.write(f"{name}: {found.sequence} events {says}, head {found.sequence}:{found.digest}")
        if options["anchor"]:
            broken = self._anchor(chains, options["anchor"]) or broken
        if broken:
            raise CommandError("The audit log is not what was written.", returncode=1)

    def _chains(self, team: str | None) -> list[AuditChain]:
        if team is None:
            return list(AuditChain.objects.order_by("pk"))
        organization = Organization.objects.filter(team_name=team).first()
        if organization is None:
            raise CommandError(f"There is no organization {team}.", returncode=2)
        return list(AuditChain.objects.filter(pk=organization.pk))

    def _anchor(self, chains: list[AuditChain], anchor: str) -> bool:
        number, _, digest = anchor.partition(":")
        if len(chains) != 1 or not number.isdigit():
            raise CommandError("--anchor wants --team, and NUMBER:DIGEST as this command printed it.", returncode=2)
        if holds_anchor(chains[0], int(number), digest):
            self.stdout.write(f"anchor {number} holds")
            return False
        self.stdout.write(f"BROKEN: event {number} is not the one of the anchor")
        return True
