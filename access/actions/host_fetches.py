"""Which hosts fetched an application's CA file and revocation list: a host that misses a rotation is seen (F-16).

Anybody can ask for these files, so rows are bounded and written rarely; no audit event, since nobody decided anything.
"""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta

from django.db import IntegrityError, transaction

from access.actions.authorities import ca_file
from access.models import Application, HostFetch

MAX_HOSTS = 500
MAX_NAME_CHARACTERS = 64
# Hosts ask every minute; a row is good enough when it is this young.
WRITTEN_EVERY = timedelta(seconds=45)
KEPT = timedelta(days=30)
_NAME_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")


def record_ca_fetch(
    application: Application, *, host: str, ip_address: str, content: str, now: datetime, sshd: str = ""
) -> None:
    """`sshd`: whether the host's sshd reads the file, in the host's own word ("trusts", "ignores"; else not known)."""
    says = sshd if sshd in {"trusts", "ignores"} else ""
    _record(application, host, ip_address, now, "ca_fetched_at", {"ca_sha256": content_digest(content), "sshd": says})


def record_krl_fetch(application: Application, *, host: str, ip_address: str, now: datetime) -> None:
    _record(application, host, ip_address, now, "krl_fetched_at", {})


def content_digest(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()


def current_ca_digest(application: Application) -> str:
    return content_digest(ca_file(application))


def forget_old_fetches(*, now: datetime) -> int:
    rows = HostFetch.objects.all_organizations(reason="a sweep over every tenant").filter(last_seen_at__lt=now - KEPT)
    deleted, _ = rows.delete()
    return deleted


def _record(
    application: Application, host: str, ip_address: str, now: datetime, kind: str, values: dict[str, str]
) -> None:
    name = clean_name(host)
    rows = HostFetch.objects.for_organization(application.organization).filter(application=application)
    same = rows.filter(ip_address=ip_address, host=name)
    known = same.first()
    if known is not None:
        written = getattr(known, kind)
        is_same = all(getattr(known, key) == value for key, value in values.items())
        if written is None or not is_same or now - written >= WRITTEN_EVERY:
            same.update(**{kind: now, "last_seen_at": now}, **values)
        return
    if rows.count() >= MAX_HOSTS:
        return
    try:
        with transaction.atomic():
            HostFetch.objects.create(
                organization=application.organization,
                application=application,
                host=name,
                ip_address=ip_address,
                last_seen_at=now,
                **{kind: now},
                **values,
            )
    except IntegrityError:  # the same host asked twice at once
        same.update(**{kind: now, "last_seen_at": now}, **values)


def clean_name(text: str) -> str:
    """A host's own word: shown to people, so bounded and without surprises."""
    return "".join(letter for letter in text[:MAX_NAME_CHARACTERS] if letter in _NAME_LETTERS)
