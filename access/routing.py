"""Which application a hostname and path belong to."""

from __future__ import annotations

from collections.abc import Iterable

from access.models import Application


def find_application(hostname: str, path: str, aud: str | None = None) -> Application | None:
    """The application served at `hostname` (lower case, no port) and `path`.

    The most specific hostname wins (exact before wildcard), then the longest path prefix. `aud` narrows the choice for
    requests below /cdn-cgi/access/, which serve every application of a host. Applications left by an organization
    that lost the name are not looked at: they would answer for the host of its present owner.
    """
    if "\0" in hostname:
        return None
    candidates = list(
        Application.objects.all_organizations(reason="hostnames are unique across tenants")
        .select_related("organization")
        .filter(hostname__in=names_serving(hostname), is_served=True)
    )
    if aud and any(application.aud == aud for application in candidates):
        return next(application for application in candidates if application.aud == aud)
    return most_specific(candidates, hostname, path)


def names_serving(hostname: str) -> list[str]:
    """The hostnames under which an application for this name may be registered."""
    _, _, parent = hostname.partition(".")
    return [hostname, f"*.{parent}"]


def most_specific(candidates: Iterable[Application], hostname: str, path: str) -> Application | None:
    """Of applications registered under one of names_serving(hostname)."""
    below_access = path.startswith("/cdn-cgi/access/")
    matching = [a for a in candidates if below_access or covers(a.path, path)]
    return max(
        matching, key=lambda a: (a.hostname == hostname, -len(a.path) if below_access else len(a.path)), default=None
    )


def covers(prefix: str, path: str) -> bool:
    """Whether an application's path covers a request path: whole segments only ("/a" covers "/a" and "/a/b")."""
    clean = prefix.rstrip("/")
    return not clean or path == clean or path.startswith(f"{clean}/")
