"""Who may be whom over SSH: authorities, account names and certificates.

A module of its own, imported by access.models; it names models of that module by their labels.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from django.db import models
from django.db.models import Q

from accounts.models import AccessSession, Identity, Organization
from accounts.tenancy import TenantQuerySet

if TYPE_CHECKING:
    from access.models import Application


def host_files_url(organization: Organization, application: Application) -> str:
    """Where hosts fetch what they need: ca.pub, revoked.krl, host-setup.sh (access/views/host_files.py)."""
    return f"{organization.team_url}/cdn-cgi/access/ssh/{application.aud}"


class SshAuthority(models.Model):
    """A generation of an application's SSH certificate authority. The private key is sealed for workers only."""

    class State(models.TextChoices):
        PENDING = "pending", "Being generated"
        NEXT = "next", "Next"
        ACTIVE = "active", "Active"
        RETIRING = "retiring", "Retiring"
        RETIRED = "retired", "Retired"

    class Algorithm(models.TextChoices):
        ED25519 = "ed25519", "Ed25519"
        ECDSA_P256 = "ecdsa-p256", "ECDSA P-256"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="ssh_authorities")
    application = models.ForeignKey("access.Application", on_delete=models.CASCADE, related_name="ssh_authorities")
    algorithm = models.CharField(max_length=16, choices=Algorithm.choices, default=Algorithm.ED25519)
    state = models.CharField(max_length=16, choices=State.choices, default=State.PENDING)
    public_key = models.TextField(blank=True, help_text="One authorized_keys line with a comment.")
    fingerprint = models.CharField(max_length=64, blank=True, help_text="SHA256:… as ssh-keygen prints it.")
    private_sealed = models.BinaryField(default=bytes, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    activated_at = models.DateTimeField(null=True, blank=True)
    retired_at = models.DateTimeField(null=True, blank=True)

    objects = TenantQuerySet["SshAuthority"].as_manager()

    class Meta:
        verbose_name = "SSH authority"
        verbose_name_plural = "SSH authorities"
        constraints = [
            models.UniqueConstraint(
                fields=["application"], condition=Q(state__in=["pending", "active"]), name="one_active_ssh_authority"
            ),
            models.UniqueConstraint(fields=["application"], condition=Q(state="next"), name="one_next_ssh_authority"),
        ]

    def __str__(self) -> str:
        return f"SSH authority of {self.application} ({self.state})"


class PrincipalClaim(models.Model):
    """Who holds a principal in an application: the first to be issued it, until an admin releases it.

    Without an identity it belongs to service tokens: policies name it for them, and no person can get it.
    `shared`: an account that an Allow policy names, which many identities hold side by side.
    """

    organization = models.ForeignKey(Organization, on_delete=models.CASCADE)
    application = models.ForeignKey("access.Application", on_delete=models.CASCADE, related_name="principal_claims")
    principal = models.CharField(max_length=32)
    identity = models.ForeignKey(Identity, null=True, on_delete=models.CASCADE, related_name="principal_claims")
    # The address the name was taken from: when the provider reports another one later, the name stays (AC-10).
    email = models.CharField(max_length=254, blank=True)
    # Stable per identity and application, so that one KRL entry covers all its certificates.
    key_id = models.CharField(max_length=200)
    shared = models.BooleanField(default=False)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = TenantQuerySet["PrincipalClaim"].as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["application", "principal"], condition=Q(shared=False), name="principal_held_once"
            ),
            models.UniqueConstraint(
                fields=["application", "principal", "identity"],
                condition=Q(shared=True),
                name="shared_principal_once_per_identity",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.principal} -> {self.identity or 'service tokens'}"


class Certificate(models.Model):
    """An intent to sign, then its outcome. The row and its audit event exist before anything is signed."""

    class Status(models.TextChoices):
        APPROVED = "approved", "Approved"
        SIGNING = "signing", "Signing"
        ISSUED = "issued", "Issued"
        FAILED = "failed", "Failed"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="certificates")
    application = models.ForeignKey("access.Application", on_delete=models.CASCADE, related_name="certificates")
    # Restrict: an authority with certificates is only retired; both may go together with their application.
    authority = models.ForeignKey(SshAuthority, on_delete=models.RESTRICT, related_name="certificates")
    # Exactly one of the two: a person, or a machine.
    identity = models.ForeignKey(Identity, null=True, on_delete=models.CASCADE, related_name="certificates")
    service_token = models.ForeignKey(
        "access.ServiceToken", null=True, on_delete=models.CASCADE, related_name="certificates"
    )
    session = models.ForeignKey(AccessSession, null=True, on_delete=models.SET_NULL, related_name="certificates")
    # 63 random bits as decimal text: unsigned 64-bit on the wire, and no database disagrees about the sign.
    serial = models.CharField(max_length=20, unique=True)
    key_id = models.CharField(max_length=200)
    principals = models.JSONField()
    extensions = models.JSONField()
    public_key = models.TextField()
    public_key_fingerprint = models.CharField(max_length=64)
    request_sha256 = models.CharField(max_length=64)
    valid_after = models.DateTimeField()
    valid_before = models.DateTimeField()
    status = models.CharField(max_length=16, choices=Status.choices, default=Status.APPROVED)
    failure = models.CharField(max_length=300, blank=True)
    certificate = models.TextField(blank=True)
    ip_address = models.GenericIPAddressField(null=True)
    created_at = models.DateTimeField(auto_now_add=True)
    issued_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    objects = TenantQuerySet["Certificate"].as_manager()

    class Meta:
        indexes = [
            models.Index(fields=["organization", "-created_at", "-id"], name="certificates_by_time"),
            models.Index(fields=["identity", "-created_at", "-id"], name="certificates_of_person"),
            models.Index(fields=["application", "-created_at"]),
            models.Index(fields=["public_key_fingerprint", "identity"], name="certificates_of_key"),
            models.Index(
                fields=["created_at"], condition=Q(status__in=["approved", "signing"]), name="certificates_under_way"
            ),
        ]
        constraints = [
            models.CheckConstraint(
                condition=Q(identity__isnull=False, service_token=None)
                | Q(identity=None, session=None, service_token__isnull=False),
                name="certificate_of_person_or_machine",
            )
        ]

    def __str__(self) -> str:
        return f"certificate {self.serial}"


class HostFetch(models.Model):
    """A host that fetched an application's CA file or revocation list, as it says who it is: anybody may ask for
    these files, so names are for people to compare with the hosts they know."""

    organization = models.ForeignKey(Organization, on_delete=models.CASCADE)
    application = models.ForeignKey("access.Application", on_delete=models.CASCADE, related_name="host_fetches")
    host = models.CharField(max_length=64, blank=True, help_text="The name the host gave.")
    ip_address = models.GenericIPAddressField()
    ca_fetched_at = models.DateTimeField(null=True)
    ca_sha256 = models.CharField(max_length=64, blank=True, help_text="Of the CA file it got: is it the newest?")
    krl_fetched_at = models.DateTimeField(null=True)
    # What the host's own sshd says of its configuration (access/host_setup.py): does it read that CA file?
    sshd = models.CharField(max_length=8, blank=True, choices=[("trusts", "trusts"), ("ignores", "ignores")])
    last_seen_at = models.DateTimeField()

    objects = TenantQuerySet["HostFetch"].as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["application", "ip_address", "host"], name="host_fetch_once")]

    def __str__(self) -> str:
        return self.host or self.ip_address
