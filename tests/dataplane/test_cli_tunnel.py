"""`sallyport tunnel ...` and `sallyport login` against a small /client/v4."""

import base64
import json
import os
import stat
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from dataplane.cli import main
from dataplane.wire.credentials import AccountCertificate, TunnelCredentials
from tests.dataplane.lab_api import ACCOUNT, TOKEN, ZONES, LabApi

CONFIG = """\
tunnel: 79a60ee2-9a98-4f5f-96c7-76c88b2075be
credentials-file: /root/.sallyport/79a60ee2-9a98-4f5f-96c7-76c88b2075be.json
logDirectory: /var/log/sallyport
http2: true
ingress:
  - hostname: ssh-bastion.widgetcorp.localhost
    service: bastion
  - hostname: "*.widgetcorp.localhost"
    path: ^/admin
    service: http://localhost:8000
  - service: http_status:404
"""


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[LabApi]:
    lab = LabApi()
    for name in ("SALLYPORT_EDGE", "SALLYPORT_CACERT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SALLYPORT_API_URL", lab.url)
    monkeypatch.setenv("SALLYPORT_API_TOKEN", TOKEN)
    yield lab
    lab.stop()


@pytest.fixture
def tunnel(api: LabApi, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["tunnel", "create", "ssh-pool"]) == 0
    capsys.readouterr()
    return next(iter(api.tunnels))


def test_create_writes_credentials_that_match_the_sent_secret(
    api: LabApi, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tunnel", "create", "ssh-pool"]) == 0
    identifier = next(iter(api.tunnels))
    path = tmp_path / ".sallyport" / f"{identifier}.json"
    output = capsys.readouterr().out
    assert identifier in output
    assert str(path) in output
    assert "sallyport tunnel run ssh-pool" in output
    credentials = TunnelCredentials.from_file_json(path.read_text())
    assert base64.b64encode(credentials.secret).decode() == api.secrets[identifier]
    assert len(credentials.secret) == 32
    assert (credentials.account_tag, str(credentials.tunnel_id)) == (ACCOUNT, identifier)
    assert stat.S_IMODE(path.stat().st_mode) == 0o400
    assert api.bearers == {f"Bearer {TOKEN}"}


def test_create_as_json_with_own_secret_and_file(
    api: LabApi, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    secret, path = base64.b64encode(b"s" * 33).decode(), tmp_path / "my.json"
    assert main(["tunnel", "create", "--secret", secret, "--cred-file", str(path), "-o", "json", "pool"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {"id": next(iter(api.tunnels)), "name": "pool", "credentials_file": str(path)}
    assert json.loads(path.read_text())["TunnelSecret"] == secret
    assert "visible to every user" in captured.err


def test_tunnel_is_taken_back_when_its_file_cannot_be_written(
    api: LabApi, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tunnel", "create", "pool", "--cred-file", str(tmp_path / "missing" / "x.json")]) == 1
    assert "cannot write" in capsys.readouterr().err
    assert [tunnel["deleted_at"] for tunnel in api.tunnels.values()] != [None]
    assert api.calls[-1][0] == "DELETE"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["create", "2f829629-ce7f-4d14-8569-cee157f20ebc"], "must not be a UUID"),
        (["create", "x", "--secret", "!!"], "base64"),
        (["create", "x", "--secret", base64.b64encode(b"short").decode()], "at least 32 bytes"),
        (["create", "x", "--cred-file", "/etc/passwd"], "never overwritten"),
        (["info", "nobody"], "no tunnel named 'nobody'"),
        (["info", str(uuid.uuid4())], "Tunnel not found"),
        (["cleanup", "x", "-c", "zzz"], "not a connector id"),
        (["route", "dns", "x", "bad..name"], "not a host name"),
        (["frobnicate"], "no command 'tunnel frobnicate'"),
    ],
)
def test_bad_requests_change_nothing(
    api: LabApi, words: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tunnel", *words]) in (1, 2)
    assert text in capsys.readouterr().err
    assert not api.tunnels
    assert not api.routes


def test_name_that_is_taken(api: LabApi, tunnel: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tunnel", "create", "ssh-pool"]) == 1
    assert "already exists" in capsys.readouterr().err


def test_list_reads_every_page(api: LabApi, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(5):
        main(["tunnel", "create", f"pool-{number}"])
    capsys.readouterr()
    assert main(["tunnel", "list"]) == 0
    output = capsys.readouterr().out
    assert all(identifier in output for identifier in api.tunnels)
    assert "2xhome" in output
    assert main(["tunnel", "list", "--name", "pool-3", "-o", "json"]) == 0
    assert [item["name"] for item in json.loads(capsys.readouterr().out)] == ["pool-3"]


def test_info_shows_connectors(api: LabApi, tunnel: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tunnel", "info", "ssh-pool"]) == 0
    output = capsys.readouterr().out
    assert tunnel in output
    assert "linux_amd64" in output
    assert "1xhome" in output


def test_delete_removes_the_credentials_file(api: LabApi, tunnel: str, tmp_path: Path) -> None:
    assert main(["tunnel", "delete", "-f", "ssh-pool"]) == 0
    assert api.tunnels[tunnel]["deleted_at"]
    assert api.calls[-1][:2] == ("DELETE", f"/accounts/{ACCOUNT}/cfd_tunnel/{tunnel}?cascade=true")
    assert not list((tmp_path / ".sallyport").glob("*.json"))


def test_token_and_its_credentials_file(
    api: LabApi, tunnel: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tunnel", "token", tunnel]) == 0
    credentials = TunnelCredentials.from_token(capsys.readouterr().out)
    assert base64.b64encode(credentials.secret).decode() == api.secrets[tunnel]
    path = tmp_path / "again.json"
    assert main(["tunnel", "token", "ssh-pool", "--cred-file", str(path)]) == 0
    assert TunnelCredentials.from_file_json(path.read_text()) == credentials
    assert api.secrets[tunnel] not in capsys.readouterr().out


def test_cleanup_names_the_connector(api: LabApi, tunnel: str) -> None:
    connector = str(uuid.uuid4())
    assert main(["tunnel", "cleanup", "-c", connector, "ssh-pool"]) == 0
    assert api.calls[-1][:2] == ("DELETE", f"/accounts/{ACCOUNT}/cfd_tunnel/{tunnel}/connections?client_id={connector}")


def test_route_uses_the_longest_zone(api: LabApi, tunnel: str, capsys: pytest.CaptureFixture[str]) -> None:
    host = "ssh-bastion.widgetcorp.localhost"
    assert main(["tunnel", "route", "dns", "ssh-pool", "SSH-Bastion.widgetcorp.localhost."]) == 0
    assert api.routes == {host: f"{ZONES[1]['id']}/{tunnel}"}
    assert "Added CNAME" in capsys.readouterr().out
    assert main(["tunnel", "route", "dns", "ssh-pool", host]) == 1
    assert "--overwrite-dns" in capsys.readouterr().err
    assert main(["tunnel", "route", "dns", "-f", "ssh-pool", host]) == 0
    assert "Changed CNAME" in capsys.readouterr().out


def test_route_outside_every_zone(api: LabApi, tunnel: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tunnel", "route", "dns", tunnel, "ssh.elsewhere.example"]) == 1
    assert "in no zone" in capsys.readouterr().err


def test_login_keeps_the_token_for_later_commands(
    api: LabApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("SALLYPORT_API_URL")
    monkeypatch.delenv("SALLYPORT_API_TOKEN")
    assert main(["tunnel", "list"]) == 1
    assert "sallyport login" in capsys.readouterr().err
    assert main(["login", "--api-url", api.url, "--api-token", TOKEN]) == 0
    captured = capsys.readouterr()
    assert "visible to every user" in captured.err
    assert TOKEN not in captured.out + captured.err
    path = tmp_path / ".sallyport" / "cert.pem"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    certificate = AccountCertificate.from_pem(path.read_text())
    assert (certificate.account_id, certificate.api_token, certificate.endpoint) == (ACCOUNT, TOKEN, api.url)
    api.calls.clear()
    assert main(["tunnel", "create", "pool"]) == 0
    assert [call[0] for call in api.calls] == ["POST"]  # the account is known


def test_login_with_a_wrong_token_stores_nothing(
    api: LabApi, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["login", "--api-token", "wrong"]) == 1
    assert "Authentication error" in capsys.readouterr().err
    assert not (tmp_path / ".sallyport").exists()


def test_several_accounts_need_a_choice(api: LabApi, capsys: pytest.CaptureFixture[str]) -> None:
    api.accounts.append({"id": "f" * 32, "name": "Other"})
    assert main(["tunnel", "list"]) == 1
    assert "--account" in capsys.readouterr().err
    assert main(["tunnel", "list", "--account", ACCOUNT]) == 0


def test_token_never_crosses_the_network_in_clear(api: LabApi, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tunnel", "list", "--api-url", "http://control.example/client/v4"]) == 1
    assert "use https" in capsys.readouterr().err


def test_control_plane_that_is_down(api: LabApi, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tunnel", "list", "--api-url", "http://localhost:1/client/v4"]) == 1
    assert "cannot connect to localhost:1" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [["ingress", "validate", "--config", "{}"], ["--config", "{}", "ingress", "validate"]]
)
def test_seed_configuration_is_valid(tmp_path: Path, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "config.yml"
    path.write_text(CONFIG)
    assert main(["tunnel", *(word.format(path) for word in words)]) == 0
    captured = capsys.readouterr()
    assert captured.out.endswith("OK\n")
    assert captured.err == ""


def test_configuration_is_found_in_home_and_never_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home, work = tmp_path / "home", tmp_path / "work"
    work.mkdir()
    (home / ".sallyport").mkdir(parents=True)
    (work / "config.yml").write_text(CONFIG)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(work)
    assert main(["tunnel", "ingress", "validate"]) == 1
    assert "no configuration file" in capsys.readouterr().err
    (home / ".sallyport" / "config.yml").write_text(CONFIG + "surprise: 1\n")
    assert main(["tunnel", "ingress", "validate"]) == 0
    assert "unknown key 'surprise'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("url", "number", "service"),
    [
        ("https://SSH-bastion.widgetcorp.localhost/", 1, "bastion"),
        ("https://x.widgetcorp.localhost/admin/1", 2, "http://localhost:8000"),
        ("https://x.widgetcorp.localhost/", 3, "http_status:404"),
    ],
)
def test_ingress_rule_of_a_url(
    tmp_path: Path, url: str, number: int, service: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "config.yml"
    path.write_text(CONFIG)
    assert main(["tunnel", "ingress", "rule", url, "--config", str(path)]) == 0
    output = capsys.readouterr().out
    assert f"Matched rule #{number}\n" in output
    assert output.endswith(f"service: {service}\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ingress:\n  - service: ssh://localhost:22\n    hostname: x.example\n", "last ingress rule"),
        ("tunnel: x\n", "no ingress rules"),
        ("a: [", "line 1"),
        ("- a\n", "must hold keys"),
    ],
)
def test_broken_configurations_say_what_is_wrong(
    tmp_path: Path, text: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "config.yml"
    path.write_text(text)
    assert main(["tunnel", "ingress", "validate", "--config", str(path)]) == 1
    assert message in capsys.readouterr().err


def test_credentials_survive_a_strange_umask(api: LabApi, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        main(["tunnel", "create", "pool"])
    finally:
        os.umask(before)
    path = next((tmp_path / ".sallyport").glob("*.json"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o400
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
