"""What a login leaves between two requests: one-time codes and sealed tokens. Part of access.models."""

from __future__ import annotations

from django.db import models

from accounts.models import AccessSession, Organization
from accounts.tenancy import TenantQuerySet


class HandOver(models.Model):
    """One-time code that carries a login from the team domain to an application host (`authorized`)."""

    code_sha256 = models.CharField(primary_key=True, max_length=64)
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE)
    application = models.ForeignKey("access.Application", on_delete=models.CASCADE)
    session = models.ForeignKey(AccessSession, on_delete=models.CASCADE)
    # Hash of the application-host cookie (CF_AppSession) of the browser that started the login.
    app_session_sha256 = models.CharField(max_length=64)
    hostname = models.CharField(max_length=253)
    redirect_path = models.TextField()
    policy_id = models.UUIDField(null=True)
    session_duration_seconds = models.PositiveIntegerField()
    # Thumbprint of the device key the token will be bound to; empty for browsers.
    device = models.CharField(max_length=64, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True, blank=True)

    objects = TenantQuerySet["HandOver"].as_manager()

    def __str__(self) -> str:
        return f"hand-over to {self.hostname}"


class Transfer(models.Model):
    """Tokens sealed to a command-line client's public key, waiting to be fetched once."""

    public_key = models.CharField(primary_key=True, max_length=44, help_text="The client's X25519 key, base64url.")
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE)
    service_public_key = models.CharField(max_length=44)
    body = models.TextField()
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField()
    fetched_at = models.DateTimeField(null=True, blank=True)

    objects = TenantQuerySet["Transfer"].as_manager()

    def __str__(self) -> str:
        return f"transfer {self.public_key[:8]}…"
