"""One installation and one Chromium for every test of this folder."""

from __future__ import annotations

import base64
import hashlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from playwright.sync_api import Browser, sync_playwright

from demo.installation import Installation
from tests.databases import Template
from tests.integration.kit import house
from tools.chromium import launch


@pytest.fixture(scope="package")
def kept_port() -> Iterator[socket.socket]:
    """The installation has to know where a provider of test_login_journeys.py will be, long before that starts."""
    with socket.socket() as kept:
        kept.bind(("127.0.0.1", 0))
        yield kept


@pytest.fixture(scope="package")
def here(
    tmp_path_factory: pytest.TempPathFactory, database_template: Template, kept_port: socket.socket
) -> Iterator[Installation]:
    somebody_elses = f"localhost:{kept_port.getsockname()[1]}"
    with house(tmp_path_factory.mktemp("people"), database_template, somebody_elses) as running:
        yield running


@pytest.fixture(scope="package")
def chromium(here: Installation) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = launch(playwright, trusting=_edge_key_hash(here))
        yield browser
        browser.close()


def _edge_key_hash(here: Installation) -> str:
    """Passkeys want a certificate without errors: the edge's own authority, named to the browser by its key."""
    certificate = x509.load_pem_x509_certificate(Path(here.facts["edge_ca"]).read_bytes())
    spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(spki).digest()).decode()
