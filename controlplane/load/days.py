"""Days of life for an organization that exists: people log in by day, rest at night, and a few are refused.

Rows are written hour by hour, oldest first, and looked at by the code that looks at real ones on schedule
(tunnels.actions.activity), so that charts and logs show what they would show had it happened.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from access.models import AccessRequest, Application, Certificate, SshAuthority
from accounts.models import AccessSession, Identity, IdentityProvider
from controlplane.load.objects import FIRST, LAST, Made
from controlplane.load.rows import write_rows
from tunnels.actions.activity import HOUR, count_hours, hour_of, sample_activity

PEOPLE = 12
_SESSION = timedelta(hours=8)
# Logins in an hour of a working day (UTC), at most. Two days of seven are quiet; the last day never is, whatever the
# calendar says: it is the one that charts by the hour show.
_BY_HOUR = (0, 0, 0, 0, 0, 1, 2, 4, 7, 8, 6, 5, 4, 6, 7, 6, 5, 4, 3, 2, 1, 1, 1, 0)
_REASONS = ("no_policy_matched", "country", "blocked")


def live_through(made: Made, *, days: int) -> dict[str, int]:
    """The days before made.now, for the first of the organization's applications with an SSH authority."""
    authority = SshAuthority.objects.for_organization(made.organization).select_related("application").earliest("id")
    _meet_people(made)
    written = {"logins": 0, "certificates": 0}
    hour = hour_of(made.now) - timedelta(days=days)
    while hour < hour_of(made.now):
        logins = list(_logins(made, hour))
        write_rows(AccessSession, [_session(made, *login) for login in logins if login[2]])
        write_rows(AccessRequest, [_decision(made, authority.application, *login) for login in logins])
        certificates = [_certificate(made, authority, *login) for login in logins if login[2]]
        write_rows(Certificate, certificates)
        written["logins"] += len(logins)
        written["certificates"] += len(certificates)
        for minutes in (25, 55):
            sample_activity(now=hour + timedelta(minutes=minutes))
        hour += HOUR
    count_hours(now=made.now)
    return written


def _meet_people(made: Made) -> None:
    provider = IdentityProvider.objects.for_organization(made.organization).earliest("created_at")
    rows = []
    for number in range(PEOPLE):
        name = f"{FIRST[number]}.{LAST[number % len(LAST)]}"
        email = f"{name}@{made.organization.team_name}.test"
        made.identities.append((made.key(), email))
        made.sessions.append(made.key())
        rows.append(
            {
                **made.row,
                "id": made.identities[-1][0],
                "provider_id": provider.pk,
                "subject": f"subject-{number:02}",
                "email": email,
                "email_verified": True,
                "name": name.replace(".", " ").title(),
                "groups": ["engineering", "everyone"],
                "last_login_at": made.now - timedelta(hours=number * 5),
            }
        )
    write_rows(Identity, rows)


def _logins(made: Made, hour: datetime) -> Iterator[tuple[int, datetime, bool]]:
    """Who, when, and whether they were let in."""
    is_quiet = (made.now - hour).days % 7 in (2, 3)
    most = min(1, _BY_HOUR[hour.hour]) if is_quiet else _BY_HOUR[hour.hour]
    for _ in range(made.random.randint((most + 1) // 2, most)):
        moment = hour + HOUR * made.random.random()
        yield made.random.randrange(PEOPLE), moment, made.random.random() > 0.12


def _session(made: Made, who: int, moment: datetime, _: bool) -> dict[str, Any]:
    made.sessions[who] = made.key()
    return {
        **made.row,
        "id": made.sessions[who],
        "identity_id": made.identities[who][0],
        "nonce": made.hex(),
        "created_at": moment,
        "expires_at": moment + _SESSION,
        "ip_address": f"203.0.113.{who + 10}",
        "country": "PT",
        "user_agent": "Mozilla/5.0 (X11; Linux x86_64) Firefox/128.0",
        "authentication_methods": ["pwd", "otp"],
    }


def _decision(made: Made, application: Application, who: int, moment: datetime, allowed: bool) -> dict[str, Any]:
    return {
        **made.row,
        "id": made.key(),
        "application_id": application.pk,
        "application_label": application.name,
        "identity_id": made.identities[who][0],
        "email": made.identities[who][1],
        "action": "login",
        "allowed": allowed,
        "reason": "allowed" if allowed else made.random.choice(_REASONS),
        "connection": "oidc",
        "ray_id": f"{made.random.getrandbits(64):016x}",
        "ip_address": f"203.0.113.{who + 10}",
        "country": "PT",
        "created_at": moment,
    }


def _certificate(made: Made, authority: SshAuthority, who: int, moment: datetime, _: bool) -> dict[str, Any]:
    identity, email = made.identities[who]
    digest = f"{made.random.getrandbits(256):064x}"
    return {
        **made.row,
        "id": made.key(),
        "application_id": authority.application_id,
        "authority_id": authority.pk,
        "identity_id": identity,
        "session_id": made.sessions[who],
        "serial": str(made.random.getrandbits(62) + 1),
        "key_id": f"{made.organization.team_name}/{authority.application_id}/{identity}",
        "principals": [email.partition(".")[0]],
        "extensions": ["permit-pty"],
        "public_key": f"ssh-ed25519 {digest}",
        "public_key_fingerprint": f"SHA256:{digest[:43]}",
        "request_sha256": digest,
        "valid_after": moment - timedelta(minutes=1),
        "valid_before": moment + timedelta(minutes=4),
        "status": "issued",
        "certificate": f"ssh-ed25519-cert-v01@openssh.com {digest * 8}",
        "ip_address": f"203.0.113.{who + 10}",
        "created_at": moment,
        "issued_at": moment,
    }
