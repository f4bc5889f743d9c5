"""One connector of a tunnel: what it is, what it holds, and what it logs while somebody watches."""

from __future__ import annotations

from uuid import UUID

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from accounts.http import OrganizationRequest, requires
from accounts.pages import Crumbs, at, find, show
from accounts.permissions import Permission
from dataplane.wire.management import LEVELS
from tunnels.actions.configurations import current_configuration
from tunnels.actions.connectors import view_connector_logs
from tunnels.connector_logs import LogView, read_lines, start_watch, stop_watch, watched_level
from tunnels.live import diagnose
from tunnels.models import Connection, Connector, Tunnel
from tunnels.status import open_connections
from tunnels.views.tunnels import own_tunnel

_MAX_CLOSED = 10


@requires(Permission.TUNNELS_READ)
@require_GET
def connector_detail(request: OrganizationRequest, tunnel_id: UUID, client_id: UUID) -> HttpResponse:
    tunnel, connector = _connector(request, tunnel_id, client_id)
    now = timezone.now()
    connections = _open(connector)
    closed = connector.connections.exclude(closed_at=None).select_related("edge").order_by("-closed_at")[:_MAX_CLOSED]
    configuration = current_configuration(tunnel)
    level = watched_level(request.user.pk, connector)
    return show(
        request,
        "tunnels/connector_detail.html",
        title=f"Connector {str(connector.client_id)[:8]}",
        crumbs=_crumbs(request, tunnel),
        tunnel=tunnel,
        connector=connector,
        connections=connections,
        closed=closed,
        configuration=configuration,
        findings=diagnose(tunnel, connector, connections, configuration, now),
        levels=LEVELS,
        level=level,
        view=_lines(request, connector, connections, level),
        live=True,
    )


@requires(Permission.TUNNELS_EDIT)
@require_GET
def connector_logs(request: OrganizationRequest, tunnel_id: UUID, client_id: UUID) -> HttpResponse:
    """The log alone, on a page of its own: what the live part asks for again and again."""
    tunnel, connector = _connector(request, tunnel_id, client_id)
    level = watched_level(request.user.pk, connector)
    return show(
        request,
        "tunnels/connector_logs.html",
        title="Log",
        crumbs=[*_crumbs(request, tunnel), (str(connector.client_id)[:8], _page(request, connector))],
        tunnel=tunnel,
        connector=connector,
        levels=LEVELS,
        level=level,
        view=_lines(request, connector, _open(connector), level),
        live=True,
    )


@requires(Permission.TUNNELS_EDIT)
@require_POST
def connector_logs_watch(request: OrganizationRequest, tunnel_id: UUID, client_id: UUID) -> HttpResponse:
    _, connector = _connector(request, tunnel_id, client_id)
    level = request.POST.get("level", "")
    level = level if level in LEVELS else "info"
    view_connector_logs(connector, level=level, actor=request.actor)
    start_watch(request.user.pk, connector, level)
    return redirect(f"{_page(request, connector)}#logs")


@requires(Permission.TUNNELS_EDIT)
@require_POST
def connector_logs_stop(request: OrganizationRequest, tunnel_id: UUID, client_id: UUID) -> HttpResponse:
    _, connector = _connector(request, tunnel_id, client_id)
    stop_watch(request.user.pk, connector)
    messages.success(request, "You no longer watch the log. Nothing of it was stored.")
    return redirect(f"{_page(request, connector)}#logs")


def _connector(request: OrganizationRequest, tunnel_id: UUID, client_id: UUID) -> tuple[Tunnel, Connector]:
    tunnel = own_tunnel(request, tunnel_id)
    rows = Connector.objects.for_organization(request.organization).select_related("organization", "tunnel")
    return tunnel, find(rows, tunnel=tunnel, client_id=client_id)


def _open(connector: Connector) -> list[Connection]:
    rows = Connection.objects.for_organization(connector.organization).filter(connector=connector)
    return list(open_connections(rows, timezone.now()).select_related("edge").order_by("index"))


def _lines(
    request: OrganizationRequest, connector: Connector, connections: list[Connection], level: str | None
) -> LogView | None:
    if level is None or not request.can(Permission.TUNNELS_EDIT):
        return None
    return read_lines(connector, connections, level)


def _page(request: OrganizationRequest, connector: Connector) -> str:
    return at(request, "connector_detail", connector.tunnel_id, connector.client_id)


def _crumbs(request: OrganizationRequest, tunnel: Tunnel) -> Crumbs:
    return [("Tunnels", at(request, "tunnels")), (tunnel.name, at(request, "tunnel_detail", tunnel.pk))]
