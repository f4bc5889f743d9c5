"""A tunnel's published hostnames, and the versions of its configuration."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.http import HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts.errors import Conflict
from accounts.forms import PlainForm
from accounts.http import OrganizationRequest, requires
from accounts.pages import Crumbs, at, done, find, list_page, posted, refusals, show, telling
from accounts.permissions import Permission
from tunnels.actions.configurations import current_configuration, publish_configuration
from tunnels.actions.records import route_hostname
from tunnels.differences import compare
from tunnels.ingress_rows import IngressRows
from tunnels.models import Tunnel, TunnelConfiguration, Zone
from tunnels.names import is_within
from tunnels.views.tunnels import own_tunnel

_MAX_COMPARED = 200


@requires(Permission.TUNNELS_EDIT)
@require_http_methods(["GET", "POST"])
def tunnel_hostnames(request: OrganizationRequest, tunnel_id: UUID) -> HttpResponse:
    """The editor. Saving publishes a new version; one that was published meanwhile is not overwritten."""
    tunnel = own_tunnel(request, tunnel_id)
    current = current_configuration(tunnel)
    base: dict[str, Any] = current.config if current else {}
    form = PlainForm(posted(request))
    rows = IngressRows.sent(request.POST) if request.method == "POST" else IngressRows.stored(base)
    if request.method == "POST" and not rows.take_step(request.POST.get("step", "publish")):
        config = rows.config(base)
        with refusals(form):
            _assert_unchanged(request, current)
            if config is not None:
                version = publish_configuration(tunnel, config=config, actor=request.actor).version
                return done(request, f"Version {version} is published.", "tunnel_detail", tunnel.pk)
        if config is None:
            form.add_error(None, "A row is not complete. Nothing was published.")
    return show(
        request,
        "tunnels/tunnel_hostnames.html",
        title="Published hostnames",
        crumbs=_crumbs(request, tunnel),
        tunnel=tunnel,
        form=form,
        rows=rows,
        base_version=current.version if current else 0,
        back=at(request, "tunnel_detail", tunnel.pk),
        live=True,
    )


@requires(Permission.TUNNELS_READ)
@require_GET
def tunnel_versions(request: OrganizationRequest, tunnel_id: UUID) -> HttpResponse:
    tunnel = own_tunnel(request, tunnel_id)
    rows = TunnelConfiguration.objects.for_organization(request.organization).filter(tunnel=tunnel)
    return show(
        request,
        "tunnels/tunnel_versions.html",
        title="Versions",
        crumbs=_crumbs(request, tunnel),
        tunnel=tunnel,
        listing=list_page(request, rows, search=("created_by",)),
        current=current_configuration(tunnel),
    )


@requires(Permission.TUNNELS_READ)
@require_GET
def tunnel_version(request: OrganizationRequest, tunnel_id: UUID, version: int) -> HttpResponse:
    """One version, beside another one: ?with=, else what is in force, else the version before."""
    tunnel = own_tunnel(request, tunnel_id)
    configuration, current = _version(request, tunnel, version), current_configuration(tunnel)
    is_current = current is not None and current.version == version
    other = _other_version(request, tunnel, configuration, None if is_current else current)
    older, newer = sorted([configuration, other or configuration], key=lambda item: item.version)
    rows = TunnelConfiguration.objects.for_organization(request.organization).filter(tunnel=tunnel)
    return show(
        request,
        "tunnels/tunnel_version.html",
        title=f"Version {version}",
        crumbs=[*_crumbs(request, tunnel), ("Versions", at(request, "tunnel_versions", tunnel.pk))],
        tunnel=tunnel,
        configuration=configuration,
        is_current=is_current,
        current=current,
        other=other,
        older=older,
        newer=newer,
        differences=compare(older.config, newer.config),
        versions=list(rows.exclude(version=version).values_list("version", flat=True)[:_MAX_COMPARED]),
    )


@requires(Permission.TUNNELS_EDIT)
@require_POST
def tunnel_version_publish(request: OrganizationRequest, tunnel_id: UUID, version: int) -> HttpResponse:
    """Roll back: an old version's content becomes a new version."""
    tunnel = own_tunnel(request, tunnel_id)
    old = _version(request, tunnel, version)
    with telling(request):
        new = publish_configuration(tunnel, config=old.config, content_of=version, actor=request.actor)
        return done(
            request,
            f"Rolled back: version {new.version} is published, with the content of version {version}.",
            "tunnel_detail",
            tunnel.pk,
        )
    return redirect(at(request, "tunnel_version", tunnel.pk, version))


@requires(Permission.DNS_EDIT)
@require_POST
def tunnel_route_hostname(request: OrganizationRequest, tunnel_id: UUID) -> HttpResponse:
    """Make the CNAME record for a published hostname (POST hostname=)."""
    tunnel = own_tunnel(request, tunnel_id)
    hostname = request.POST.get("hostname", "").strip().lower()[:253]
    zones = Zone.objects.for_organization(request.organization).select_related("organization")
    fitting = [zone for zone in zones if is_within(hostname.removeprefix("*."), zone.name)]
    with telling(request):
        if not fitting:
            raise Conflict(f"None of your zones holds {hostname}. Add its domain under DNS first.")
        zone = max(fitting, key=lambda item: len(item.name))
        result = route_hostname(zone, tunnel, hostname=hostname, overwrite=False, actor=request.actor)
        word = {"new": "is routed to", "updated": "is routed to", "unchanged": "was routed already to"}[result]
        return done(request, f"{hostname} {word} {tunnel.name}.", "tunnel_detail", tunnel.pk)
    return redirect(at(request, "tunnel_detail", tunnel.pk))


def _assert_unchanged(request: OrganizationRequest, current: TunnelConfiguration | None) -> None:
    seen = request.POST.get("base_version", "")
    if current is not None and seen.isdigit() and int(seen) != current.version:
        raise Conflict(
            f"{current.created_by} published version {current.version} while this page was open. Your rows are still "
            "here; open the tunnel in another tab, compare, and load this page again."
        )


def _version(request: OrganizationRequest, tunnel: Tunnel, version: int) -> TunnelConfiguration:
    rows = TunnelConfiguration.objects.for_organization(request.organization).filter(tunnel=tunnel)
    return find(rows, version=version)


def _other_version(
    request: OrganizationRequest, tunnel: Tunnel, shown: TunnelConfiguration, current: TunnelConfiguration | None
) -> TunnelConfiguration | None:
    rows = TunnelConfiguration.objects.for_organization(request.organization).filter(tunnel=tunnel)
    wanted = request.GET.get("with", "")
    if wanted.isascii() and wanted.isdigit() and len(wanted) < 9:
        return rows.filter(version=int(wanted)).first()
    return current or rows.filter(version__lt=shown.version).order_by("-version").first()


def _crumbs(request: OrganizationRequest, tunnel: Tunnel) -> Crumbs:
    return [("Tunnels", at(request, "tunnels")), (tunnel.name, at(request, "tunnel_detail", tunnel.pk))]
