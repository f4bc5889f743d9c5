from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.dataplane.connector.lab import LabEdge, make_authority


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory):
    return make_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
async def edge(authority) -> AsyncIterator[LabEdge]:
    running = LabEdge(authority[1])
    await running.start()
    yield running
    running.stop()


@pytest.fixture
def base(authority, edge: LabEdge, tmp_path: Path) -> dict[str, object]:
    """Configuration of one connection to the lab edge; add ingress."""
    return {
        "tunnel": "79a60ee2-9a98-4f5f-96c7-76c88b2075be",
        "credentials-file": str(tmp_path / "credentials.json"),
        "http2": True,
        "edge": [f"localhost:{edge.port}"],
        "cacert": str(authority[0]),
        "ha-connections": 1,
        "grace-period": "5s",
    }
