"""Access, Tunnels: list, creation, page with live connectors, install commands, token, deletion."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

from django.conf import settings
from django.contrib import messages
from django.db.models import Count, Q
from django.http import Http404, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts.http import OrganizationRequest, requires
from accounts.pages import Crumbs, at, confirmed, done, find, list_page, posted, refusals, show, telling
from accounts.permissions import Permission
from accounts.tenancy import TenantQuerySet
from tunnels.actions.configurations import current_configuration
from tunnels.actions.connectors import disconnect_connectors, tunnel_status
from tunnels.actions.tunnels import create_tunnel, delete_tunnel, rename_tunnel, rotate_tunnel_token, tunnel_token
from tunnels.forms import DeleteTunnelForm, RotateTokenForm, TunnelForm
from tunnels.ingress_rows import hostnames_of
from tunnels.install import guides
from tunnels.live import live_connectors
from tunnels.models import Connection, DnsRecord, Tunnel, TunnelConfiguration
from tunnels.status import open_connections, statuses

_MAX_NAMED = 10


@requires(Permission.TUNNELS_READ)
@require_GET
def tunnels(request: OrganizationRequest) -> HttpResponse:
    now = timezone.now()
    is_live = Q(connectors__connections__in=open_connections(Connection.objects.all(), now))
    rows = own_tunnels(request).annotate(connector_count=Count("connectors", filter=is_live, distinct=True))
    listing = list_page(request, rows, search=("name", "id"))
    known = statuses(listing.rows, now)
    entries = [(tunnel, known[tunnel.pk]) for tunnel in listing]
    return show(request, "tunnels/tunnels.html", title="Tunnels", listing=listing, entries=entries, live=True)


@requires(Permission.TUNNELS_EDIT)
@require_http_methods(["GET", "POST"])
def tunnel_create(request: OrganizationRequest) -> HttpResponse:
    form = TunnelForm(posted(request))
    if request.method == "POST" and form.is_valid():
        with refusals(form):
            tunnel = create_tunnel(
                request.organization,
                name=form.cleaned_data["name"],
                secret=None,
                config_source=Tunnel.ConfigSource.REMOTE,
                actor=request.actor,
            )
            return done(
                request, f"The tunnel {tunnel.name} is created. Now run a connector.", "tunnel_install", tunnel.pk
            )
    return show(
        request,
        "form.html",
        title="Create a tunnel",
        crumbs=_crumbs(request),
        lead="A tunnel is dialled from the inside out: a connector next to your servers keeps connections to our edge.",
        form=form,
        button="Create tunnel",
        back=at(request, "tunnels"),
    )


@requires(Permission.TUNNELS_READ)
@require_GET
def tunnel_detail(request: OrganizationRequest, tunnel_id: UUID) -> HttpResponse:
    now = timezone.now()
    tunnel = own_tunnel(request, tunnel_id)
    configuration = current_configuration(tunnel)
    connectors = live_connectors(tunnel, now)
    records = DnsRecord.objects.for_organization(request.organization).filter(content=tunnel.target)
    routed = {record.name: record for record in records.select_related("zone")[:500]}
    hostnames = hostnames_of(configuration.config) if configuration else []
    return show(
        request,
        "tunnels/tunnel_detail.html",
        title=tunnel.name,
        crumbs=_crumbs(request),
        tunnel=tunnel,
        health=tunnel_status(tunnel, now),
        configuration=configuration,
        connectors=connectors,
        hostnames=[(*item, routed.get(item[0])) for item in hostnames],
        records=list(routed.values()),
        old_token_count=sum(entry.has_old_token for entry in connectors),
        now=now,
        live=True,
    )


@requires(Permission.TUNNELS_EDIT)
@require_GET
def tunnel_install(request: OrganizationRequest, tunnel_id: UUID) -> HttpResponse:
    """How to run a connector, and the token, which is a secret: for people who may edit tunnels only."""
    tunnel = own_tunnel(request, tunnel_id)
    now = timezone.now()
    known = guides(settings.TUNNEL_EDGES, has_authority_file=bool(settings.EDGE_CA_FILE))
    return show(
        request,
        "tunnels/tunnel_install.html",
        title="Run a connector",
        crumbs=_crumbs(request, tunnel),
        tunnel=tunnel,
        health=tunnel_status(tunnel, now),
        connector_count=len(live_connectors(tunnel, now)),
        has_authority_file=bool(settings.EDGE_CA_FILE),
        token=tunnel_token(tunnel),
        guides=known,
        guide=next((guide for guide in known if guide.key == request.GET.get("system")), known[0]),
        live=True,
    )


@requires(Permission.TUNNELS_READ)
@require_GET
def tunnel_edge_authority(request: OrganizationRequest) -> HttpResponse:
    """edge-ca.pem: the public certificate of the authority that signed the edge's own."""
    path = Path(settings.EDGE_CA_FILE) if settings.EDGE_CA_FILE else None
    if path is None or not path.is_file():
        raise Http404
    response = HttpResponse(path.read_bytes(), content_type="application/x-pem-file")
    response["Content-Disposition"] = 'attachment; filename="edge-ca.pem"'
    return response


@requires(Permission.TUNNELS_EDIT)
@require_http_methods(["GET", "POST"])
def tunnel_rename(request: OrganizationRequest, tunnel_id: UUID) -> HttpResponse:
    tunnel = own_tunnel(request, tunnel_id)
    form = TunnelForm(posted(request), initial={"name": tunnel.name})
    if request.method == "POST" and form.is_valid():
        with refusals(form):
            rename_tunnel(tunnel, name=form.cleaned_data["name"], actor=request.actor)
            return done(request, "The tunnel is renamed.", "tunnel_detail", tunnel.pk)
    return show(
        request,
        "form.html",
        title=f"Rename {tunnel.name}",
        crumbs=_crumbs(request, tunnel),
        form=form,
        button="Rename",
        back=at(request, "tunnel_detail", tunnel.pk),
    )


@requires(Permission.TUNNELS_EDIT)
@require_http_methods(["GET", "POST"])
def tunnel_rotate_token(request: OrganizationRequest, tunnel_id: UUID) -> HttpResponse:
    tunnel = own_tunnel(request, tunnel_id)
    form = RotateTokenForm(posted(request))
    return confirmed(
        request,
        lambda: rotate_tunnel_token(tunnel, cut=form.cleaned_data["cut"], actor=request.actor),
        form=form,
        said=f"{tunnel.name} has a new token. Run its connectors with it.",
        to=at(request, "tunnel_install", tunnel.pk),
        question=f"Make a new token for {tunnel.name}?",
        consequences=[
            "The old token and credentials files no longer open new connections, also when a connector reconnects. "
            f"{_connected_now(tunnel)} until then, unless you cut live connections.",
            "Restart the connectors with the new token, one after the other, and no session is lost. The tunnel's page "
            "shows which of them still live by the old one.",
        ],
        button="Rotate token",
        title="Rotate token",
        crumbs=_crumbs(request, tunnel),
        danger=False,
    )


@requires(Permission.TUNNELS_EDIT)
@require_POST
def tunnel_disconnect(request: OrganizationRequest, tunnel_id: UUID) -> HttpResponse:
    """Close the connections of one connector (POST client_id) or of all; those with a good secret come back."""
    tunnel = own_tunnel(request, tunnel_id)
    with telling(request):
        disconnect_connectors(tunnel, client_id=request.POST.get("client_id") or None, actor=request.actor)
        messages.success(request, "Disconnected. A connector whose token is still good comes back by itself.")
    return redirect(at(request, "tunnel_detail", tunnel.pk))


@requires(Permission.TUNNELS_EDIT)
@require_http_methods(["GET", "POST"])
def tunnel_delete(request: OrganizationRequest, tunnel_id: UUID) -> HttpResponse:
    tunnel = own_tunnel(request, tunnel_id)
    form = DeleteTunnelForm(posted(request), name=tunnel.name)
    return confirmed(
        request,
        lambda: delete_tunnel(tunnel, cascade=form.cleaned_data["cascade"], actor=request.actor),
        form=form,
        said=f"The tunnel {tunnel.name} is deleted.",
        to=at(request, "tunnels"),
        question=f"Delete the tunnel {tunnel.name}?",
        consequences=_taken_along(tunnel),
        button="Delete tunnel",
        title="Delete tunnel",
        crumbs=_crumbs(request, tunnel),
    )


# --- shared ---------------------------------------------------------------------------------------------------
def own_tunnels(request: OrganizationRequest) -> TenantQuerySet[Tunnel]:
    return Tunnel.objects.for_organization(request.organization).filter(deleted_at=None)


def own_tunnel(request: OrganizationRequest, tunnel_id: UUID) -> Tunnel:
    return find(own_tunnels(request).select_related("organization"), pk=tunnel_id)


def _connected_now(tunnel: Tunnel) -> str:
    count = len(live_connectors(tunnel, timezone.now()))
    if not count:
        return "No connector is connected now that could stay connected"
    return "The connector that is connected now stays" if count == 1 else f"The {count} connectors connected now stay"


def _taken_along(tunnel: Tunnel) -> list[str]:
    """What a deletion does, with the names and numbers of this tunnel."""
    connectors = len(live_connectors(tunnel, timezone.now()))
    versions = TunnelConfiguration.objects.for_organization(tunnel.organization).filter(tunnel=tunnel).count()
    records = DnsRecord.objects.for_organization(tunnel.organization).filter(content=tunnel.target)
    names = list(records.values_list("name", flat=True)[: _MAX_NAMED + 1])
    lines = [
        f"{connectors} connected connector{'s are' if connectors != 1 else ' is'} cut off, and refused from now on."
        if connectors
        else "Its connectors are refused from now on.",
        f"{versions} configuration version{'s' if versions != 1 else ''} can no longer be read or rolled back to.",
    ]
    if names:
        named = ", ".join(names[:_MAX_NAMED]) + (", and more" if len(names) > _MAX_NAMED else "")
        lines.append(
            f"These DNS records stay, and their names are answered with an error until you change them: {named}."
        )
    else:
        lines.append("No DNS record of yours points at it.")
    lines.append("This cannot be undone: the tunnel's secret is never kept, and its connectors need a new one.")
    return lines


def _crumbs(request: OrganizationRequest, tunnel: Tunnel | None = None) -> Crumbs:
    tunnels = ("Tunnels", at(request, "tunnels"))
    return [tunnels] if tunnel is None else [tunnels, (tunnel.name, at(request, "tunnel_detail", tunnel.pk))]
