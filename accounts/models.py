"""Who: organizations, members, API tokens, identity providers, identities, sessions, audit events."""

from __future__ import annotations

import secrets
import uuid
from datetime import datetime
from typing import Any, ClassVar, Self

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser, BaseUserManager, PermissionsMixin
from django.db import models
from django.db.models.functions import Lower

from accounts import mfa_models  # noqa: F401 - more models of this app
from accounts.audit_models import AuditChain as AuditChain
from accounts.audit_models import AuditEvent as AuditEvent
from accounts.deleted_models import DeletedObject as DeletedObject
from accounts.edge_models import EdgeChange, EdgeVersion  # noqa: F401 - Django finds models here
from accounts.login_models import LoginAttempt as LoginAttempt
from accounts.login_models import ProviderTest as ProviderTest
from accounts.people_models import Invitation as Invitation
from accounts.people_models import OrganizationLogo as OrganizationLogo
from accounts.people_models import SavedLogView as SavedLogView
from accounts.permissions import Role
from accounts.support_models import JobFailure as JobFailure
from accounts.support_models import SupportSession as SupportSession
from accounts.tenancy import TenantQuerySet


def new_hex_id() -> str:
    """The 32-hex form of ids in the public API (accounts, zones, records, tokens)."""
    return secrets.token_hex(16)


def new_nonce() -> str:
    return secrets.token_urlsafe(24)


class UserManager(BaseUserManager["User"]):
    def create_user(self, email: str, password: str | None = None, **extra: Any) -> User:
        user = self.model(email=email.strip().lower(), **extra)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def create_superuser(self, email: str, password: str | None = None, **extra: Any) -> User:
        return self.create_user(email, password, is_staff=True, is_superuser=True, **extra)


class User(AbstractBaseUser, PermissionsMixin):
    """A person who uses the dashboard, or support staff (is_staff). Never an SSH user: those are identities."""

    email = models.EmailField(unique=True)
    name = models.CharField(max_length=200, blank=True)
    is_active = models.BooleanField(default=True)
    is_staff = models.BooleanField(default=False)
    time_zone = models.CharField(max_length=64, blank=True, help_text="IANA name; empty: as the browser says.")
    created_at = models.DateTimeField(auto_now_add=True)

    objects: ClassVar[UserManager] = UserManager()
    USERNAME_FIELD = "email"
    EMAIL_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []

    class Meta:
        constraints = [models.UniqueConstraint(Lower("email"), name="user_email_any_case")]

    def __str__(self) -> str:
        return self.email


class Organization(models.Model):
    """A tenant. Its id is the API's account id; its team name makes the team domain."""

    id = models.CharField(primary_key=True, max_length=32, default=new_hex_id, editable=False)
    name = models.CharField(max_length=200)
    team_name = models.SlugField(max_length=63, unique=True)
    session_duration_seconds = models.PositiveIntegerField(default=24 * 3600)
    auto_redirect_to_identity = models.BooleanField(default=False)
    # Second factors of our own (accounts/second_factor.py); applications and policies may say otherwise.
    mfa_config = models.JSONField(null=True, blank=True)
    mfa_required_for_all_apps = models.BooleanField(default=False)
    # Public "organization" settings we keep but do not act upon by name, e.g. login_design.
    settings = models.JSONField(default=dict, blank=True)
    support_needs_consent = models.BooleanField(default=False)
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.name

    @property
    def team_domain(self) -> str:
        """Host only, as certificates and Host headers carry it."""
        return f"{self.team_name}.{settings.ACCESS_DOMAIN}"

    @property
    def team_url(self) -> str:
        """Issuer of this organization's tokens: scheme, host and public port, no trailing slash."""
        return public_url(self.team_domain)


def public_url(host: str) -> str:
    """https URL of a host served by the edge, with the public port when it is not 443."""
    port = "" if settings.EDGE_PUBLIC_PORT == 443 else f":{settings.EDGE_PUBLIC_PORT}"
    return f"https://{host}{port}"


class Membership(models.Model):
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="memberships")
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=16, choices=[(role.value, role.value.title()) for role in Role])
    created_at = models.DateTimeField(auto_now_add=True)

    objects = TenantQuerySet["Membership"].as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["organization", "user"], name="one_membership_per_user")]

    def __str__(self) -> str:
        return f"{self.user} in {self.organization} as {self.role}"


class ApiToken(models.Model):
    """A bearer token for /client/v4. Only its SHA-256 is stored: it holds 240 random bits, so no slow hash."""

    id = models.CharField(primary_key=True, max_length=32, default=new_hex_id, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="api_tokens")
    name = models.CharField(max_length=120)
    token_sha256 = models.CharField(max_length=64, unique=True)
    prefix = models.CharField(max_length=8, help_text="First characters, to tell tokens apart.")
    scopes = models.JSONField(default=list)
    created_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL)
    # The token it was made with, through the API: it ends with that one.
    made_with = models.ForeignKey("self", null=True, blank=True, on_delete=models.SET_NULL, related_name="made")
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    objects = TenantQuerySet["ApiToken"].as_manager()

    class Meta:
        verbose_name = "API token"

    def __str__(self) -> str:
        return self.name

    def is_active(self, now: datetime) -> bool:
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


class IdentityProviderQuerySet(TenantQuerySet["IdentityProvider"]):
    def for_organization(self, organization: Organization) -> Self:
        """Deleted providers stay as rows (identities and certificates name them) but are not found here."""
        return super().for_organization(organization).filter(deleted_at__isnull=True)


class IdentityProvider(models.Model):
    """Where an organization's people log in. `config` holds the public API's keys except the client secret."""

    class Type(models.TextChoices):
        ONE_TIME_PIN = "onetimepin", "One-time PIN"
        OIDC = "oidc", "OpenID Connect"
        OKTA = "okta", "Okta"
        AZURE_AD = "azureAD", "Microsoft Entra ID"
        GOOGLE = "google", "Google"
        GOOGLE_APPS = "google-apps", "Google Workspace"
        GITHUB = "github", "GitHub"
        SAML = "saml", "SAML 2.0"

    class ScimBehavior(models.TextChoices):
        """What a changed group does to a person who is logged in."""

        AUTOMATIC = "automatic", "Change the identity; live connections are checked again"
        REAUTH = "reauth", "Change the identity and end its sessions"
        NO_ACTION = "no_action", "Nothing: groups come from logins only"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="identity_providers")
    type = models.CharField(max_length=32, choices=Type.choices)
    name = models.CharField(max_length=350)
    config = models.JSONField(default=dict, blank=True)
    client_secret_sealed = models.BinaryField(default=bytes, blank=True)
    # Named secrets (API token, service account key, signing key), one sealed JSON object.
    secrets_sealed = models.BinaryField(default=bytes, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)
    deleted_at = models.DateTimeField(null=True, blank=True)
    # --- SCIM: who may log in and in which groups they are, as the provider pushes it
    scim_enabled = models.BooleanField(default=False)
    scim_secret_sha256 = models.CharField(max_length=64, blank=True)
    scim_user_deprovision = models.BooleanField(default=True, help_text="Deactivation disables the identity.")
    scim_seat_deprovision = models.BooleanField(default=False)
    scim_identity_update_behavior = models.CharField(
        max_length=16, choices=ScimBehavior.choices, default=ScimBehavior.AUTOMATIC
    )

    objects = IdentityProviderQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "name"],
                condition=models.Q(deleted_at__isnull=True),
                name="provider_name_per_organization",
            )
        ]
        ordering = ["created_at", "id"]

    def __str__(self) -> str:
        return self.name


class Identity(models.Model):
    """A person as one identity provider knows them. The key is (provider, subject); e-mail is an attribute."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="identities")
    provider = models.ForeignKey(IdentityProvider, on_delete=models.PROTECT, related_name="identities")
    subject = models.CharField(max_length=255)
    email = models.EmailField(blank=True)
    email_verified = models.BooleanField(default=False)
    name = models.CharField(max_length=350, blank=True)
    groups = models.JSONField(default=list, blank=True)
    claims = models.JSONField(default=dict, blank=True)
    disabled_at = models.DateTimeField(null=True, blank=True)
    # Then the provider may enable it again; whom an administrator blocked stays out.
    disabled_by_scim = models.BooleanField(default=False)
    created_at = models.DateTimeField(auto_now_add=True)
    last_login_at = models.DateTimeField(null=True, blank=True)

    objects = TenantQuerySet["Identity"].as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["provider", "subject"], name="identity_per_subject")]
        indexes = [models.Index(fields=["organization", "email"])]
        verbose_name_plural = "identities"

    def __str__(self) -> str:
        return self.email or self.subject

    @property
    def is_blocked(self) -> bool:
        """By an administrator, whatever the provider says."""
        return self.disabled_at is not None and not self.disabled_by_scim


class ScimUser(models.Model):
    """A person as a provider's SCIM client describes them, maybe before their first login (RFC 7643 section 4.1).

    `identity` is set when a login, or an identity that was there before, turns out to be this person.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE)
    provider = models.ForeignKey(IdentityProvider, on_delete=models.CASCADE, related_name="scim_users")
    identity = models.OneToOneField(Identity, null=True, on_delete=models.SET_NULL, related_name="scim_user")
    user_name = models.CharField(max_length=255)
    external_id = models.CharField(max_length=255, blank=True)
    display_name = models.CharField(max_length=350, blank=True)
    email = models.CharField(max_length=254, blank=True, help_text="The primary address, lower case.")
    active = models.BooleanField(default=True)
    # The attributes of our schema as they were sent.
    resource = models.JSONField(default=dict)
    version = models.PositiveIntegerField(default=1)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    objects = TenantQuerySet["ScimUser"].as_manager()

    class Meta:
        ordering = ["created_at", "id"]
        constraints = [
            models.UniqueConstraint("provider", Lower("user_name"), name="scim_user_name_any_case"),
            models.UniqueConstraint(
                fields=["provider", "external_id"], condition=~models.Q(external_id=""), name="scim_user_external_id"
            ),
        ]
        indexes = [models.Index(fields=["provider", "email"])]

    def __str__(self) -> str:
        return self.user_name


class ScimGroup(models.Model):
    """A group of a provider's SCIM client (RFC 7643 section 4.2)."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE)
    provider = models.ForeignKey(IdentityProvider, on_delete=models.CASCADE, related_name="scim_groups")
    display_name = models.CharField(max_length=255)
    external_id = models.CharField(max_length=255, blank=True)
    members = models.ManyToManyField(ScimUser, related_name="groups", through="ScimMembership")
    version = models.PositiveIntegerField(default=1)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    objects = TenantQuerySet["ScimGroup"].as_manager()

    class Meta:
        ordering = ["created_at", "id"]
        constraints = [
            models.UniqueConstraint(fields=["provider", "display_name"], name="scim_group_display_name"),
        ]

    def __str__(self) -> str:
        return self.display_name


class ScimMembership(models.Model):
    group = models.ForeignKey(ScimGroup, on_delete=models.CASCADE, related_name="memberships")
    user = models.ForeignKey(ScimUser, on_delete=models.CASCADE, related_name="memberships")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["group", "user"], name="scim_member_once")]

    def __str__(self) -> str:
        return f"{self.user} in {self.group}"


class ScimUpdate(models.Model):
    """A change asked for by a SCIM client, and its outcome (public API: logs/scim/updates)."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE)
    provider = models.ForeignKey(IdentityProvider, on_delete=models.CASCADE, related_name="scim_updates")
    method = models.CharField(max_length=8)
    resource_type = models.CharField(max_length=8, help_text="USER or GROUP")
    resource_id = models.CharField(max_length=64, blank=True)
    external_id = models.CharField(max_length=255, blank=True)
    user_email = models.CharField(max_length=255, blank=True)
    group_name = models.CharField(max_length=255, blank=True)
    request_body = models.TextField(blank=True)
    status = models.PositiveSmallIntegerField()
    error = models.CharField(max_length=300, blank=True)
    ip_address = models.GenericIPAddressField(null=True)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = TenantQuerySet["ScimUpdate"].as_manager()

    class Meta:
        indexes = [models.Index(fields=["organization", "-created_at"])]

    def __str__(self) -> str:
        return f"{self.method} {self.resource_type}: {self.status}"


class AccessSession(models.Model):
    """One login of an identity at the team domain. Every token carries its nonce; revoking it ends them all."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="access_sessions")
    identity = models.ForeignKey(Identity, on_delete=models.CASCADE, related_name="sessions")
    nonce = models.CharField(max_length=48, unique=True, default=new_nonce)
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField()
    revoked_at = models.DateTimeField(null=True, blank=True)
    ip_address = models.GenericIPAddressField(null=True)
    country = models.CharField(max_length=2, blank=True)
    user_agent = models.CharField(max_length=300, blank=True)
    authentication_methods = models.JSONField(default=list, blank=True)
    # Second factors checked by us: [{"kind", "authenticator", "at" (Unix time), "amr"}], one per kind.
    factors = models.JSONField(default=list, blank=True)
    # When the person proved who they are at the provider, where it says so: often earlier than created_at.
    authenticated_at = models.DateTimeField(null=True, blank=True)
    last_seen_at = models.DateTimeField(null=True, blank=True)

    objects = TenantQuerySet["AccessSession"].as_manager()

    class Meta:
        indexes = [models.Index(fields=["organization", "-created_at"])]

    def __str__(self) -> str:
        return f"{self.identity} since {self.created_at:%Y-%m-%d %H:%M}"

    def is_active(self, now: datetime) -> bool:
        return self.revoked_at is None and now < self.expires_at

    @property
    def all_methods(self) -> list[str]:
        """`amr`: what the login method reported, and what we checked; each once."""
        own = [method for factor in self.factors for method in factor["amr"]]
        return list(dict.fromkeys([*self.authentication_methods, *own]))
