"""Ready-made RSA keys: making one takes a tenth of a second, and most tests need an organization's two."""

from __future__ import annotations

import functools
import itertools

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa


@functools.cache
def shared_key(number: int) -> rsa.RSAPrivateKey:
    """The same numbers give the same key for the whole run."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture(autouse=True)
def ready_made_token_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Real keys, each given out once per test, so that key ids stay unique."""
    numbers = itertools.count()
    monkeypatch.setattr("access.actions.token_keys._generate", lambda: shared_key(next(numbers)))
