"""Support staff's view of accounts."""

from __future__ import annotations

from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from django.contrib import admin
from django.contrib.auth.models import Group as DjangoGroup
from django.db.models import QuerySet
from django.http import HttpRequest

from accounts.actions.api_tokens import revoke_api_token
from accounts.actions.identities import disable_identity, enable_identity
from accounts.actions.sessions import revoke_identity_sessions, revoke_session
from accounts.models import (
    AccessSession,
    ApiToken,
    AuditChain,
    AuditEvent,
    Identity,
    IdentityProvider,
    JobFailure,
    LoginAttempt,
    Membership,
    Organization,
    ProviderTest,
    SupportSession,
    User,
)
from accounts.staff import ReadOnlyAdmin, staff_action

# Other apps' pages: Django's groups are not used here, allauth's would show the secrets of second factors.
for _model in (DjangoGroup, Authenticator, EmailAddress):
    if admin.site.is_registered(_model):
        admin.site.unregister(_model)


@admin.register(User)
class UserAdmin(ReadOnlyAdmin):
    list_display = ("email", "name", "is_active", "is_staff", "last_login")
    search_fields = ("email", "name")
    list_filter = ("is_active", "is_staff")


@admin.register(Organization)
class OrganizationAdmin(ReadOnlyAdmin):
    list_display = ("name", "team_name", "id", "created_at")
    search_fields = ("name", "team_name", "id")


@admin.register(Membership)
class MembershipAdmin(ReadOnlyAdmin):
    list_display = ("user", "organization", "role", "created_at")
    list_select_related = ("user", "organization")
    search_fields = ("user__email", "organization__name", "organization__team_name")
    list_filter = ("role",)


@admin.register(ApiToken)
class ApiTokenAdmin(ReadOnlyAdmin):
    list_display = ("name", "organization", "prefix", "last_used_at", "expires_at", "revoked_at")
    list_select_related = ("organization",)
    search_fields = ("name", "prefix", "organization__team_name")
    actions = ("revoke",)

    @admin.action(description="Revoke the chosen API tokens", permissions=["view"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[ApiToken]) -> None:
        rows = queryset.select_related("organization")
        staff_action(request, rows, lambda token, actor: revoke_api_token(token, actor=actor), "Tokens revoked")


@admin.register(IdentityProvider)
class IdentityProviderAdmin(ReadOnlyAdmin):
    list_display = ("name", "type", "organization", "created_at")
    list_select_related = ("organization",)
    search_fields = ("name", "organization__team_name")
    list_filter = ("type",)


@admin.register(Identity)
class IdentityAdmin(ReadOnlyAdmin):
    list_display = ("email", "subject", "organization", "provider", "last_login_at", "disabled_at")
    list_select_related = ("organization", "provider")
    search_fields = ("email", "subject", "organization__team_name")
    actions = (
        "revoke_sessions",
        "disable",
        "enable",
    )

    @admin.action(description="End all sessions of the chosen identities", permissions=["view"])
    def revoke_sessions(self, request: HttpRequest, queryset: QuerySet[Identity]) -> None:
        rows = queryset.select_related("organization")
        staff_action(request, rows, lambda row, actor: revoke_identity_sessions(row, actor=actor), "Signed out")

    @admin.action(description="Disable the chosen identities", permissions=["view"])
    def disable(self, request: HttpRequest, queryset: QuerySet[Identity]) -> None:
        rows = queryset.select_related("organization")
        staff_action(request, rows, lambda row, actor: disable_identity(row, actor=actor), "Disabled")

    @admin.action(description="Enable the chosen identities", permissions=["view"])
    def enable(self, request: HttpRequest, queryset: QuerySet[Identity]) -> None:
        rows = queryset.select_related("organization")
        staff_action(request, rows, lambda row, actor: enable_identity(row, actor=actor), "Enabled")


@admin.register(AccessSession)
class AccessSessionAdmin(ReadOnlyAdmin):
    list_display = ("identity", "organization", "ip_address", "created_at", "expires_at", "revoked_at")
    list_select_related = ("identity", "organization")
    search_fields = ("identity__email", "organization__team_name", "ip_address")
    actions = ("revoke",)

    @admin.action(description="End the chosen sessions", permissions=["view"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[AccessSession]) -> None:
        rows = queryset.select_related("organization", "identity")
        staff_action(request, rows, lambda row, actor: revoke_session(row, actor=actor), "Sessions ended")


@admin.register(LoginAttempt)
class LoginAttemptAdmin(ReadOnlyAdmin):
    list_display = ("id", "organization", "provider", "ip_address", "created_at", "used_at")
    list_select_related = ("organization", "provider")
    search_fields = ("organization__team_name", "ip_address")


@admin.register(ProviderTest)
class ProviderTestAdmin(ReadOnlyAdmin):
    list_display = ("id", "organization", "provider", "started_by", "created_at", "finished_at")
    list_select_related = ("organization", "provider", "started_by")
    search_fields = ("organization__team_name",)


@admin.register(AuditChain)
class AuditChainAdmin(ReadOnlyAdmin):
    list_display = ("id", "sequence", "verified_sequence", "verified_at", "problem")
    search_fields = ("id",)


@admin.register(AuditEvent)
class AuditEventAdmin(ReadOnlyAdmin):
    list_display = ("created_at", "name", "organization", "actor_label", "target_label")
    list_select_related = ("organization",)
    search_fields = ("name", "actor_label", "target_label", "organization__team_name")
    list_filter = ("actor_kind",)


@admin.register(SupportSession)
class SupportSessionAdmin(ReadOnlyAdmin):
    list_display = ("staff_label", "organization", "reason", "started_at", "expires_at", "ended_at", "ended_by")
    list_select_related = ("organization",)
    search_fields = ("staff_label", "reason", "organization__team_name")


@admin.register(JobFailure)
class JobFailureAdmin(ReadOnlyAdmin):
    list_display = ("created_at", "task", "exception", "worker", "requeued_at")
    search_fields = ("task", "exception")
