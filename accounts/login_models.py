"""Logins under way, and an admin's trial logins. Part of accounts.models; names models there by their labels."""

from __future__ import annotations

import uuid

from django.db import models

from accounts.tenancy import TenantQuerySet


class LoginAttempt(models.Model):
    """A login under way at the team domain: what must come back unchanged, once, in the same browser.

    `state_sha256` is the key (the state itself is only in the browser and at the provider); `browser_sha256` is the
    hash of the pre-login cookie. PIN logins keep the PIN's hash here and count the tries.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    organization = models.ForeignKey("accounts.Organization", on_delete=models.CASCADE)
    provider = models.ForeignKey("accounts.IdentityProvider", on_delete=models.CASCADE)
    state_sha256 = models.CharField(max_length=64, unique=True)
    browser_sha256 = models.CharField(max_length=64)
    nonce = models.CharField(max_length=64, blank=True)
    code_verifier_sealed = models.BinaryField(default=bytes, blank=True)
    email = models.EmailField(blank=True)
    pin_hash = models.CharField(max_length=128, blank=True)
    tries = models.PositiveSmallIntegerField(default=0)
    # Where to go afterwards: application host and redirect path, or "" for the App Launcher.
    return_to = models.JSONField(default=dict)
    ip_address = models.GenericIPAddressField(null=True)
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True, blank=True)

    objects = TenantQuerySet["LoginAttempt"].as_manager()

    def __str__(self) -> str:
        return f"login attempt {self.id}"


class ProviderTest(models.Model):
    """An admin's trial login with a login method: what policies would see, and neither session nor identity.

    The ticket goes from the dashboard to the team domain once; from then on the test belongs to that browser.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    organization = models.ForeignKey("accounts.Organization", on_delete=models.CASCADE)
    provider = models.ForeignKey("accounts.IdentityProvider", on_delete=models.CASCADE)
    started_by = models.ForeignKey("accounts.User", on_delete=models.CASCADE)
    ticket_sha256 = models.CharField(max_length=64, unique=True)
    browser_sha256 = models.CharField(max_length=64, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True, blank=True)
    # The person as policies see them, or {"error": {"code", "message"}}.
    result = models.JSONField(default=dict, blank=True)

    objects = TenantQuerySet["ProviderTest"].as_manager()

    def __str__(self) -> str:
        return f"test of {self.provider}"
