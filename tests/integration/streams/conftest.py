"""One installation, with a connector and an sshd behind it, for every test of this folder."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from demo.person import Person
from demo.scim import ScimPush, enable_scim
from tests.databases import Template
from tests.integration.kit import Workshop, house, tutorial


@pytest.fixture(scope="package")
def workshop(tmp_path_factory: pytest.TempPathFactory, database_template: Template) -> Iterator[Workshop]:
    with house(tmp_path_factory.mktemp("streams"), database_template) as here, tutorial(here) as workshop:
        yield workshop


@pytest.fixture(scope="package", autouse=True)
def early(workshop: Workshop) -> Person:
    """Logged in before all others; her certificate runs out while the folder's tests are at work."""
    person = workshop.person("alice")
    done = person.ssh(workshop.remote, "echo in")
    assert done.stdout == "in\n", done
    return person


@pytest.fixture(scope="package")
def _enabled(workshop: Workshop) -> Iterator[ScimPush]:
    with contextlib.closing(enable_scim(workshop.here, workshop.application["allowed_idps"][0])) as push:
        yield push


@pytest.fixture
def push(workshop: Workshop, _enabled: ScimPush) -> Iterator[ScimPush]:
    """The identity provider's side of SCIM, on a connection of this test's own."""
    with contextlib.closing(_enabled.another(workshop.here)) as push:
        yield push
