"""Support staff's view of tunnels and DNS."""

from __future__ import annotations

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from accounts.staff import ReadOnlyAdmin, staff_action
from tunnels.actions.connectors import disconnect_connectors
from tunnels.actions.records import verify_record
from tunnels.actions.zones import verify_zone
from tunnels.models import Connection, Connector, DnsRecord, Edge, Tunnel, TunnelConfiguration, Zone


@admin.register(Zone)
class ZoneAdmin(ReadOnlyAdmin):
    list_display = ("name", "organization", "status", "last_checked_at")
    list_select_related = ("organization",)
    search_fields = ("name", "organization__team_name")
    list_filter = ("status",)
    actions = ("verify",)

    @admin.action(description="Look for the proof of the chosen zones now", permissions=["view"])
    def verify(self, request: HttpRequest, queryset: QuerySet[Zone]) -> None:
        rows = queryset.select_related("organization")
        staff_action(request, rows, lambda row, actor: verify_zone(row, actor=actor), "Asked for")


@admin.register(DnsRecord)
class DnsRecordAdmin(ReadOnlyAdmin):
    list_display = ("name", "type", "content", "organization", "verification", "verified_at")
    list_select_related = ("organization",)
    search_fields = ("name", "content", "organization__team_name")
    list_filter = ("type", "verification")
    actions = ("verify",)

    @admin.action(description="Check the chosen records now", permissions=["view"])
    def verify(self, request: HttpRequest, queryset: QuerySet[DnsRecord]) -> None:
        rows = queryset.select_related("organization", "zone")
        staff_action(request, rows, lambda row, actor: verify_record(row, actor=actor), "Asked for")


@admin.register(Tunnel)
class TunnelAdmin(ReadOnlyAdmin):
    list_display = ("name", "id", "organization", "config_source", "created_at", "deleted_at")
    list_select_related = ("organization",)
    search_fields = ("name", "id", "organization__team_name")
    actions = ("disconnect",)

    @admin.action(description="Disconnect the connectors of the chosen tunnels", permissions=["view"])
    def disconnect(self, request: HttpRequest, queryset: QuerySet[Tunnel]) -> None:
        rows = queryset.select_related("organization")
        staff_action(request, rows, lambda row, actor: disconnect_connectors(row, actor=actor), "Disconnected")


@admin.register(TunnelConfiguration)
class TunnelConfigurationAdmin(ReadOnlyAdmin):
    list_display = ("tunnel", "version", "source", "created_by", "created_at", "organization")
    list_select_related = ("tunnel", "organization")
    search_fields = ("tunnel__name", "organization__team_name")


@admin.register(Edge)
class EdgeAdmin(ReadOnlyAdmin):
    list_display = ("name", "location", "version", "snapshot_version", "streams", "last_seen_at")
    search_fields = ("name", "location")


@admin.register(Connector)
class ConnectorAdmin(ReadOnlyAdmin):
    list_display = ("client_id", "tunnel", "organization", "version", "origin_ip", "last_seen_at")
    list_select_related = ("tunnel", "organization")
    search_fields = ("client_id", "tunnel__name", "organization__team_name")


@admin.register(Connection)
class ConnectionAdmin(ReadOnlyAdmin):
    list_display = ("id", "connector", "edge", "index", "organization", "opened_at", "closed_at")
    list_select_related = ("connector", "edge", "organization")
    search_fields = ("connector__client_id", "organization__team_name")
