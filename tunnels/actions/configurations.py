"""Publishing a tunnel's configuration. How it travels: tunnels.snapshots (edges pull) and tunnels.pushes (the hint)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from django.db import transaction
from django.db.models import Max

from accounts import audit
from accounts.actor import Actor
from accounts.errors import InvalidInput
from dataplane.wire.ingress import IngressError, parse_ingress
from tunnels import events, tasks
from tunnels.actions.tunnels import lock_live_tunnel
from tunnels.models import Tunnel, TunnelConfiguration

MAX_CONFIGURATION_BYTES = 256 * 1024
FIRST_VERSION = 1


@transaction.atomic
def publish_configuration(tunnel: Tunnel, *, config: Mapping[str, Any], actor: Actor) -> TunnelConfiguration:
    """A new version, checked by the connector's own rules. A locally managed tunnel becomes a remotely managed one:
    that way only, since its connectors then ignore their file."""
    _check(config)
    current = lock_live_tunnel(tunnel)
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
        new={"version": configuration.version, "rules": len(config.get("ingress") or [])},
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


def _check(config: Mapping[str, Any]) -> None:
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
        parse_ingress(config)
    except IngressError as error:
        message = f"The configuration cannot be served: {error}."
        raise InvalidInput(message, code="invalid_configuration", fields={"config": message}) from error
