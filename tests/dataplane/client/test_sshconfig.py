"""`sallyport access ssh-config`: what the stock ssh makes of the printed lines."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.dataplane.client.conftest import REPOSITORY, Run
from tests.dataplane.client.lab_edge import APP_HOST, LabEdge
from tests.dataplane.client.test_login import TOKEN_FILE, write_state


def effective(config: Path, host: str, environment: dict[str, str]) -> dict[str, list[str]]:
    """Options as `ssh -G` reports them; it runs `Match exec` commands for real."""
    shown = subprocess.run(
        ["ssh", "-G", "-F", str(config), host], capture_output=True, text=True, env=environment, timeout=30, check=True
    ).stdout
    options: dict[str, list[str]] = {}
    for line in shown.splitlines():
        name, _, value = line.partition(" ")
        options.setdefault(name, []).append(value)
    return options


@pytest.fixture
def command(tmp_path: Path) -> Path:
    """An executable named sallyport in a directory with a space."""
    directory = tmp_path / "my tools"
    directory.mkdir()
    path = directory / "sallyport"
    path.write_text(
        f"#!{sys.executable} -P\nimport sys\nsys.path.insert(0, {str(REPOSITORY)!r})\n"
        "from dataplane.cli import main\nsys.exit(main())\n"
    )
    path.chmod(0o755)
    return path


def write_config(command: Path, environment: dict[str, str], path: Path, *words: str) -> str:
    done = subprocess.run(
        [command, "access", "ssh-config", *words],
        capture_output=True,
        text=True,
        env=environment,
        timeout=30,
        check=True,
    )
    path.write_text(done.stdout)
    return done.stdout


def test_key_and_certificate_depend_on_ssh_gen(
    edge: LabEdge, home: Path, environment: dict[str, str], command: Path, tmp_path: Path
) -> None:
    write_state(home, TOKEN_FILE, edge.issue("app"))
    config = tmp_path / "config"
    write_config(command, environment, config, "--hostname", edge.app, "--short-lived-cert")
    options = effective(config, APP_HOST, environment)
    key = f"{home}/.sallyport/{APP_HOST}-cf_key"
    assert options["identityfile"] == [key, f"{key}2"]
    assert options["certificatefile"] == [f"{key}-cert.pub", f"{key}2-cert.pub"]
    assert options["identitiesonly"] == ["yes"]
    assert edge.certificates == 1
    proxy = options["proxycommand"][0]
    expected = f"'{command}' access ssh --hostname {edge.app} --cacert {edge.ca_path}"
    assert proxy == expected


def test_failing_ssh_gen_never_leads_to_a_direct_connection(
    edge: LabEdge, home: Path, environment: dict[str, str], command: Path, tmp_path: Path
) -> None:
    edge.metadata_kid = "wrong"
    config = tmp_path / "config"
    write_config(command, environment, config, "--hostname", edge.app, "--short-lived-cert")
    options = effective(config, APP_HOST, environment)
    assert "access ssh --hostname" in options["proxycommand"][0]
    assert "certificatefile" not in options
    assert "proxycommand" not in effective(config, "other.example", environment)


def test_ssh_reaches_the_edge_through_the_config(
    edge: LabEdge, home: Path, environment: dict[str, str], command: Path, tmp_path: Path
) -> None:
    """The stock ssh runs ssh-gen and the ProxyCommand; the lab edge answers with a banner that ssh must report."""
    write_state(home, TOKEN_FILE, edge.issue("app"))
    edge.websocket_mode = "banner"
    config = tmp_path / "config"
    write_config(
        command, environment, config, "--hostname", edge.app, "--short-lived-cert", "--destination", "10.0.0.5:22"
    )
    done = subprocess.run(
        ["ssh", "-v", "-F", str(config), "-o", "BatchMode=yes", f"alice@{APP_HOST}", "true"],
        capture_output=True,
        text=True,
        env=environment,
        timeout=30,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert "remote software version lab" in done.stderr
    assert edge.certificates == 1
    upgrade = next(request for request in edge.requests if "upgrade" in request.headers)
    assert upgrade.headers["cf-access-jump-destination"] == "10.0.0.5:22"


def test_plain_form_bakes_edge_and_alias(run: Run, edge: LabEdge, environment: dict[str, str], tmp_path: Path) -> None:
    done = run("access", "ssh-config", "--hostname", APP_HOST, "--edge", "127.0.0.1:8443", "--alias", "bastion")
    config = tmp_path / "config"
    config.write_bytes(done.stdout)
    options = effective(config, "bastion", environment)
    assert options["hostname"] == [APP_HOST]
    assert options["hostkeyalias"] == ["bastion"]
    assert "--edge 127.0.0.1:8443" in options["proxycommand"][0]
    assert "Match" not in done.stdout.decode()
    assert os.path.isabs(options["proxycommand"][0].split()[0])


def test_printing_needs_no_network_and_writes_nothing(run: Run, home: Path, edge: LabEdge) -> None:
    done = run("access", "ssh-config", "--hostname", APP_HOST, "--short-lived-cert")
    assert done.returncode == 0
    assert not edge.requests
    assert not (home / ".sallyport").exists()


@pytest.mark.parametrize(
    "words",
    [
        ["--hostname", "a b"],
        ["--hostname", "x'; touch y"],
        ["--hostname", APP_HOST, "--alias", "*"],
        ["--hostname", APP_HOST, "--destination", 'a"b:22'],
        ["--hostname", "user@host"],
        ["--hostname", ""],
    ],
)
def test_values_that_cannot_be_written_are_refused(run: Run, words: list[str]) -> None:
    done = run("access", "ssh-config", *words)
    assert done.returncode == 1
    assert done.stdout == b""
    assert done.stderr.startswith(b"sallyport: ")
