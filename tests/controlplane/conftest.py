"""Two tenants with one of everything, for API tests."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import override_settings

from tests.controlplane.api_kit import Tenant, make_tenant
from tests.factories import Cast, make_cast


@pytest.fixture
def unproved_zones(settings: Any) -> None:
    """Names below .example need no DNS proof in these tests."""
    settings.UNVERIFIED_ZONE_SUFFIX = "example"


@pytest.fixture(scope="module")
def _tenants(request: pytest.FixtureRequest) -> Iterator[tuple[Cast, Tenant, Tenant] | None]:
    """Made once in modules that say SHARED_TENANTS = True: some thirty requests. None elsewhere, as where a server
    has to see the rows."""
    if not getattr(request.module, "SHARED_TENANTS", False):
        yield None
        return
    request.getfixturevalue("module_transaction")
    with override_settings(UNVERIFIED_ZONE_SUFFIX="example"):
        cast = make_cast()
        mine = make_tenant(cast.widgetcorp, "widgetcorp.example")
        made = cast, mine, make_tenant(cast.evilcorp, "evilcorp.example")
    yield made


@pytest.fixture
def db(request: pytest.FixtureRequest, _tenants: tuple[Cast, Tenant, Tenant] | None) -> None:
    request.getfixturevalue("_django_db_helper" if _tenants is None else "own_savepoint")


@pytest.fixture
def cast(db: None, _tenants: tuple[Cast, Tenant, Tenant] | None) -> Cast:
    return make_cast() if _tenants is None else copy.deepcopy(_tenants[0])


@pytest.fixture
def widgetcorp(cast: Cast, unproved_zones: None, _tenants: tuple[Cast, Tenant, Tenant] | None) -> Tenant:
    return make_tenant(cast.widgetcorp, "widgetcorp.example") if _tenants is None else copy.deepcopy(_tenants[1])


@pytest.fixture
def evilcorp(cast: Cast, unproved_zones: None, _tenants: tuple[Cast, Tenant, Tenant] | None) -> Tenant:
    return make_tenant(cast.evilcorp, "evilcorp.example") if _tenants is None else copy.deepcopy(_tenants[2])
