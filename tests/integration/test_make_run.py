"""`make run` as a script sees it: what it writes, what it keeps, what it says when it cannot start, how it stops."""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.first_login import wait_until
from demo.installation import ROOT, Installation, installation
from tools.services import free_port, free_ports

pytestmark = [pytest.mark.integration, pytest.mark.once]
FIELDS = {
    "dashboard_url", "api_url", "account_id", "zone_id", "zone", "team_domain", "admin_email", "admin_password",
    "api_token", "edge_url", "edge_address", "edge_ca", "tunnel_edge", "tunnel_domain", "mail_dir",
}  # fmt: skip


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with installation(tmp_path_factory.mktemp("make-run") / "var") as here:
        yield here


def _settings(**changed: str) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    ports = dict(zip(("PORT", "EDGE_PORT", "TUNNEL_PORT"), map(str, free_ports(3)), strict=True))
    return {**kept, **ports, **changed}


def _refused(**settings: str) -> str:
    """What a start that cannot work says; it has to be one line, not a traceback."""
    done = subprocess.run(
        [sys.executable, "-m", "controlplane.stack"],
        cwd=ROOT, env=_settings(**settings), capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("sallyport: ")
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def _family(process: subprocess.Popen[bytes]) -> set[int]:
    """The process and all it started, directly or not."""
    found, new = {process.pid}, [process.pid]
    while new:
        listed = Path(f"/proc/{new.pop()}/task").glob("*/children")
        children = {int(word) for path in listed for word in path.read_text().split()}
        new.extend(children - found)
        found |= children
    return found


def _open_ports(facts: dict[str, str]) -> list[str]:
    opened = []
    addresses = [facts["edge_address"], facts["tunnel_edge"], facts["dashboard_url"].removeprefix("http://")]
    for address in addresses:
        host, _, port = address.rpartition(":")
        with socket.socket() as probe:
            probe.settimeout(2)
            if probe.connect_ex((host.replace("localhost", "127.0.0.1"), int(port))) == 0:
                opened.append(address)
    return opened


def test_quickstart_names_all_that_scripts_need(running: Installation) -> None:
    state = running.state
    facts = json.loads((state / "quickstart.json").read_text())
    assert set(facts) == FIELDS
    assert all(isinstance(value, str) and value for value in facts.values())
    for name in ("quickstart.json", "secrets.json", "demo.json", "sallyport.sqlite3"):
        assert stat.S_IMODE((state / name).stat().st_mode) == 0o600, name
    assert facts["api_url"] == f"{facts['dashboard_url']}/client/v4"
    assert re.fullmatch("[0-9a-f]{32}", facts["account_id"])
    assert (facts["zone"], facts["team_domain"]) == ("widgetcorp.localhost", "widgetcorp.access.localhost")
    assert Path(facts["edge_ca"]).read_text().startswith("-----BEGIN CERTIFICATE-----")
    assert Path(facts["mail_dir"]).is_dir()
    with urllib.request.urlopen(f"{facts['dashboard_url']}/healthz", timeout=30) as answer:
        assert answer.status == 200
    assert not (state / "starting").exists()
    assert running.api("GET", "/user/tokens/verify")["status"] == "active"
    said = (state / "stack.log").read_text()
    for shown in (facts["dashboard_url"], facts["admin_email"], facts["admin_password"], str(state)):
        assert shown in said
    assert facts["api_token"] not in said


def test_a_signal_stops_all_and_the_next_start_has_all_data(running: Installation) -> None:
    state = running.state
    body = {"name": "Kept", "include": [{"everyone": {}}]}
    group = running.api("POST", "/accounts/{account}/access/groups", body)
    kept = _kept_files(state)
    _stops(running, signal.SIGINT)
    with installation(state) as second:
        assert [item["id"] for item in second.api("GET", "/accounts/{account}/access/groups")] == [group["id"]]
        assert _kept_files(state) == kept
        _stops(second, signal.SIGTERM)


def _kept_files(state: Path) -> list[bytes]:
    return [(state / name).read_bytes() for name in ("secrets.json", "demo.json", "edge/ca.pem")]


def _stops(here: Installation, number: signal.Signals) -> None:
    family, facts = _family(here.process), dict(here.facts)
    assert len(family) >= 3  # supervisor, web, edge
    assert len(_open_ports(facts)) == 3
    here.process.send_signal(number)
    assert here.process.wait(30) == 0
    wait_until(lambda: not [pid for pid in family if Path(f"/proc/{pid}").exists()], "the end of every process")
    assert _open_ports(facts) == []
    assert "Stopping" in (here.state / "stack.log").read_text()


@pytest.mark.parametrize("name", ["PORT", "EDGE_PORT", "TUNNEL_PORT"])
def test_a_busy_port_is_named_with_its_variable(tmp_path: Path, name: str) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = str(holder.getsockname()[1])
        said = _refused(STATE_DIR=str(tmp_path), **{name: port})
    assert f"port {port} is taken; choose another with {name}=" in said


@pytest.mark.parametrize("value", ["abc", "0", "65536", "-1", ""])
def test_a_port_that_is_none_is_refused(tmp_path: Path, value: str) -> None:
    assert "PORT must be a port number" in _refused(STATE_DIR=str(tmp_path), PORT=value)


def test_one_port_for_two_is_refused(tmp_path: Path) -> None:
    port = str(free_port())
    assert "three different ports" in _refused(STATE_DIR=str(tmp_path), PORT=port, EDGE_PORT=port)


def test_two_on_one_state_directory_are_refused(tmp_path: Path) -> None:
    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert f"already running on {tmp_path}" in _refused(STATE_DIR=str(tmp_path))


def test_lost_keys_are_told_before_anything_is_touched(tmp_path: Path) -> None:
    (tmp_path / "secrets.json").write_text("{")
    assert "secrets.json cannot be read" in _refused(STATE_DIR=str(tmp_path))
    assert not (tmp_path / "sallyport.sqlite3").exists()


def test_make_help_lists_every_command() -> None:
    # Without the directory messages, which a make above this one (`make test`) asks for through the environment.
    command = ["make", "--no-print-directory", "help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20, check=True)
    listed = {line.split()[0] for line in done.stdout.splitlines()}
    assert listed == {"help", "run", "test", "check", "bench", "demo", "clean"}
    assert "STATE_DIR" in done.stdout


def test_the_package_alone_brings_the_command_without_django(tmp_path: Path) -> None:
    """`pip install .` into an own place: only the data plane and what it needs. The dependencies come from this
    environment, by a path that hides everything of the control plane."""
    target = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run(
        [*pip, "--disable-pip-version-check", "--target", str(target), str(_copied(tmp_path))],
        cwd=tmp_path, check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    installed = {path.name for path in target.iterdir() if path.is_dir()} - {"bin"}
    assert {name for name in installed if not name.endswith(".dist-info")} == {"dataplane"}
    script = tmp_path / "hide.py"
    script.write_text(
        "import sys, runpy\n"
        "for name in ('django', 'celery', 'ninja', 'allauth', 'kombu'):\n"
        "    sys.modules[name] = None\n"
        f"sys.path.insert(0, {str(target)!r})\n"
        "sys.argv = ['sallyport', *sys.argv[1:]]\n"
        f"runpy.run_path({str(target / 'bin' / 'sallyport')!r}, run_name='__main__')\n"
    )
    for words, expected in (
        (["version"], "sallyport 0."),
        (["help"], "tunnel run"),
        (["tunnel", "run", "-h"], "usage"),
    ):
        done = subprocess.run(
            [sys.executable, "-P", str(script), *words],
            cwd=tmp_path, env={"HOME": str(tmp_path)}, capture_output=True, text=True, timeout=20, check=False,
        )  # fmt: skip
        assert (done.returncode, expected in done.stdout) == (0, True), done.stderr


def _copied(folder: Path) -> Path:
    """A build writes next to its sources; the working tree is not ours to write into."""
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "dataplane"):
        subprocess.run(["cp", "-r", str(ROOT / name), str(source)], check=True, timeout=20)
    return source


def test_a_killed_supervisor_leaves_nothing_behind(running: Installation) -> None:
    running.process.terminate()
    running.process.wait(30)
    with installation(running.state) as third:
        family = _family(third.process)
        third.process.kill()
        third.process.wait(30)
        wait_until(lambda: not [pid for pid in family if Path(f"/proc/{pid}").exists()], "the end of every process")
