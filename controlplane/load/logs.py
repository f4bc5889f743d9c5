"""The logs of a large organization: decisions, certificates and audit events of the last 90 days."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from django.conf import settings

from access import events as access_events
from access.models import AccessRequest, Certificate
from accounts import events as account_events
from accounts.audit_chain import digest_of
from accounts.models import AuditChain, AuditEvent
from controlplane.load.objects import PLACES, Made
from controlplane.load.rows import write_rows
from tunnels import events as tunnel_events

# Of a hundred rows: somebody who opens a host makes decisions, the certificates they lead to, and audit events of
# both; changes made by administrators are rare.
DECISIONS, CERTIFICATES, AUDIT = 55, 15, 30
_DAYS = 90
_ACTIONS = ("connect", "connect", "connect", "certificate", "login")
_REASONS = ("no_policy_matched", "blocked", "country", "session_expired")
_CHANGES = (
    access_events.POLICY_UPDATED,
    access_events.APPLICATION_UPDATED,
    access_events.GROUP_UPDATED,
    tunnel_events.CONFIGURATION_PUBLISHED,
    account_events.SESSION_REVOKED,
)


def make_logs(made: Made, rows: int) -> dict[str, int]:
    """How many rows of each log were written."""
    return {
        "decisions": write_rows(AccessRequest, _decisions(made, rows * DECISIONS // 100)),
        "certificates": write_rows(Certificate, _certificates(made, rows * CERTIFICATES // 100)),
        "audit events": _write_events(made, rows * AUDIT // 100),
    }


def _write_events(made: Made, count: int) -> int:
    """With their places in the organization's chain, as accounts.audit would have given them."""
    head, _ = AuditChain.objects.get_or_create(pk=made.organization.pk)

    def chained() -> Iterator[dict[str, Any]]:
        for row in _events(made, count):
            head.sequence += 1
            values = {**row, "chain": head.pk, "sequence": head.sequence}
            head.digest = digest_of(settings.SECRET_KEY, head.digest, values)
            yield {**values, "digest": head.digest}

    written = write_rows(AuditEvent, chained())
    head.save(update_fields=["sequence", "digest"])
    return written


def _decisions(made: Made, count: int) -> Iterator[dict[str, Any]]:
    step = timedelta(days=_DAYS) / max(count, 1)
    for number in range(count):
        application, name, _ = made.applications[_skewed(made, len(made.applications))]
        who = made.random.randrange(len(made.identities))
        identity, email = made.identities[who]
        allowed = number % 12 != 0
        place = PLACES[who % 10]
        yield {
            **made.row,
            "id": made.key(),
            "application_id": application,
            "application_label": name,
            "identity_id": identity,
            "email": email,
            "action": _ACTIONS[number % 5],
            "allowed": allowed,
            "reason": "allowed" if allowed else _REASONS[number % 4],
            "connection": "oidc",
            "ray_id": f"{made.random.getrandbits(64):016x}",
            "ip_address": f"203.0.{who // 250 % 250}.{who % 250 + 1}",
            "country": place,
            "trace": [
                {"policy": "Engineers get in", "decision": "allow", "verdict": "match" if allowed else "no match"},
                {"policy": "Engineers get in", "list": "require", "selector": "geo", "value": place, "result": allowed},
            ],
            "facts": {"ip": f"203.0.{who // 250 % 250}.{who % 250 + 1}", "country": place},
            "rules_version": "loaded",
            "created_at": made.now - timedelta(days=_DAYS) + step * number,
        }


def _certificates(made: Made, count: int) -> Iterator[dict[str, Any]]:
    step = timedelta(days=_DAYS) / max(count, 1)
    for number in range(count):
        place = _skewed(made, len(made.applications))
        who = made.random.randrange(len(made.identities))
        created = made.now - timedelta(days=_DAYS) + step * (number + 1)
        digest = f"{made.random.getrandbits(256):064x}"
        yield {
            **made.row,
            "id": made.key(),
            "application_id": made.applications[place][0],
            "authority_id": made.authorities[place],
            "identity_id": made.identities[who][0],
            "session_id": made.sessions[who],
            "serial": str(number * 9_000_000_000 + made.random.getrandbits(32) + 1),
            "key_id": f"load/{place}/{who}",
            "principals": [f"user{who:05}"],
            "extensions": ["permit-pty"],
            "public_key": f"ssh-ed25519 {digest}",
            "public_key_fingerprint": f"SHA256:{digest[:43]}",
            "request_sha256": digest,
            "valid_after": created - timedelta(minutes=1),
            "valid_before": created + timedelta(minutes=4),
            "status": "issued" if number % 200 else "failed",
            "certificate": f"ssh-ed25519-cert-v01@openssh.com {digest * 8}",
            "ip_address": f"203.0.{who // 250 % 250}.{who % 250 + 1}",
            "created_at": created,
            "issued_at": created,
            "revoked_at": created if number % 500 == 1 else None,
        }


def _events(made: Made, count: int) -> Iterator[dict[str, Any]]:
    step = timedelta(days=_DAYS) / max(count, 1)
    for number in range(count):
        who = made.random.randrange(len(made.identities))
        identity, email = made.identities[who]
        application, name, _ = made.applications[_skewed(made, len(made.applications))]
        by_administrator = number % 40 == 0
        yield {
            **made.row,
            "name": _CHANGES[number // 40 % 5] if by_administrator else _of_person(number),
            "actor_kind": "user" if by_administrator else "identity",
            "actor_id": "1" if by_administrator else str(identity),
            "actor_label": "owner@load.test" if by_administrator else email,
            "ip_address": f"203.0.{who // 250 % 250}.{who % 250 + 1}",
            "target_type": "application",
            "target_id": str(application),
            "target_label": name,
            "old": {"name": name, "session_duration_seconds": 3600} if by_administrator else None,
            "new": {"name": name, "session_duration_seconds": 86400} if by_administrator else {"principals": ["ana"]},
            "created_at": made.now - timedelta(days=_DAYS) + step * (number + 1),
        }


def _of_person(number: int) -> str:
    return (access_events.CERTIFICATE_APPROVED, account_events.LOGIN_SUCCEEDED, account_events.LOGIN_STARTED)[
        number % 3
    ]


def _skewed(made: Made, count: int) -> int:
    """A place in a list of which the first ones are used far more, as some hosts are."""
    return int(count * made.random.random() ** 3)
