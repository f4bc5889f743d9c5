"""Second factors of identities. Part of accounts.models, which imports this; names models there by their labels.

Not to be confused with allauth.mfa, which keeps those of dashboard users.
"""

from __future__ import annotations

import uuid

from django.db import models
from django.db.models import Q

from accounts.tenancy import TenantQuerySet


class IdentityAuthenticator(models.Model):
    """Something a person proved to have: an authenticator app (sealed secret) or a passkey (public key)."""

    class Kind(models.TextChoices):
        TOTP = "totp", "Authenticator app"
        BIOMETRICS = "biometrics", "Passkey of a device"
        SECURITY_KEY = "security_key", "Security key"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    organization = models.ForeignKey("accounts.Organization", on_delete=models.CASCADE)
    identity = models.ForeignKey("accounts.Identity", on_delete=models.CASCADE, related_name="authenticators")
    kind = models.CharField(max_length=16, choices=Kind.choices)
    name = models.CharField(max_length=100)
    # --- authenticator app
    secret_sealed = models.BinaryField(default=bytes, blank=True)
    # The time step of the last code taken: a code is good once, and none before it (RFC 6238 section 5.2).
    last_step = models.BigIntegerField(default=0)
    # --- passkey: base64url of the credential id (at most 1023 bytes), and WebAuthn's attested credential data
    credential_id = models.CharField(max_length=1400, null=True, unique=True)  # noqa: DJ001 - unique when there is one
    credential = models.BinaryField(default=bytes, blank=True)
    sign_count = models.PositiveBigIntegerField(default=0)
    is_synced = models.BooleanField(default=False, help_text="The key may be copied to the person's other devices.")
    created_at = models.DateTimeField(auto_now_add=True)
    last_used_at = models.DateTimeField(null=True, blank=True)

    objects = TenantQuerySet["IdentityAuthenticator"].as_manager()

    class Meta:
        ordering = ["created_at", "id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(kind="totp", credential_id=None) | (~Q(kind="totp") & Q(credential_id__isnull=False)),
                name="passkeys_have_a_credential",
            )
        ]

    def __str__(self) -> str:
        return self.name


class RecoveryCode(models.Model):
    """One of a person's printed codes; only its keyed hash is kept."""

    organization = models.ForeignKey("accounts.Organization", on_delete=models.CASCADE)
    identity = models.ForeignKey("accounts.Identity", on_delete=models.CASCADE, related_name="recovery_codes")
    code_hash = models.CharField(max_length=64)
    created_at = models.DateTimeField(auto_now_add=True)
    used_at = models.DateTimeField(null=True, blank=True)

    objects = TenantQuerySet["RecoveryCode"].as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["identity", "code_hash"], name="recovery_code_once")]

    def __str__(self) -> str:
        return f"recovery code of {self.identity_id}"


class FactorChallenge(models.Model):
    """What one session was asked to prove, once: a WebAuthn challenge, or the secret of an app being set up.

    Bound to the session and not to the person: another session of the same person never sees this secret.
    """

    class Purpose(models.TextChoices):
        CHECK = "check", "Prove an enrolled passkey"
        ENROLL_PASSKEY = "enroll_passkey", "Enroll a passkey"
        ENROLL_TOTP = "enroll_totp", "Set up an authenticator app"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    organization = models.ForeignKey("accounts.Organization", on_delete=models.CASCADE)
    session = models.ForeignKey("accounts.AccessSession", on_delete=models.CASCADE)
    purpose = models.CharField(max_length=16, choices=Purpose.choices)
    kind = models.CharField(max_length=16, blank=True)
    challenge = models.CharField(max_length=64, blank=True)
    secret_sealed = models.BinaryField(default=bytes, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True, blank=True)

    objects = TenantQuerySet["FactorChallenge"].as_manager()

    def __str__(self) -> str:
        return f"{self.purpose} {self.id}"
