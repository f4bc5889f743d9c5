"""DNS: zones with their proof of ownership, and their records."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.db.models import Count, Q
from django.http import HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts.forms import TypedNameForm
from accounts.http import OrganizationRequest, requires
from accounts.pages import (
    Crumbs,
    Filter,
    at,
    confirmed,
    done,
    find,
    list_page,
    posted,
    refusals,
    show,
    telling,
)
from accounts.permissions import Permission
from tunnels.actions.records import create_record, delete_record, update_record, verify_record
from tunnels.actions.zones import create_zone, delete_zone, verify_zone
from tunnels.forms import RecordForm, ZoneForm
from tunnels.models import DnsRecord, Tunnel, Zone
from tunnels.records import is_tunnel_target
from tunnels.zones import challenge_name, challenge_value, needs_proof


@requires(Permission.DNS_READ)
@require_GET
def zones(request: OrganizationRequest) -> HttpResponse:
    rows = Zone.objects.for_organization(request.organization).annotate(record_count=Count("records"))
    return show(request, "tunnels/zones.html", title="DNS", listing=list_page(request, rows, search=("name",)))


@requires(Permission.DNS_EDIT)
@require_http_methods(["GET", "POST"])
def zone_add(request: OrganizationRequest) -> HttpResponse:
    form = ZoneForm(posted(request))
    if request.method == "POST" and form.is_valid():
        with refusals(form):
            zone = create_zone(request.organization, name=form.cleaned_data["name"], actor=request.actor)
            return done(request, f"{zone.name} is added.", "zone_detail", zone.pk)
    return show(
        request,
        "form.html",
        title="Add a zone",
        crumbs=[("DNS", at(request, "zones"))],
        lead="The next page shows the TXT record that proves the domain is yours.",
        form=form,
        button="Add zone",
        back=at(request, "zones"),
    )


@requires(Permission.DNS_READ)
@require_GET
def zone_detail(request: OrganizationRequest, zone_id: str) -> HttpResponse:
    zone = _zone(request, zone_id)
    kinds = Filter(
        "type",
        "Type",
        DnsRecord.Type.choices,
        {value: Q(type=value) for value in DnsRecord.Type.values},
    )
    rows = DnsRecord.objects.for_organization(request.organization).filter(zone=zone)
    listing = list_page(request, rows, search=("name", "content", "comment"), filters=[kinds])
    return show(
        request,
        "tunnels/zone_detail.html",
        title=zone.name,
        crumbs=[("DNS", at(request, "zones"))],
        zone=zone,
        proof_needed=needs_proof(zone.name),
        proof_name=challenge_name(zone),
        proof_value=challenge_value(zone),
        listing=listing,
        tunnels=_tunnels(request),
        live=True,
    )


@requires(Permission.DNS_EDIT)
@require_POST
def zone_verify(request: OrganizationRequest, zone_id: str) -> HttpResponse:
    zone = _zone(request, zone_id)
    with telling(request):
        verify_zone(zone, actor=request.actor)
        messages.success(request, "Asking the resolvers now; the answer appears below.")
    return redirect(at(request, "zone_detail", zone.pk))


@requires(Permission.DNS_EDIT)
@require_http_methods(["GET", "POST"])
def zone_delete(request: OrganizationRequest, zone_id: str) -> HttpResponse:
    zone = _zone(request, zone_id)
    return confirmed(
        request,
        lambda: delete_zone(zone, actor=request.actor),
        form=TypedNameForm(posted(request), name=zone.name),
        said=f"The zone {zone.name} is deleted.",
        to=at(request, "zones"),
        question=f"Delete the zone {zone.name}?",
        consequences=[
            "Its records go with it, and nothing is served under these names any more.",
            "Undone, it comes back with its records; its ownership is proved again, at the same TXT record.",
        ],
        button="Delete zone",
        can_undo=True,
        crumbs=_crumbs(request, zone),
    )


@requires(Permission.DNS_EDIT)
@require_http_methods(["GET", "POST"])
def record_add(request: OrganizationRequest, zone_id: str) -> HttpResponse:
    zone = _zone(request, zone_id)
    initial = {
        "type": "CNAME",
        "ttl": 1,
        "name": request.GET.get("name", ""),
        "content": request.GET.get("content", ""),
    }
    form = RecordForm(posted(request), initial=initial)
    if request.method == "POST" and form.is_valid():
        with refusals(form):
            record = create_record(zone, actor=request.actor, proxied=_is_tunnel(form), **form.cleaned_data)
            return done(request, f"{record.name} is added.", "zone_detail", zone.pk)
    return _record_page(request, zone, form, title="Add a record", button="Add record")


@requires(Permission.DNS_EDIT)
@require_http_methods(["GET", "POST"])
def record_edit(request: OrganizationRequest, record_id: str) -> HttpResponse:
    record = _record(request, record_id)
    initial = {name: getattr(record, name) for name in ("type", "name", "content", "ttl", "comment")}
    form = RecordForm(posted(request), initial=initial)
    if request.method == "POST" and form.is_valid():
        with refusals(form):
            update_record(record, actor=request.actor, **form.cleaned_data)
            return done(request, f"{record.name} is saved.", "zone_detail", record.zone_id)
    return _record_page(request, record.zone, form, title=f"Edit {record.name}", button="Save")


@requires(Permission.DNS_EDIT)
@require_POST
def record_check(request: OrganizationRequest, record_id: str) -> HttpResponse:
    record = _record(request, record_id)
    with telling(request):
        verify_record(record, actor=request.actor)
        messages.success(request, f"Asking the resolvers for {record.name} now.")
    return redirect(at(request, "zone_detail", record.zone_id))


@requires(Permission.DNS_EDIT)
@require_http_methods(["GET", "POST"])
def record_delete(request: OrganizationRequest, record_id: str) -> HttpResponse:
    record = _record(request, record_id)
    zone, name = record.zone, record.name
    return confirmed(
        request,
        lambda: delete_record(record, actor=request.actor),
        said=f"{name} is deleted.",
        question=f"Delete the {record.type} record {name}?",
        consequences=["If it routes an application to a tunnel, that application is no longer reachable."],
        button="Delete record",
        can_undo=True,
        crumbs=_crumbs(request, zone),
    )


def _record_page(request: OrganizationRequest, zone: Zone, form: RecordForm, **context: Any) -> HttpResponse:
    return show(
        request,
        "tunnels/record_form.html",
        crumbs=_crumbs(request, zone),
        zone=zone,
        form=form,
        tunnels=_tunnels(request),
        back=at(request, "zone_detail", zone.pk),
        **context,
    )


def _tunnels(request: OrganizationRequest) -> list[Tunnel]:
    return list(Tunnel.objects.for_organization(request.organization).filter(deleted_at=None)[:200])


def _is_tunnel(form: RecordForm) -> bool:
    return form.cleaned_data["type"] == DnsRecord.Type.CNAME and is_tunnel_target(form.cleaned_data["content"].lower())


def _zone(request: OrganizationRequest, zone_id: str) -> Zone:
    return find(Zone.objects.for_organization(request.organization).select_related("organization"), pk=zone_id)


def _record(request: OrganizationRequest, record_id: str) -> DnsRecord:
    rows = DnsRecord.objects.for_organization(request.organization)
    return find(rows.select_related("zone__organization", "organization"), pk=record_id)


def _crumbs(request: OrganizationRequest, zone: Zone) -> Crumbs:
    return [("DNS", at(request, "zones")), (zone.name, at(request, "zone_detail", zone.pk))]
