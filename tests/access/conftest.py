from __future__ import annotations

import pytest

from accounts import totp


@pytest.fixture(autouse=True)
def _long_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Codes of authenticator apps change every eleven days instead of every half minute: none between being made and
    being checked, however busy the machine."""
    monkeypatch.setattr(totp, "STEP_SECONDS", 1_000_000)
