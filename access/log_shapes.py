"""What the access log and the list of certificates can be asked, and what their files hold."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import Q

from access.country_names import country_code
from access.models import AccessRequest, Application, Certificate
from access.reason_words import ACTIONS, REFUSALS
from accounts.log_pages import LogBook
from accounts.logbook import Condition, LogFilter, LogShape, nothing
from accounts.models import Identity, Organization, SavedLogView
from accounts.text import ascii_lower

_MAX_MATCHES = 200


def _person(text: str) -> Condition:
    """A whole address is found by its index; a part of one is looked for."""
    if "@" in text.strip("@"):
        return Condition(Q(email=ascii_lower(text)), indexed=True)
    return Condition(Q(email__icontains=text))


def _country(text: str) -> Condition:
    code = country_code(text)
    return Condition(Q(country=code)) if code else nothing()


_ACCESS_FILTERS = (
    LogFilter(
        "decision",
        "Decision",
        lambda value: Condition(Q(allowed=value == "allowed")),
        [("allowed", "Allowed"), ("denied", "Denied")],
    ),
    LogFilter(
        "action",
        "Action",
        lambda value: Condition(Q(action=value)),
        list(ACTIONS.items()),
    ),
    LogFilter("reason", "Reason", lambda code: Condition(Q(reason=code)), REFUSALS),
    LogFilter("application", "Application", lambda text: Condition(Q(application_label__icontains=text))),
    LogFilter("person", "Person", _person),
    LogFilter("country", "Country", _country),
    LogFilter("policy", "Policy", lambda text: Condition(Q(policy_label__icontains=text))),
)
_ACCESS_SHAPE: LogShape[AccessRequest] = LogShape(
    _ACCESS_FILTERS,
    search=("email", "application_label", "policy_label", "reason", "ip_address", "ray_id"),
    exact=("ray_id",),
)


def _access_cells(row: AccessRequest) -> Sequence[Any]:
    decision = "allowed" if row.allowed else "denied"
    who = (row.email, row.connection, row.ip_address, row.country)
    return (row.created_at, decision, row.action, row.reason, row.application_label, row.policy_label, *who, row.ray_id)


ACCESS_BOOK: LogBook[AccessRequest] = LogBook(
    SavedLogView.Log.ACCESS,
    "Access log",
    "access/access_log.html",
    "decisions",
    _ACCESS_SHAPE,
    ("time", "decision", "action", "reason", "application", "policy", "person", "login_method", "address", "country",
     "reference"),
    _access_cells,
)  # fmt: skip


def _one_of(column: str, ids: list[UUID]) -> Condition:
    """A single one is found in order by its index."""
    return Condition(Q(**{f"{column}__in": ids}), indexed=len(ids) < 2)


def certificate_book(organization: Organization, now: datetime) -> LogBook[Certificate]:
    """Names of people and applications are looked up first: by their ids certificates have an index."""

    def person(text: str) -> Condition:
        by = {"email": ascii_lower(text)} if "@" in text.strip("@") else {"email__icontains": text}
        found = Identity.objects.for_organization(organization).filter(**by).values_list("pk", flat=True)
        return _one_of("identity", list(found[:_MAX_MATCHES]))

    def application(text: str) -> Condition:
        found = Application.objects.for_organization(organization).filter(name__icontains=text)
        return _one_of("application", list(found.values_list("pk", flat=True)[:_MAX_MATCHES]))

    states = {
        "valid": Q(status=Certificate.Status.ISSUED, revoked_at=None, valid_before__gt=now),
        "expired": Q(status=Certificate.Status.ISSUED, revoked_at=None, valid_before__lte=now),
        "revoked": Q(revoked_at__isnull=False),
        "failed": Q(status=Certificate.Status.FAILED),
    }
    filters = (
        LogFilter(
            "state", "State", lambda value: Condition(states[value]), [(name, name.capitalize()) for name in states]
        ),
        LogFilter("application", "Application", application),
        LogFilter("person", "Person", person),
    )
    search = ("serial", "key_id", "principals", "public_key_fingerprint", "ip_address")
    shape: LogShape[Certificate] = LogShape(filters, search, exact=("serial", "public_key_fingerprint"))
    columns = ("time", "serial", "holder", "accounts", "application", "state", "valid_after", "valid_before", "key_id",
               "key_fingerprint", "address", "revoked")  # fmt: skip

    def cells(row: Certificate) -> Sequence[Any]:
        holder = row.identity or row.service_token
        validity = (row.status, row.valid_after, row.valid_before)
        names = (row.key_id, row.public_key_fingerprint, row.ip_address)
        accounts = ", ".join(row.principals)
        return (row.created_at, row.serial, str(holder), accounts, row.application.name, *validity, *names,
                row.revoked_at)  # fmt: skip

    log = SavedLogView.Log.CERTIFICATES
    return LogBook(log, "Certificates", "access/certificates.html", "certificates", shape, columns, cells)
