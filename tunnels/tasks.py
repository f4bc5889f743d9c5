"""Background work: pushes to edges, sweeps, and questions to DNS. Every task may run twice."""

from __future__ import annotations

import time
from datetime import timedelta
from uuid import UUID

from celery import shared_task
from django.core.cache import cache
from django.core.mail import send_mail
from django.utils import timezone

from accounts.audit import edge_version
from accounts.counters import count
from accounts.models import Membership
from accounts.permissions import Role
from tunnels import dns, records, zones
from tunnels.actions.activity import count_hours, forget_old_hours, sample_activity
from tunnels.actions.due import claim_due_records, claim_due_zones
from tunnels.actions.edges import record_push_reply
from tunnels.actions.record_checks import store_record_check
from tunnels.actions.sweeps import close_silent_connections, forget_old_connections
from tunnels.actions.zone_checks import PROOF_GRACE, Change, store_zone_check
from tunnels.models import Connection, DnsRecord, Edge, Zone
from tunnels.pushes import PushTarget, poke_edges, push_to_edges
from tunnels.status import REPORT_TIMEOUT

MAX_POKES_A_SECOND = 4
# Of this process: the second in which it need not ask the cache any more.
spent_seconds: set[int] = set()
_REASON = "the task was given an id of any tenant"
# A question to DNS may wait LOOKUP_SECONDS; a queue of them must not outlive the next round.
_CHECKS_PER_ROUND = 200
_FORGET_EVERY_SECONDS = 600


@shared_task
def push_configuration(tunnel_id: str) -> int:
    """Ask every edge that holds connections of the tunnel to push its configuration now; returns how many applied."""
    identifier = UUID(tunnel_id)
    held = Connection.objects.all_organizations(reason=_REASON).filter(
        connector__tunnel=identifier, connector__tunnel__deleted_at=None, closed_at=None
    )
    edges = Edge.objects.filter(connections__in=held).exclude(control_url="").distinct().order_by("pk")
    targets = [PushTarget(edge.pk, edge.control_url) for edge in edges]
    answers = push_to_edges(targets, tunnel_id=identifier, snapshot_version=edge_version())
    return sum(record_push_reply(edge_id, identifier, replies) for edge_id, replies in answers.items())


def announce() -> None:
    """Poke edges, but at most so often a second: in a burst of changes the others are found by the edges' own polls,
    a second later."""
    second = int(time.time())
    if second in spent_seconds:
        return
    if count(f"tunnels.announced.{second}", 5) > MAX_POKES_A_SECOND:
        spent_seconds.clear()
        spent_seconds.add(second)
        return
    announce_change.delay()


@shared_task(ignore_result=True)
def announce_change() -> int:
    """Poke every edge seen lately to fetch the snapshot now instead of at its next poll, a second later."""
    edges = (
        Edge.objects.filter(last_seen_at__gte=timezone.now() - REPORT_TIMEOUT).exclude(control_url="").order_by("pk")
    )
    targets = [PushTarget(edge.pk, edge.control_url) for edge in edges]
    return len(poke_edges(targets, snapshot_version=edge_version()))


@shared_task
def sweep_connections() -> int:
    """Runs every few seconds; old rows are looked for more rarely."""
    now = timezone.now()
    closed = close_silent_connections(now=now)
    if cache.add("tunnels.forgotten", True, _FORGET_EVERY_SECONDS):
        forget_old_connections(now=now)
    return closed


@shared_task(ignore_result=True)
def roll_up_activity() -> int:
    """The hours behind Home's charts. Runs every minute; an hour is counted once, a sample taken once per slot."""
    now = timezone.now()
    sample_activity(now=now)
    if cache.add("tunnels.activity.forgotten", True, _FORGET_EVERY_SECONDS):
        forget_old_hours(now=now)
    return count_hours(now=now)


@shared_task
def verify_records() -> int:
    """Send the records whose check is due to the workers."""
    due = claim_due_records(now=timezone.now(), limit=_CHECKS_PER_ROUND)
    for record_id in due:
        verify_record.delay(record_id)
    return len(due)


@shared_task
def verify_zones() -> int:
    due = claim_due_zones(now=timezone.now(), limit=_CHECKS_PER_ROUND)
    for zone_id in due:
        verify_zone.delay(zone_id)
    return len(due)


@shared_task
def verify_record(record_id: str) -> str:
    """Ask how one record resolves and keep what the resolver said."""
    record = DnsRecord.objects.all_organizations(reason=_REASON).filter(pk=record_id).first()
    if record is None:
        return ""
    verdict = _judge(record)
    store_record_check(record, verdict, now=timezone.now())
    return verdict.verification


@shared_task
def verify_zone(zone_id: str) -> str:
    """Look for a zone's proof. A zone that changed tells its organization's owners and admins by e-mail."""
    zone = Zone.objects.all_organizations(reason=_REASON).filter(pk=zone_id).first()
    if zone is None or not zones.needs_proof(zone.name):
        return Change.NONE
    answer = dns.lookup(zones.challenge_name(zone), "TXT")
    change = store_zone_check(zone_id, answer, now=timezone.now())
    if change in (Change.PROOF_LOST, Change.MOVED):
        warn_about_zone.delay(zone_id)
    return change


@shared_task(autoretry_for=(OSError,), retry_backoff=30, max_retries=5)  # SMTP errors are OSErrors
def warn_about_zone(zone_id: str) -> int:
    """Mail the people who can put the proof back. Sent again if the task runs twice, which harms nobody."""
    zone = Zone.objects.all_organizations(reason=_REASON).filter(pk=zone_id).select_related("organization").first()
    if zone is None or zone.proof_lost_at is None:
        return 0
    hours = int(PROOF_GRACE / timedelta(hours=1))
    effect = (
        "Its hostnames are not served any more."
        if zone.status == Zone.Status.MOVED
        else f"Its hostnames are served until {zone.proof_lost_at + PROOF_GRACE:%Y-%m-%d %H:%M} UTC ({hours} hours)."
    )
    people = Membership.objects.for_organization(zone.organization).filter(role__in=[Role.OWNER, Role.ADMIN])
    addresses = sorted(people.values_list("user__email", flat=True))
    for address in addresses:
        send_mail(
            f"{zone.name}: proof of ownership not found",
            f"The TXT record {zones.challenge_name(zone)} no longer holds the value that proves that"
            f" {zone.organization.name} owns {zone.name}.\n\n{effect}\n\n"
            f"Publish this value again:\n\n    {zones.challenge_value(zone)}\n\n"
            f"The resolver said: {zone.last_answer}\n",
            None,
            [address],
        )
    return len(addresses)


def _judge(record: DnsRecord) -> records.Verdict:
    if dns.is_loopback_name(record.name):
        return records.judge_loopback(record)
    answer = dns.lookup(record.name, record.type)
    if record.type != DnsRecord.Type.CNAME or answer.outcome is not dns.Outcome.ABSENT:
        return records.judge(record, answer, None)
    flattened = dns.lookup(record.name, "A")
    if flattened.outcome is not dns.Outcome.FOUND:
        return records.judge(record, answer, None)
    return records.judge(record, flattened, dns.lookup(record.content, "A"))
