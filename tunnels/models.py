"""How to reach it: zones, DNS records, tunnels, configurations, edges, connectors and their connections."""

from __future__ import annotations

import uuid

from django.conf import settings
from django.db import models
from django.db.models import Q

from accounts.models import Organization, new_hex_id
from accounts.tenancy import TenantQuerySet


class Zone(models.Model):
    """A domain an organization proved it owns (or is still proving)."""

    class Status(models.TextChoices):
        PENDING = "pending", "Pending"
        ACTIVE = "active", "Active"
        MOVED = "moved", "No longer proved"

    id = models.CharField(primary_key=True, max_length=32, default=new_hex_id, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="zones")
    name = models.CharField(max_length=253, help_text="Lower case A-label form, no trailing dot.")
    status = models.CharField(max_length=16, choices=Status.choices, default=Status.PENDING)
    # The TXT value that proves ownership is derived from this and the organization id.
    verification_token = models.CharField(max_length=64)
    # The name as a hurried reader sees it (look-alike letters folded to ASCII): names of two tenants differ in it.
    skeleton = models.CharField(max_length=253, db_index=True, editable=False)
    verified_at = models.DateTimeField(null=True, blank=True)
    last_checked_at = models.DateTimeField(null=True, blank=True)
    last_answer = models.TextField(blank=True)
    resolver = models.CharField(max_length=100, blank=True, help_text="Which resolver answered last.")
    # Since when the proof is missing; after the grace period the zone stops being served.
    proof_lost_at = models.DateTimeField(null=True, blank=True)
    failed_checks = models.PositiveSmallIntegerField(default=0)
    # Null: no proof is needed, nothing to check.
    next_check_at = models.DateTimeField(null=True, blank=True, db_index=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    objects = TenantQuerySet["Zone"].as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["organization", "name"], name="zone_once_per_organization"),
            models.UniqueConstraint(fields=["name"], condition=Q(status="active"), name="zone_active_once"),
        ]
        ordering = ["name", "id"]

    def __str__(self) -> str:
        return self.name


class DnsRecord(models.Model):
    class Type(models.TextChoices):
        CNAME = "CNAME", "CNAME"
        A = "A", "A"
        AAAA = "AAAA", "AAAA"
        TXT = "TXT", "TXT"

    class Verification(models.TextChoices):
        PENDING = "pending", "Not checked yet"
        OK = "ok", "Resolves as stored"
        MISMATCH = "mismatch", "Resolves differently"
        ERROR = "error", "Could not be checked"

    id = models.CharField(primary_key=True, max_length=32, default=new_hex_id, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="dns_records")
    zone = models.ForeignKey(Zone, on_delete=models.CASCADE, related_name="records")
    type = models.CharField(max_length=8, choices=Type.choices)
    name = models.CharField(max_length=253, help_text="Fully qualified, lower case, no trailing dot.")
    content = models.TextField()
    ttl = models.PositiveIntegerField(default=1, help_text="Seconds; 1 means automatic.")
    proxied = models.BooleanField(default=False)
    comment = models.CharField(max_length=100, blank=True)
    verification = models.CharField(max_length=16, choices=Verification.choices, default=Verification.PENDING)
    verified_at = models.DateTimeField(null=True, blank=True)
    last_answer = models.TextField(blank=True, help_text="What the resolver said, for people.")
    resolver = models.CharField(max_length=100, blank=True, help_text="Which resolver answered last.")
    last_checked_at = models.DateTimeField(null=True, blank=True)
    failed_checks = models.PositiveSmallIntegerField(default=0)
    next_check_at = models.DateTimeField(null=True, blank=True, db_index=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    objects = TenantQuerySet["DnsRecord"].as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["zone", "name"], condition=Q(type="CNAME"), name="one_cname_per_name"),
            models.UniqueConstraint(fields=["zone", "name", "type", "content"], name="record_once"),
        ]
        ordering = ["name", "type", "id"]

    def __str__(self) -> str:
        return f"{self.name} {self.type}"


class Tunnel(models.Model):
    """UUID and secrets. Two secrets are accepted: the one the client made at creation (its hash is stored) and the one
    derived from the installation's key for tokens shown in the dashboard (never stored; see tunnels.secrets)."""

    class ConfigSource(models.TextChoices):
        LOCAL = "local", "Local file"
        REMOTE = "cloudflare", "Dashboard"  # the public API's literal for remote management

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="tunnels")
    name = models.CharField(max_length=100)
    secret_sha256 = models.CharField(max_length=64, blank=True)
    token_generation = models.PositiveIntegerField(default=1)
    config_source = models.CharField(max_length=16, choices=ConfigSource.choices, default=ConfigSource.LOCAL)
    # Connections opened before it still live by the old token, until they reconnect.
    token_rotated_at = models.DateTimeField(null=True, blank=True)
    # Connections registered before this instant are closed (rotation, clean-up).
    reconnect_after = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    deleted_at = models.DateTimeField(null=True, blank=True)

    objects = TenantQuerySet["Tunnel"].as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "name"], condition=Q(deleted_at=None), name="live_tunnel_name"
            )
        ]
        ordering = ["name", "id"]

    def __str__(self) -> str:
        return self.name

    @property
    def target(self) -> str:
        """What a CNAME record points at."""
        return f"{self.id}.{settings.TUNNEL_DOMAIN}"


class TunnelConfiguration(models.Model):
    """A version of a tunnel's configuration; the highest is the current one. Rows are never changed."""

    organization = models.ForeignKey(Organization, on_delete=models.CASCADE)
    tunnel = models.ForeignKey(Tunnel, on_delete=models.CASCADE, related_name="configurations")
    version = models.PositiveIntegerField()
    config = models.JSONField()
    source = models.CharField(max_length=16, choices=Tunnel.ConfigSource.choices)
    created_by = models.CharField(max_length=300)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = TenantQuerySet["TunnelConfiguration"].as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["tunnel", "version"], name="configuration_version")]
        ordering = ["-version"]

    def __str__(self) -> str:
        return f"version {self.version}"


class Edge(models.Model):
    """An edge process that reports to us. Belongs to the installation, not to a tenant."""

    id = models.CharField(primary_key=True, max_length=64)
    name = models.CharField(max_length=100)
    location = models.CharField(max_length=50)
    version = models.CharField(max_length=50, blank=True)
    control_url = models.CharField(max_length=200, blank=True)
    snapshot_version = models.PositiveBigIntegerField(default=0)
    streams = models.PositiveIntegerField(default=0)
    first_seen_at = models.DateTimeField(auto_now_add=True)
    last_seen_at = models.DateTimeField()

    def __str__(self) -> str:
        return self.name


class Connector(models.Model):
    """A running connector process (a replica), known by the client id it chose at its start."""

    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="connectors")
    tunnel = models.ForeignKey(Tunnel, on_delete=models.CASCADE, related_name="connectors")
    client_id = models.UUIDField()
    version = models.CharField(max_length=50, blank=True)
    arch = models.CharField(max_length=50, blank=True)
    features = models.JSONField(default=list)
    origin_ip = models.GenericIPAddressField(null=True)
    local_config = models.JSONField(null=True)
    reconnect_after = models.DateTimeField(null=True, blank=True)
    first_seen_at = models.DateTimeField(auto_now_add=True)
    last_seen_at = models.DateTimeField()

    objects = TenantQuerySet["Connector"].as_manager()

    class Meta:
        # client_id first: reports are matched by it. The tunnel has an index of its own.
        constraints = [models.UniqueConstraint(fields=["client_id", "tunnel"], name="connector_once")]

    def __str__(self) -> str:
        return str(self.client_id)


class Connection(models.Model):
    """One of a connector's connections to an edge, as the edge reports it. Closed ones are kept for a while."""

    id = models.UUIDField(primary_key=True, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="connections")
    connector = models.ForeignKey(Connector, on_delete=models.CASCADE, related_name="connections")
    edge = models.ForeignKey(Edge, on_delete=models.CASCADE, related_name="connections")
    index = models.PositiveSmallIntegerField()
    origin_ip = models.GenericIPAddressField(null=True)
    opened_at = models.DateTimeField()
    last_seen_at = models.DateTimeField()
    closed_at = models.DateTimeField(null=True, blank=True)
    applied_version = models.IntegerField(null=True)
    config_error = models.TextField(blank=True)
    # Round trip between edge and connector, of the newest answered PING.
    rtt_ms = models.FloatField(null=True)

    objects = TenantQuerySet["Connection"].as_manager()

    class Meta:
        indexes = [models.Index(fields=["connector", "closed_at"])]

    def __str__(self) -> str:
        return str(self.id)


class HourOfActivity(models.Model):
    """What one organization's charts show of one hour (UTC). Filled by tunnels.actions.activity.

    Counts of the logs are written once, after the hour (`counted_at`); counting again gives the same. The others are
    samples taken during the hour, at most one per slot (`sampled_at`)."""

    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="+")
    hour = models.DateTimeField()
    logins_allowed = models.PositiveIntegerField(default=0)
    logins_denied = models.PositiveIntegerField(default=0)
    certificates = models.PositiveIntegerField(default=0)
    counted_at = models.DateTimeField(null=True)
    samples = models.PositiveIntegerField(default=0)
    tunnels_seen = models.PositiveIntegerField(default=0)
    tunnels_up = models.PositiveIntegerField(default=0)
    sessions_peak = models.PositiveIntegerField(default=0)
    sampled_at = models.DateTimeField(null=True)

    objects = TenantQuerySet["HourOfActivity"].as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["organization", "hour"], name="activity_once_per_hour")]
        ordering = ["hour"]

    def __str__(self) -> str:
        return f"{self.hour:%Y-%m-%d %H}:00"


class EdgeUse(models.Model):
    """One application's streams over one edge, as the edge reports them, and how far away their people are."""

    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="+")
    application = models.ForeignKey("access.Application", on_delete=models.CASCADE, related_name="+")
    edge = models.ForeignKey(Edge, on_delete=models.CASCADE, related_name="uses")
    streams = models.PositiveIntegerField(default=0)
    # Median round trip of the live streams, or of the last that were.
    rtt_ms = models.FloatField(null=True)
    measured_at = models.DateTimeField(null=True)

    objects = TenantQuerySet["EdgeUse"].as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["application", "edge"], name="edge_use_once")]

    def __str__(self) -> str:
        return f"{self.application} over {self.edge}"


class Dial(models.Model):
    """How the last request for a hostname went between the edge and its host, measured by the edge that carried it."""

    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="dials")
    tunnel = models.ForeignKey(Tunnel, on_delete=models.CASCADE, related_name="dials")
    hostname = models.CharField(max_length=253)
    edge = models.ForeignKey(Edge, null=True, on_delete=models.SET_NULL)
    connection_id = models.UUIDField(null=True)
    destination = models.CharField(max_length=300, blank=True, help_text="Where a bastion went.")
    # Empty when the host was reached; otherwise the reason code the client was told.
    reason = models.CharField(max_length=60, blank=True)
    message = models.TextField(blank=True)
    latency_ms = models.FloatField()
    at = models.DateTimeField()

    objects = TenantQuerySet["Dial"].as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["tunnel", "hostname"], name="dial_once_per_hostname")]

    def __str__(self) -> str:
        return f"{self.hostname}: {self.reason or 'reached'}"
