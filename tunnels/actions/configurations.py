"""Publishing a tunnel's configuration. How it travels: tunnels.snapshots (edges pull) and tunnels.pushes (the hint)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from django.db import transaction
from django.db.models import Max
from django.utils import timezone

from accounts import audit
from accounts.actor import Actor
from accounts.errors import InvalidInput
from dataplane.wire.ingress import Ingress, IngressError, not_offered, parse_ingress
from tunnels import events, tasks
from tunnels.actions.tunnels import lock_live_tunnel
from tunnels.models import Connection, Tunnel, TunnelConfiguration
from tunnels.status import open_connections

MAX_CONFIGURATION_BYTES = 256 * 1024
FIRST_VERSION = 1
# How our own connector begins the version it reports; other makers' serve more kinds of services.
OUR_CONNECTOR = "sallyport/"


@transaction.atomic
def publish_configuration(
    tunnel: Tunnel, *, config: Mapping[str, Any], content_of: int | None = None, actor: Actor
) -> TunnelConfiguration:
    """A new version, checked by the connector's own rules. A locally managed tunnel becomes a remotely managed one:
    that way only, since its connectors then ignore their file. `content_of`: the version that is rolled back to."""
    ingress = _checked(config)
    current = lock_live_tunnel(tunnel)
    _assert_served(current, ingress)
    old_version = _highest_version(current)
    configuration = TunnelConfiguration.objects.create(
        organization=current.organization,
        tunnel=current,
        version=FIRST_VERSION if old_version is None else old_version + 1,
        config=dict(config),
        source=Tunnel.ConfigSource.REMOTE,
        created_by=actor.label[:300],
    )
    if current.config_source != Tunnel.ConfigSource.REMOTE:
        current.config_source = Tunnel.ConfigSource.REMOTE
        current.save(update_fields=["config_source"])
    audit.record(
        events.CONFIGURATION_PUBLISHED,
        organization=current.organization,
        actor=actor,
        target=current,
        old={"version": old_version},
        new={
            "version": configuration.version,
            "rules": len(config.get("ingress") or []),
            **({} if content_of is None else {"content_of": content_of}),
        },
    )
    tunnel_id = str(current.pk)
    transaction.on_commit(lambda: tasks.push_configuration.delay(tunnel_id))
    return configuration


def current_configuration(tunnel: Tunnel) -> TunnelConfiguration | None:
    """The newest version: what was published, or what a connector of a locally managed tunnel said it runs."""
    return (
        TunnelConfiguration.objects.for_organization(tunnel.organization)
        .filter(tunnel=tunnel)
        .order_by("-version")
        .first()
    )


def _highest_version(tunnel: Tunnel) -> int | None:
    found: int | None = tunnel.configurations.aggregate(highest=Max("version"))["highest"]
    return found


def _checked(config: Mapping[str, Any]) -> Ingress:
    try:
        size = len(json.dumps(config, separators=(",", ":")).encode())
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput("The configuration must be a JSON object.", code="invalid_configuration") from error
    if size > MAX_CONFIGURATION_BYTES:
        raise InvalidInput(
            f"The configuration has {size} bytes; at most {MAX_CONFIGURATION_BYTES} are allowed.",
            code="invalid_configuration",
        )
    try:
        return parse_ingress(config)
    except IngressError as error:
        message = f"The configuration cannot be served: {error}."
        raise InvalidInput(message, code="invalid_configuration", fields={"config": message}) from error


def _assert_served(tunnel: Tunnel, ingress: Ingress) -> None:
    """Rules that only other makers' connectors serve are refused while one of ours is connected: it would go on with
    the version it has, and the new one would never be in force there."""
    refused = not_offered(ingress)
    if not refused:
        return
    ours = open_connections(Connection.objects.for_organization(tunnel.organization), timezone.now()).filter(
        connector__tunnel=tunnel, connector__version__startswith=OUR_CONNECTOR
    )
    if ours.exists():
        message = f"A connector of this tunnel would refuse it: {refused}."
        raise InvalidInput(message, code="invalid_configuration", fields={"config": message})
