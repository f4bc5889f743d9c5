"""Support staff's view of access."""

from __future__ import annotations

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from access.actions.applications import revoke_application_tokens
from access.actions.certificates import revoke_certificate
from access.actions.principals import release_principal
from access.models import (
    AccessRequest,
    Application,
    ApplicationPolicy,
    Certificate,
    CustomPage,
    Group,
    HandOver,
    Policy,
    PrincipalClaim,
    SavedTest,
    ServiceToken,
    Simulation,
    SshAuthority,
    Tag,
    TokenKey,
    Transfer,
)
from accounts.staff import ReadOnlyAdmin, staff_action


@admin.register(Application)
class ApplicationAdmin(ReadOnlyAdmin):
    list_display = ("name", "hostname", "path", "organization", "created_at")
    list_select_related = ("organization",)
    search_fields = ("name", "hostname", "aud", "organization__team_name")
    actions = ("revoke_tokens",)

    @admin.action(description="Revoke all tokens of the chosen applications", permissions=["view"])
    def revoke_tokens(self, request: HttpRequest, queryset: QuerySet[Application]) -> None:
        rows = queryset.select_related("organization")
        staff_action(request, rows, lambda row, actor: revoke_application_tokens(row, actor=actor), "Tokens revoked")


@admin.register(Policy)
class PolicyAdmin(ReadOnlyAdmin):
    list_display = ("name", "decision", "reusable", "organization")
    list_select_related = ("organization",)
    search_fields = ("name", "organization__team_name")
    list_filter = ("decision", "reusable")


@admin.register(ApplicationPolicy)
class ApplicationPolicyAdmin(ReadOnlyAdmin):
    list_display = ("application", "policy", "precedence")
    list_select_related = ("application", "policy")
    search_fields = ("application__name", "policy__name")


@admin.register(Tag)
class TagAdmin(ReadOnlyAdmin):
    list_display = ("name", "organization", "created_at")
    list_select_related = ("organization",)
    search_fields = ("name", "organization__team_name")


@admin.register(CustomPage)
class CustomPageAdmin(ReadOnlyAdmin):
    list_display = ("name", "type", "organization", "updated_at")
    list_select_related = ("organization",)
    search_fields = ("name", "organization__team_name")


@admin.register(Group)
class GroupAdmin(ReadOnlyAdmin):
    list_display = ("name", "organization", "is_default")
    list_select_related = ("organization",)
    search_fields = ("name", "organization__team_name")


@admin.register(ServiceToken)
class ServiceTokenAdmin(ReadOnlyAdmin):
    list_display = ("name", "client_id", "organization", "enabled", "expires_at", "last_used_at")
    list_select_related = ("organization",)
    search_fields = ("name", "client_id", "organization__team_name")


@admin.register(TokenKey)
class TokenKeyAdmin(ReadOnlyAdmin):
    list_display = ("kid", "organization", "state", "created_at")
    list_select_related = ("organization",)
    search_fields = ("kid", "organization__team_name")
    list_filter = ("state",)


@admin.register(SshAuthority)
class SshAuthorityAdmin(ReadOnlyAdmin):
    list_display = ("application", "organization", "state", "algorithm", "fingerprint")
    list_select_related = ("application", "organization")
    search_fields = ("application__name", "fingerprint", "organization__team_name")
    list_filter = ("state",)


@admin.register(PrincipalClaim)
class PrincipalClaimAdmin(ReadOnlyAdmin):
    list_display = ("principal", "application", "identity", "organization")
    list_select_related = ("application", "identity", "organization")
    search_fields = ("principal", "identity__email", "organization__team_name")
    actions = ("release",)

    @admin.action(description="Release the chosen account names", permissions=["view"])
    def release(self, request: HttpRequest, queryset: QuerySet[PrincipalClaim]) -> None:
        rows = queryset.select_related("application", "identity", "organization")
        staff_action(request, rows, lambda row, actor: release_principal(row, actor=actor), "Account names released")


@admin.register(Certificate)
class CertificateAdmin(ReadOnlyAdmin):
    list_display = (
        "serial",
        "identity",
        "service_token",
        "application",
        "organization",
        "status",
        "valid_before",
        "revoked_at",
    )
    list_select_related = ("identity", "service_token", "application", "organization")
    search_fields = ("serial", "key_id", "identity__email", "organization__team_name")
    list_filter = ("status",)
    actions = ("revoke",)

    @admin.action(description="Revoke the chosen certificates", permissions=["view"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[Certificate]) -> None:
        rows = queryset.select_related("organization", "application")
        staff_action(request, rows, lambda row, actor: revoke_certificate(row, actor=actor), "Certificates revoked")


@admin.register(AccessRequest)
class AccessRequestAdmin(ReadOnlyAdmin):
    list_display = ("created_at", "email", "application_label", "action", "allowed", "reason", "organization")
    list_select_related = ("organization",)
    search_fields = ("email", "ray_id", "application_label", "organization__team_name")
    list_filter = ("allowed", "action")


@admin.register(SavedTest)
class SavedTestAdmin(ReadOnlyAdmin):
    list_display = ("name", "application", "organization", "expected", "updated_at")
    list_select_related = ("application", "organization")
    search_fields = ("name", "application__name", "organization__team_name")


@admin.register(Simulation)
class SimulationAdmin(ReadOnlyAdmin):
    list_display = ("title", "kind", "organization", "status", "processed", "total", "created_at")
    list_select_related = ("organization",)
    search_fields = ("title", "organization__team_name")
    list_filter = ("kind", "status")


@admin.register(HandOver)
class HandOverAdmin(ReadOnlyAdmin):
    list_display = ("hostname", "organization", "created_at", "expires_at", "used_at")
    list_select_related = ("organization",)
    search_fields = ("hostname", "organization__team_name")

    def has_view_permission(self, request: HttpRequest, obj: HandOver | None = None) -> bool:
        """The list only: the key of a row is the hash of a one-time code."""
        return obj is None and super().has_view_permission(request)


@admin.register(Transfer)
class TransferAdmin(ReadOnlyAdmin):
    list_display = ("__str__", "organization", "created_at", "expires_at", "fetched_at")
    list_select_related = ("organization",)
    search_fields = ("organization__team_name",)

    def has_view_permission(self, request: HttpRequest, obj: Transfer | None = None) -> bool:
        """The list only: the key of a row is the address under which its tokens are fetched."""
        return obj is None and super().has_view_permission(request)
