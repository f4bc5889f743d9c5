"""Creating, renaming and deleting tunnels; their secrets, tokens and credentials."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from uuid import UUID

from django.db import IntegrityError, transaction
from django.utils import timezone

from accounts import audit
from accounts.actor import Actor
from accounts.errors import Conflict, InvalidInput, NotFound
from accounts.models import Organization
from dataplane.wire.credentials import TunnelCredentials
from tunnels import events
from tunnels.models import Connection, Tunnel
from tunnels.secrets import MAX_SECRET_BYTES, MIN_SECRET_BYTES, secret_hash, token_secret
from tunnels.status import open_connections

MAX_NAME_CHARACTERS = 100
MAX_TUNNELS_PER_ORGANIZATION = 1000


@transaction.atomic
def create_tunnel(
    organization: Organization, *, name: str, secret: bytes | None, config_source: str = "local", actor: Actor
) -> Tunnel:
    """`secret` is the one the client made (its hash is stored); None: the tunnel is run with its token only."""
    if config_source not in Tunnel.ConfigSource.values:
        raise InvalidInput(f"config_src must be one of {', '.join(Tunnel.ConfigSource.values)}.")
    tunnel = Tunnel(
        organization=organization,
        name=_checked_name(name),
        secret_sha256="" if secret is None else secret_hash(_checked_secret(secret)),
        config_source=config_source,
    )
    if Tunnel.objects.for_organization(organization).filter(deleted_at=None).count() >= MAX_TUNNELS_PER_ORGANIZATION:
        raise Conflict(
            f"An organization has at most {MAX_TUNNELS_PER_ORGANIZATION} tunnels. Delete one first.",
            code="limit_reached",
        )
    _save_unique(tunnel)
    audit.record(
        events.TUNNEL_CREATED,
        organization=organization,
        actor=actor,
        target=tunnel,
        new={"name": tunnel.name, "config_source": tunnel.config_source},
    )
    return tunnel


@transaction.atomic
def rename_tunnel(tunnel: Tunnel, *, name: str, actor: Actor) -> Tunnel:
    current = lock_live_tunnel(tunnel)
    old, current.name = current.name, _checked_name(name)
    _save_unique(current)
    audit.record(
        events.TUNNEL_RENAMED,
        organization=current.organization,
        actor=actor,
        target=current,
        old={"name": old},
        new={"name": current.name},
    )
    return current


@transaction.atomic
def delete_tunnel(tunnel: Tunnel, *, cascade: bool, actor: Actor) -> Tunnel:
    """Refused while connectors are connected, unless `cascade`, which closes them. DNS records that point here stay
    and are answered "not served"; the id never lives again, so nobody can take them over (AC-77)."""
    current = lock_live_tunnel(tunnel)
    now = timezone.now()
    connections = open_connections(Connection.objects.for_organization(current.organization), now)
    connected = connections.filter(connector__tunnel=current).count()
    if connected and not cascade:
        raise Conflict(
            f"The tunnel {current.name} has {connected} active connections. Stop its connectors first, or delete it"
            " together with its connections.",
            code="tunnel_connected",
        )
    current.deleted_at = now
    current.save(update_fields=["deleted_at"])
    Connection.objects.for_organization(current.organization).filter(connector__tunnel=current, closed_at=None).update(
        closed_at=now
    )
    audit.record(
        events.TUNNEL_DELETED,
        organization=current.organization,
        actor=actor,
        target=current,
        old={"name": current.name, "connections": connected},
    )
    return current


@transaction.atomic
def rotate_tunnel_token(tunnel: Tunnel, *, cut: bool, actor: Actor) -> Tunnel:
    """Every earlier secret stops working: the old token's, and that of a credentials file. Edges refuse it from now on
    to connections that register; those that live go on, so that replicas can be moved to the new token one by one.
    `cut` closes them too, within two seconds: for a secret that fell into wrong hands."""
    current = lock_live_tunnel(tunnel)
    current.token_generation += 1
    current.secret_sha256 = ""
    current.token_rotated_at = timezone.now()
    if cut:
        current.reconnect_after = next_mark(current.reconnect_after)
    current.save(update_fields=["token_generation", "secret_sha256", "token_rotated_at", "reconnect_after"])
    audit.record(
        events.TUNNEL_TOKEN_ROTATED,
        organization=current.organization,
        actor=actor,
        target=current,
        new={"generation": current.token_generation, "cut": cut},
    )
    return current


@transaction.atomic
def replace_tunnel_secret(tunnel: Tunnel, *, secret: bytes, actor: Actor) -> Tunnel:
    """The client made a new secret (public API: PATCH with tunnel_secret). The token and its secret change too, as
    after rotate_tunnel_token without `cut`."""
    current = lock_live_tunnel(tunnel)
    current.secret_sha256 = secret_hash(_checked_secret(secret))
    current.token_generation += 1
    current.token_rotated_at = timezone.now()
    current.save(update_fields=["secret_sha256", "token_generation", "token_rotated_at"])
    audit.record(
        events.TUNNEL_SECRET_REPLACED,
        organization=current.organization,
        actor=actor,
        target=current,
        new={"generation": current.token_generation},
    )
    return current


def tunnel_token(tunnel: Tunnel) -> str:
    """The one-line token for `tunnel run --token`. Holds a secret: show it to people who may edit tunnels only."""
    return _token_credentials(tunnel).to_token()


def credentials(tunnel: Tunnel, secret: bytes | None = None) -> dict[str, str]:
    """The credentials file's content for a secret the client made, or for the token's secret."""
    if secret is None:
        secret = token_secret(tunnel.pk, tunnel.token_generation)
    document = json.loads(TunnelCredentials(tunnel.organization_id, secret, tunnel.pk).to_file_json())
    return {**document, "TunnelName": tunnel.name}


def next_mark(previous: datetime | None) -> datetime:
    """The instant of a cut. Edges close what is live when it rises, so it always does, whatever the clock says."""
    now = timezone.now()
    return now if previous is None else max(now, previous + timedelta(milliseconds=1))


def lock_live_tunnel(tunnel: Tunnel) -> Tunnel:
    """The row as it is now, locked until the transaction ends; a deleted tunnel is not found."""
    current = (
        Tunnel.objects.for_organization(tunnel.organization)
        .select_for_update(of=("self",), no_key=True)
        .select_related("organization")
        .filter(pk=tunnel.pk, deleted_at=None)
        .first()
    )
    if current is None:
        raise NotFound("The tunnel does not exist or has been deleted.")
    return current


def _token_credentials(tunnel: Tunnel) -> TunnelCredentials:
    return TunnelCredentials(tunnel.organization_id, token_secret(tunnel.pk, tunnel.token_generation), tunnel.pk)


def _save_unique(tunnel: Tunnel) -> None:
    try:
        with transaction.atomic():
            tunnel.save()
    except IntegrityError as error:
        raise Conflict(f"A tunnel named {tunnel.name} exists already.", code="tunnel_exists") from error


def _checked_name(name: str) -> str:
    clean = name.strip()
    if not clean or len(clean) > MAX_NAME_CHARACTERS or not clean.isprintable():
        message = f"A tunnel's name has 1 to {MAX_NAME_CHARACTERS} printable characters."
        raise InvalidInput(message, fields={"name": message})
    if _is_uuid(clean):
        message = "A tunnel's name must not be a UUID: commands could not tell it from a tunnel's id."
        raise InvalidInput(message, fields={"name": message})
    return clean


def _checked_secret(secret: bytes) -> bytes:
    if not MIN_SECRET_BYTES <= len(secret) <= MAX_SECRET_BYTES:
        message = f"A tunnel secret has {MIN_SECRET_BYTES} to {MAX_SECRET_BYTES} bytes."
        raise InvalidInput(message, code="invalid_secret", fields={"tunnel_secret": message})
    return secret


def _is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True
