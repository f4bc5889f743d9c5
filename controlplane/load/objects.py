"""The objects of a large organization: people, applications with their policies, groups, tunnels, DNS."""

from __future__ import annotations

import hashlib
import random
import uuid
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings

from access.models import (
    AccessList,
    Application,
    ApplicationPolicy,
    Group,
    Policy,
    PrincipalClaim,
    SavedTest,
    ServiceToken,
    SshAuthority,
    Tag,
)
from accounts.models import AccessSession, ApiToken, Identity, IdentityProvider, Organization
from controlplane.load.rows import write_rows
from tunnels.models import Connection, Connector, DnsRecord, Edge, Tunnel, TunnelConfiguration, Zone

TEAMS = ("platform", "database", "network", "payments", "search", "mobile", "data", "security", "support", "finance")
PLACES = ("PT", "DE", "FR", "NL", "US", "CA", "BR", "IN", "JP", "AU")
FIRST = (
    "ana",
    "ben",
    "chen",
    "dora",
    "emil",
    "fatima",
    "goran",
    "hana",
    "ivo",
    "jana",
    "karim",
    "lena",
    "milo",
    "nora",
)
LAST = (
    "almeida",
    "brandt",
    "costa",
    "dietz",
    "evans",
    "fischer",
    "garcia",
    "hansen",
    "ito",
    "jovic",
    "keller",
    "lopes",
)


@dataclass(frozen=True)
class Sizes:
    applications: int = 1000
    groups: int = 300
    identities: int = 5000
    log_rows: int = 1_000_000


@dataclass
class Made:
    """Keys of what was made, for the rows that point at it."""

    organization: Organization
    now: datetime
    random: random.Random
    applications: list[tuple[uuid.UUID, str, str]] = field(default_factory=list)  # key, name, hostname
    authorities: list[uuid.UUID] = field(default_factory=list)  # of the applications, in their order
    identities: list[tuple[uuid.UUID, str]] = field(default_factory=list)  # key, e-mail
    sessions: list[uuid.UUID] = field(default_factory=list)  # of the identities, in their order
    providers: list[uuid.UUID] = field(default_factory=list)
    groups: list[uuid.UUID] = field(default_factory=list)
    policies: list[uuid.UUID] = field(default_factory=list)

    def key(self) -> uuid.UUID:
        """A version 4 UUID that the seed decides."""
        return uuid.UUID(int=self.random.getrandbits(128), version=4)

    def hex(self) -> str:
        return self.key().hex

    @property
    def row(self) -> dict[str, Any]:
        return {"organization_id": self.organization.pk}


def make_objects(made: Made, sizes: Sizes) -> None:
    _people(made, sizes)
    _groups(made, sizes)
    _applications(made, sizes)
    _ssh(made)
    _machines(made, sizes)
    _network(made, sizes)


def _zones(sizes: Sizes) -> int:
    return min(20, sizes.applications)


def _people(made: Made, sizes: Sizes) -> None:
    names = (("oidc", "Company login"), ("okta", "Contractors' Okta"), ("saml", "Partners"))
    rows = [{**made.row, "id": made.key(), "type": kind, "name": name, "config": {}} for kind, name in names]
    write_rows(IdentityProvider, rows)
    made.providers = [row["id"] for row in rows]
    people = []
    for number in range(sizes.identities):
        first, last = FIRST[number % len(FIRST)], LAST[number // len(FIRST) % len(LAST)]
        email = f"{first}.{last}.{number}@load.test"
        made.identities.append((made.key(), email))
        people.append(
            {
                **made.row,
                "id": made.identities[-1][0],
                "provider_id": made.providers[number % 3],
                "subject": f"subject-{number:05}",
                "email": email,
                "email_verified": True,
                "name": f"{first.title()} {last.title()}",
                "groups": [TEAMS[number % 10], f"site-{number % 25}", "everyone"],
                "disabled_at": made.now if number % 50 == 49 else None,
                "last_login_at": made.now - timedelta(minutes=made.random.randrange(90 * 1440)),
            }
        )
    write_rows(Identity, people)
    write_rows(AccessSession, [_session(made, number) for number in range(sizes.identities * 2)])


def _session(made: Made, number: int) -> dict[str, Any]:
    """Each person has a session of now and one that is over."""
    index, is_live = number % len(made.identities), number < len(made.identities)
    start = made.now - (timedelta(hours=1) if is_live else timedelta(days=20))
    key = made.key()
    if is_live:
        made.sessions.append(key)
    return {
        **made.row,
        "id": key,
        "identity_id": made.identities[index][0],
        "nonce": made.hex(),
        "created_at": start,
        "expires_at": start + timedelta(days=1),
        "ip_address": f"203.0.{index // 250 % 250}.{index % 250 + 1}",
        "country": PLACES[index % 10],
        "user_agent": "Mozilla/5.0 (X11; Linux x86_64) Firefox/128.0",
        "authentication_methods": ["pwd", "otp"],
    }


def _groups(made: Made, sizes: Sizes) -> None:
    okta = str(made.providers[1])
    rows = []
    for number in range(sizes.groups):
        include: list[Any] = [
            {"email": {"email": made.identities[(number * 40 + step) % len(made.identities)][1]}} for step in range(20)
        ]
        include.append({"okta": {"name": TEAMS[number % 10], "identity_provider_id": okta}})
        if made.groups and number % 4 == 0:
            include.append({"group": {"id": str(made.groups[-1])}})
        made.groups.append(made.key())
        name = f"{TEAMS[number % 10].title()} team, site {number // 10}"
        require = [{"geo": {"country_code": PLACES[number % 10]}}] if number % 3 == 0 else []
        rows.append({**made.row, "id": made.groups[-1], "name": name, "include": include, "require": require})
    write_rows(Group, rows)
    lists = [
        {
            **made.row,
            "id": made.key(),
            "name": f"Contractors of {TEAMS[number % 10]}, wave {number}",
            "type": "EMAIL",
            "items": [{"value": email} for _, email in made.identities[number * 200 : (number + 1) * 200]],
        }
        for number in range(min(20, sizes.groups))
    ]
    write_rows(AccessList, lists)


def _applications(made: Made, sizes: Sizes) -> None:
    tags = [{**made.row, "id": made.key(), "name": f"tag {number}"} for number in range(min(25, sizes.applications))]
    write_rows(Tag, tags)
    rows, policies, links, tagged = [], [], [], []
    for number in range(min(100, sizes.applications)):
        made.policies.append(made.key())
        policies.append(_policy(made, made.policies[-1], f"Everybody of site {number}", number, reusable=True))
    for number in range(sizes.applications):
        key, team = made.key(), TEAMS[number % 10]
        name, hostname = (
            f"{team.title()} host {number}",
            f"{team}-{number:04}.zone-{number % _zones(sizes):02}.load.test",
        )
        made.applications.append((key, name, hostname))
        aud = hashlib.sha256(hostname.encode()).hexdigest()
        created = made.now - timedelta(minutes=number)
        rows.append({**made.row, "id": key, "name": name, "hostname": hostname, "aud": aud, "created_at": created})
        tagged += [
            {"application_id": key, "tag_id": tags[(number + step) % len(tags)]["id"]}
            for step in range(min(3, len(tags)))
        ]
        own = made.key()
        policies.append(_policy(made, own, f"{team.title()} gets in", number))
        chosen = [own, *(made.policies[(number * 7 + step) % len(made.policies)] for step in range(number % 3))]
        links += [
            {"application_id": key, "policy_id": policy, "precedence": place} for place, policy in enumerate(chosen, 1)
        ]
    write_rows(Application, rows)
    write_rows(Policy, policies)
    write_rows(ApplicationPolicy, links)
    write_rows(Application.tags.through, tagged)
    tests = [
        {
            **made.row,
            "id": made.key(),
            "application_id": key,
            "name": "Nobody without a login",
            "question": {"who": "nobody", "ip": "192.0.2.9", "country": "PT"},
            "expected": "deny",
        }
        for key, _, _ in made.applications[::5]
    ]
    write_rows(SavedTest, tests)


def _policy(made: Made, key: uuid.UUID, name: str, number: int, *, reusable: bool = False) -> dict[str, Any]:
    include = [{"group": {"id": str(made.groups[(number + step * 3) % len(made.groups)])}} for step in range(3)]
    common = {**made.row, "id": key, "name": name, "include": include, "reusable": reusable}
    return {**common, "decision": "deny" if number % 20 == 19 else "allow"}


def _ssh(made: Made) -> None:
    rows = []
    for number, (application, name, _) in enumerate(made.applications):
        made.authorities.append(made.key())
        rows.append(
            {
                **made.row,
                "id": made.authorities[-1],
                "application_id": application,
                "state": "active",
                "public_key": f"ssh-ed25519 {hashlib.sha256(name.encode()).hexdigest()} load/{name}",
                "fingerprint": f"SHA256:{hashlib.sha256(name.encode()).hexdigest()[:43]}",
                "activated_at": made.now - timedelta(days=number % 90),
            }
        )
    write_rows(SshAuthority, rows)
    claims = [
        {
            **made.row,
            "application_id": made.applications[number % len(made.applications)][0],
            "principal": f"user{number:05}",
            "identity_id": key,
            "email": email,
            "key_id": f"load/{number % len(made.applications)}/{number}",
        }
        for number, (key, email) in enumerate(made.identities)
    ]
    write_rows(PrincipalClaim, claims)


def _machines(made: Made, sizes: Sizes) -> None:
    year = made.now + timedelta(days=365)
    tokens = [
        {
            **made.row,
            "id": made.key(),
            "name": f"ansible {number}",
            "client_id": f"{made.hex()}.access",
            "secret_sha256": made.hex() * 2,
            "duration_seconds": 365 * 86400,
            "expires_at": year,
        }
        for number in range(min(50, sizes.applications))
    ]
    write_rows(ServiceToken, tokens)
    keys = [
        {
            **made.row,
            "id": made.hex(),
            "name": f"terraform {number}",
            "token_sha256": made.hex() * 2,
            "prefix": "sp_load_",
            "scopes": ["access.read"],
            "expires_at": year,
        }
        for number in range(min(50, sizes.applications))
    ]
    write_rows(ApiToken, keys)


def _network(made: Made, sizes: Sizes) -> None:
    zones = [
        {
            **made.row,
            "id": made.hex(),
            "name": f"zone-{number:02}.load.test",
            "skeleton": f"zone-{number:02}.load.test",
            "status": "active",
            "verification_token": made.hex(),
            "verified_at": made.now,
        }
        for number in range(_zones(sizes))
    ]
    write_rows(Zone, zones)
    tunnels = [
        {**made.row, "id": made.key(), "name": f"tunnel {number}", "config_source": "cloudflare"}
        for number in range(max(1, sizes.applications // 5))
    ]
    write_rows(Tunnel, tunnels)
    routed: dict[uuid.UUID, list[str]] = {row["id"]: [] for row in tunnels}
    records = []
    for number, (_, _, hostname) in enumerate(made.applications):
        tunnel = tunnels[number % len(tunnels)]["id"]
        routed[tunnel].append(hostname)
        records.append(
            {
                **made.row,
                "id": made.hex(),
                "zone_id": zones[number % len(zones)]["id"],
                "type": "CNAME",
                "name": hostname,
                "content": f"{tunnel}.{settings.TUNNEL_DOMAIN}",
                "proxied": True,
                "verification": "ok",
                "verified_at": made.now,
            }
        )
    write_rows(DnsRecord, records)
    versions = [_version(made, tunnel, names, version) for tunnel, names in routed.items() for version in range(1, 6)]
    write_rows(TunnelConfiguration, versions)
    _connectors(made, [row["id"] for row in tunnels])


def _version(made: Made, tunnel: uuid.UUID, hostnames: list[str], version: int) -> dict[str, Any]:
    rules: list[dict[str, str]] = [{"hostname": name, "service": "ssh://localhost:22"} for name in hostnames]
    config = {"ingress": [*rules, {"service": "http_status:404"}]}
    common = {**made.row, "tunnel_id": tunnel, "version": version, "config": config}
    return {**common, "source": "cloudflare", "created_by": "owner@load.test"}


def _connectors(made: Made, tunnels: list[uuid.UUID]) -> None:
    edge, _ = Edge.objects.get_or_create(
        id="load-edge", defaults={"name": "load-edge", "location": "LIS", "last_seen_at": made.now}
    )
    for tunnel in tunnels:
        for replica in range(2):
            connector = Connector.objects.create(
                organization=made.organization,
                tunnel_id=tunnel,
                client_id=made.key(),
                version="0.1.0",
                arch="linux_amd64",
                origin_ip=f"198.51.100.{replica + 4}",
                last_seen_at=made.now,
            )
            lines = [
                {
                    **made.row,
                    "id": made.key(),
                    "connector_id": connector.pk,
                    "edge_id": edge.pk,
                    "index": index,
                    "opened_at": made.now - timedelta(hours=5),
                    "last_seen_at": made.now,
                    "applied_version": 5,
                }
                for index in range(4)
            ]
            write_rows(Connection, lines)
