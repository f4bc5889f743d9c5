"""Countries from a MaxMind database file."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.conf import LazySettings
from mmdb_writer import MMDBWriter
from netaddr import IPSet

from access import country


def write(path: Path, networks: dict[str, str]) -> None:
    writer = MMDBWriter(ip_version=6, ipv4_compatible=True, database_type="GeoLite2-Country")
    for network, code in networks.items():
        writer.insert_network(IPSet([network]), {"country": {"iso_code": code}})
    writer.to_db_file(str(path))


@pytest.fixture
def database(tmp_path: Path, settings: LazySettings) -> Path:
    path = tmp_path / "countries.mmdb"
    write(path, {"203.0.113.0/24": "PT", "2001:db8::/32": "FR"})
    settings.GEOIP_DATABASE = str(path)
    return path


def test_addresses(database: Path) -> None:
    assert country.resolve("203.0.113.7") == "PT"
    assert country.resolve("2001:db8::1") == "FR"
    assert country.resolve("198.51.100.1") == ""
    assert country.resolve("not an address") is None
    assert country.lookup("not an address") == ""


@pytest.mark.parametrize("content", [None, b"", b"not a database"])
def test_ac_81_missing_or_damaged_database_is_an_error_not_a_no(
    tmp_path: Path, settings: LazySettings, content: bytes | None
) -> None:
    path = tmp_path / "x.mmdb"
    if content is not None:
        path.write_bytes(content)
    settings.GEOIP_DATABASE = str(path)
    assert country.resolve("203.0.113.7") is None
    assert country.lookup("203.0.113.7") == ""


def test_no_database_configured(settings: LazySettings) -> None:
    settings.GEOIP_DATABASE = ""
    assert country.resolve("203.0.113.7") is None


def test_replaced_file_is_noticed(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert country.resolve("203.0.113.7") == "PT"
    monkeypatch.setattr(country, "_RECHECK_SECONDS", 0.0)
    write(database, {"203.0.113.0/24": "SE", "198.51.100.0/24": "NO"})
    assert country.resolve("203.0.113.7") == "SE"
    database.unlink()
    assert country.resolve("203.0.113.7") is None
