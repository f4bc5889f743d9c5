"""Makers and callers shared by the tests of tunnels."""

from __future__ import annotations

import json
import uuid
from typing import Any

from django.test import Client

from accounts.actor import Actor, ActorKind
from accounts.models import AuditEvent, Organization, User
from tunnels.actions.records import create_record
from tunnels.actions.tunnels import create_tunnel
from tunnels.actions.zones import create_zone
from tunnels.models import DnsRecord, Tunnel, Zone

EDGE_TOKEN = "edge-token-for-tests"
SECRET = bytes(range(32))
CONFIG = {
    "ingress": [
        {"hostname": "ssh.widgetcorp.localhost", "service": "ssh://127.0.0.1:22"},
        {"service": "http_status:404"},
    ]
}


def actor_of(user: User) -> Actor:
    return Actor(ActorKind.USER, str(user.pk), user.email, "192.0.2.1")


def make_zone(organization: Organization, user: User, name: str = "widgetcorp.localhost") -> Zone:
    return create_zone(organization, name=name, actor=actor_of(user))


def make_tunnel(organization: Organization, user: User, name: str = "ssh-pool", **extra: Any) -> Tunnel:
    return create_tunnel(organization, name=name, secret=SECRET, actor=actor_of(user), **extra)


def make_alias(zone: Zone, tunnel: Tunnel, user: User, name: str = "ssh") -> DnsRecord:
    return create_record(zone, type="CNAME", name=name, content=tunnel.target, actor=actor_of(user))


def events_of(organization: Organization) -> list[str]:
    return list(AuditEvent.objects.filter(organization=organization).order_by("id").values_list("name", flat=True))


def connection(tunnel: Tunnel, client_id: uuid.UUID | None = None, **extra: Any) -> dict[str, Any]:
    return {
        "id": str(uuid.uuid4()),
        "tunnel_id": str(tunnel.pk),
        "client_id": str(client_id or uuid.uuid4()),
        "index": 0,
        "version": "2026.8.2",
        "arch": "linux_amd64",
        "features": ["allow_remote_config"],
        "origin_ip": "198.51.100.7",
        "opened_at": 1_700_000_000.5,
        "applied_version": None,
        "config_error": None,
        "local_config": None,
        **extra,
    }


def report(*connections: dict[str, Any], edge_id: str = "edge-1", **edge: Any) -> dict[str, Any]:
    return {
        "edge": {"id": edge_id, "name": edge_id, "location": "lab", "version": "0.1", "control_url": "", **edge},
        "snapshot_version": 1,
        "connections": list(connections),
        "streams": 0,
    }


class Agent:
    """An edge as far as HTTP goes: Django's test client with the bearer token."""

    def __init__(self, token: str | None = EDGE_TOKEN) -> None:
        self.client = Client(headers={"host": "testserver"})
        self.headers = {"authorization": f"Bearer {token}"} if token is not None else {}

    def get(self, path: str, **headers: str) -> Any:
        return self.client.get(f"/agent/v1/{path}", headers={**self.headers, **headers})

    def post(self, path: str, body: Any) -> Any:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.client.post(f"/agent/v1/{path}", content, content_type="application/json", headers=self.headers)
