from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.test import Client

pytestmark = pytest.mark.django_db


def test_health_waits_for_all_that_make_run_starts(tmp_path: Path, settings: Any) -> None:
    """A script that waits for /healthz finds quickstart.json and the edge."""
    starting = tmp_path / "starting"
    starting.touch()
    settings.STARTING_FILE = str(starting)
    client = Client(headers={"host": "testserver"})
    answer = client.get("/healthz")
    assert (answer.status_code, answer.json()) == (503, {"status": "starting"})
    starting.unlink()
    answer = client.get("/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
