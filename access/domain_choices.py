"""The domains an application's form offers. Zones live in `tunnels`, which installs its list here when it starts."""

from __future__ import annotations

from collections.abc import Callable

from accounts.models import Organization

DomainLister = Callable[[Organization], list[str]]
_lister: list[DomainLister] = []


def set_domain_lister(lister: DomainLister) -> None:
    """Install the function that names an organization's active zones."""
    _lister[:] = [lister]


def domains_of(organization: Organization) -> list[str]:
    return _lister[0](organization) if _lister else []
