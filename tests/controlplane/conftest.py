"""Two tenants with one of everything, for API tests."""

from __future__ import annotations

from typing import Any

import pytest

from tests.controlplane.api_kit import Tenant, make_tenant
from tests.factories import Cast


@pytest.fixture
def unproved_zones(settings: Any) -> None:
    """Names below .example need no DNS proof in these tests."""
    settings.UNVERIFIED_ZONE_SUFFIX = "example"


@pytest.fixture
def widgetcorp(cast: Cast, unproved_zones: None) -> Tenant:
    return make_tenant(cast.widgetcorp, "widgetcorp.example")


@pytest.fixture
def evilcorp(cast: Cast, unproved_zones: None) -> Tenant:
    return make_tenant(cast.evilcorp, "evilcorp.example")
