"""The stock ssh, scp and rsync through the generated config, to a real sshd that trusts the lab authority."""

import getpass
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from tests.dataplane.client.lab_edge import APP_HOST, LabEdge
from tests.dataplane.client.test_login import TOKEN_FILE, write_state

pytestmark = pytest.mark.integration
USER = getpass.getuser()
SSHD = shutil.which("sshd") or "/usr/sbin/sshd"
SSHD_CONFIG = """\
ListenAddress 127.0.0.1:{port}
HostKey {directory}/host_key
PidFile none
TrustedUserCAKeys {directory}/ca.pub
AuthorizedKeysFile none
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin yes
StrictModes no
UsePAM no
LogLevel VERBOSE
Subsystem sftp internal-sftp
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def wait_for_port(port: int, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            probe.settimeout(1)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        threading.Event().wait(0.05)
    raise AssertionError("sshd does not listen")


@pytest.fixture
def sshd_log(edge: LabEdge, tmp_path: Path) -> Iterator[Path]:
    directory = tmp_path / "sshd"
    directory.mkdir()
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(directory / "host_key")], check=True, timeout=10
    )
    public = edge.keys.authority.public_key()
    line = public.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    (directory / "ca.pub").write_bytes(line + b"\n")
    port = free_port()
    (directory / "config").write_text(SSHD_CONFIG.format(port=port, directory=directory))
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    log = directory / "log"
    words = [SSHD, "-D", "-f", str(directory / "config"), "-E", str(log)]
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL)
    try:
        wait_for_port(port, process)
        edge.origin = ("127.0.0.1", port)
        edge.principals = [USER.encode()]
        yield log
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture
def ssh_options(edge: LabEdge, home: Path, environment: dict[str, str], tmp_path: Path) -> list[str]:
    write_state(home, TOKEN_FILE, edge.issue("app"))
    command = tmp_path / "bin" / "sallyport"
    command.parent.mkdir()
    command.write_text(
        f"#!{sys.executable} -P\nimport sys\nfrom dataplane.cli import main\nsys.exit(main())\n", encoding="utf-8"
    )
    command.chmod(0o755)
    done = subprocess.run(
        [command, "access", "ssh-config", "--hostname", edge.app, "--short-lived-cert"],
        capture_output=True,
        env=environment,
        timeout=30,
        check=True,
    )
    config = tmp_path / "ssh_config"
    config.write_bytes(done.stdout + f"\nHost *\n  UserKnownHostsFile {tmp_path}/known_hosts\n".encode())
    return ["-F", str(config), "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=accept-new"]


def call(words: list[str], environment: dict[str, str], stdin: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(words, input=stdin, capture_output=True, env=environment, timeout=60, check=False)


def test_remote_command_and_its_exit_code(
    edge: LabEdge, sshd_log: Path, ssh_options: list[str], environment: dict[str, str]
) -> None:
    bulk = os.urandom(4 * 1024 * 1024)
    done = call(["ssh", *ssh_options, f"{USER}@{APP_HOST}", "cat; exit 7"], environment, bulk)
    assert done.returncode == 7, done.stderr
    assert done.stdout == bulk
    log = sshd_log.read_text()
    assert "Accepted publickey" in log
    assert "ID widgetcorp/ssh/alice (serial 1) CA ED25519" in log
    again = call(["ssh", *ssh_options, f"{USER}@{APP_HOST}", "true"], environment)
    assert again.returncode == 0
    assert edge.certificates == 1


def test_scp_and_rsync_copy_both_ways(
    sshd_log: Path, ssh_options: list[str], environment: dict[str, str], tmp_path: Path
) -> None:
    content = os.urandom(1024 * 1024)
    (tmp_path / "one").write_bytes(content)
    remote = f"{USER}@{APP_HOST}:{tmp_path}"
    for words in (
        ["scp", *ssh_options, str(tmp_path / "one"), f"{remote}/two"],
        ["scp", *ssh_options, f"{remote}/two", str(tmp_path / "three")],
        ["rsync", "-e", " ".join(["ssh", *ssh_options]), str(tmp_path / "three"), f"{remote}/four"],
    ):
        done = call(words, environment)
        assert done.returncode == 0, done.stderr
    assert [(tmp_path / name).read_bytes() == content for name in ("two", "three", "four")] == [True] * 3


def test_port_forwarding(edge: LabEdge, sshd_log: Path, ssh_options: list[str], environment: dict[str, str]) -> None:
    """Through the tunnel back to sshd itself, whose banner must appear on the forwarded port."""
    assert edge.origin is not None
    local = free_port()
    forward = f"127.0.0.1:{local}:127.0.0.1:{edge.origin[1]}"
    process = subprocess.Popen(
        ["ssh", *ssh_options, "-N", "-o", "ExitOnForwardFailure=yes", "-L", forward, f"{USER}@{APP_HOST}"],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        wait_for_port(local, process)
        with socket.create_connection(("127.0.0.1", local), timeout=10) as connection:
            assert connection.recv(8) == b"SSH-2.0-"
    finally:
        process.terminate()
        process.communicate(timeout=20)


def test_certificate_for_another_account_is_refused_by_sshd(
    edge: LabEdge, sshd_log: Path, ssh_options: list[str], environment: dict[str, str]
) -> None:
    edge.principals = [b"somebody-else"]
    done = call(["ssh", *ssh_options, f"{USER}@{APP_HOST}", "true"], environment)
    assert done.returncode == 255
    assert "name is not a listed principal" in sshd_log.read_text()


def test_refused_login_shows_the_reason_and_tries_no_other_way(
    edge: LabEdge, sshd_log: Path, ssh_options: list[str], environment: dict[str, str]
) -> None:
    edge.metadata_claims = {"hostname": "other.widgetcorp.localhost"}
    done = call(["ssh", *ssh_options, f"{USER}@{APP_HOST}", "true"], environment)
    assert done.returncode == 255
    assert b"metadata of another host" in done.stderr
    assert b"resolve" not in done.stderr
    assert b"port 22" not in done.stderr
    assert "Accepted" not in sshd_log.read_text()
