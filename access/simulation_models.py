"""What is tried before it is saved: simulations with their results, and saved tests. Part of access.models."""

from __future__ import annotations

import uuid

from django.db import models
from django.utils import timezone

from accounts.models import Identity, Organization
from accounts.tenancy import TenantQuerySet


class Simulation(models.Model):
    """Proposed policies tried on all known identities, or on the decisions of the last days. A job with progress.

    `rules` holds both sets of rules as they were when it started (access/simulation.py), so that no change meanwhile
    mixes old and new; `cursor` is the place after which the next part goes on.
    """

    class Kind(models.TextChoices):
        IDENTITIES = "identities", "All known identities"
        REPLAY = "replay", "Recorded decisions"

    class Status(models.TextChoices):
        PROCESSING = "processing", "Under way"
        COMPLETE = "complete", "Complete"
        EXCEEDED_TIME = "exceeded time", "Stopped: it took too long"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="simulations")
    kind = models.CharField(max_length=16, choices=Kind.choices)
    title = models.CharField(max_length=400)
    rules = models.JSONField()
    # What the form held, to go on editing where it was left; empty for simulations of the API.
    draft = models.JSONField(default=dict, blank=True)
    since = models.DateTimeField(null=True, blank=True)
    status = models.CharField(max_length=16, choices=Status.choices, default=Status.PROCESSING)
    cursor = models.CharField(max_length=80, blank=True)
    total = models.PositiveIntegerField(default=0)
    processed = models.PositiveIntegerField(default=0)
    approved = models.PositiveIntegerField(default=0)
    blocked = models.PositiveIntegerField(default=0)
    errored = models.PositiveIntegerField(default=0)
    gained = models.PositiveIntegerField(default=0)
    lost = models.PositiveIntegerField(default=0)
    started_by = models.CharField(max_length=300)
    created_at = models.DateTimeField(default=timezone.now)
    updated_at = models.DateTimeField(auto_now=True)

    objects = TenantQuerySet["Simulation"].as_manager()

    class Meta:
        indexes = [models.Index(fields=["status", "updated_at"]), models.Index(fields=["organization", "-created_at"])]

    def __str__(self) -> str:
        return self.title


class SimulationResult(models.Model):
    """One identity at one application, or one recorded decision, under the proposed rules."""

    class Status(models.TextChoices):
        APPROVED = "approved", "Reaches it"
        BLOCKED = "blocked", "Refused"
        ERROR = "error", "Cannot be decided"

    class Change(models.TextChoices):
        GAINED = "gained", "Gains access"
        LOST = "lost", "Loses access"
        SAME = "same", "As before"

    simulation = models.ForeignKey(Simulation, on_delete=models.CASCADE, related_name="results")
    identity = models.ForeignKey(Identity, null=True, on_delete=models.SET_NULL)
    request = models.ForeignKey("access.AccessRequest", null=True, on_delete=models.SET_NULL)
    who = models.CharField(max_length=350)
    application_label = models.CharField(max_length=350, blank=True)
    before = models.CharField(max_length=16, blank=True)
    status = models.CharField(max_length=16, choices=Status.choices)
    change = models.CharField(max_length=16, choices=Change.choices)
    reason = models.CharField(max_length=60)
    policy_name = models.CharField(max_length=350, blank=True)
    happened_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [models.Index(fields=["simulation", "change", "id"]), models.Index(fields=["simulation", "status"])]

    def __str__(self) -> str:
        return f"{self.who}: {self.status}"


class SavedTest(models.Model):
    """Such as "alice from PT must reach it; contractors must not": asked at every change of rules that matter to it."""

    class Expected(models.TextChoices):
        ALLOW = "allow", "Must reach it"
        DENY = "deny", "Must not reach it"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="saved_tests")
    application = models.ForeignKey("access.Application", on_delete=models.CASCADE, related_name="saved_tests")
    name = models.CharField(max_length=350)
    question = models.JSONField(help_text="Who asks, from where: see access/questions.py.")
    expected = models.CharField(max_length=8, choices=Expected.choices)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    objects = TenantQuerySet["SavedTest"].as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["application", "name"], name="test_name_per_application")]
        ordering = ["name", "id"]

    def __str__(self) -> str:
        return self.name
