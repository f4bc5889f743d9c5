"""A lab edge, a fresh HOME, and the real command run as a process from a directory full of traps."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.dataplane.client.lab_edge import LabEdge, LabKeys

REPOSITORY = Path(__file__).resolve().parents[3]
Run = Callable[..., subprocess.CompletedProcess[bytes]]


@pytest.fixture(scope="session")
def lab_keys() -> LabKeys:
    return LabKeys()


@pytest.fixture
def edge(lab_keys: LabKeys, tmp_path: Path) -> Iterator[LabEdge]:
    directory = tmp_path / "edge"
    directory.mkdir()
    lab = LabEdge(lab_keys, directory)
    yield lab
    lab.stop()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    directory = tmp_path / "home"
    directory.mkdir()
    return directory


@pytest.fixture
def environment(edge: LabEdge, home: Path) -> dict[str, str]:
    return {
        "HOME": str(home),
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(REPOSITORY),
        "SALLYPORT_NO_BROWSER": "1",
        "SALLYPORT_CACERT": str(edge.ca_path),
        "PYTHONDONTWRITEBYTECODE": "1",
    }


@pytest.fixture
def run(environment: dict[str, str], tmp_path: Path) -> Run:
    """run("access", "token", host, stdin=b"", env={...}) -> completed process."""
    trap = tmp_path / "cwd"
    trap.mkdir()

    def start(*words: str, stdin: bytes = b"", env: dict[str, str] | None = None) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [sys.executable, "-P", "-m", "dataplane.cli", *words],
            input=stdin,
            capture_output=True,
            timeout=40,
            env={**environment, **(env or {})},
            cwd=trap,
            check=False,
        )

    return start
