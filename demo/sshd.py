"""A stock sshd with its own configuration on a free loopback port, trusting one CA file."""

from __future__ import annotations

import contextlib
import getpass
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tools.services import free_port

_SSHD = "/usr/sbin/sshd"
_START_SECONDS = 10.0


@dataclass(frozen=True)
class Sshd:
    port: int
    directory: Path
    account: str  # the Unix account one can log in as: whoever runs this sshd

    @property
    def ca_file(self) -> Path:
        return self.directory / "ca.pub"

    def install_revocations(self, krl: bytes) -> None:
        """In one step: sshd locks everybody out while the list is missing or cut short."""
        new = self.directory / "revoked.new"
        new.write_bytes(krl)
        new.replace(self.directory / "revoked.krl")

    def log(self) -> str:
        return (self.directory / "sshd.log").read_text(encoding="utf-8", errors="replace")


@contextlib.contextmanager
def sshd(directory: Path, *, principals: list[str]) -> Iterator[Sshd]:
    """Run sshd. `principals` may log in as the current account (AuthorizedPrincipalsFile), so that no account has to
    be made on this machine; the CA file starts empty, which lets nobody in."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    account = getpass.getuser()
    server = Sshd(free_port(), directory, account)
    key = directory / "host_key"
    if not key.exists():
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True, timeout=20)
    server.ca_file.touch(mode=0o600)
    subprocess.run(["ssh-keygen", "-q", "-k", "-f", str(directory / "revoked.krl")], check=True, timeout=20)
    names = directory / "principals"
    names.write_text("".join(f"{name}\n" for name in principals), encoding="utf-8")
    names.chmod(0o600)
    configuration = directory / "sshd_config"
    configuration.write_text(
        f"""Port {server.port}
ListenAddress 127.0.0.1
HostKey {key}
PidFile {directory}/sshd.pid
PubkeyAuthentication yes
PasswordAuthentication no
KbdInteractiveAuthentication no
AuthorizedKeysFile none
TrustedUserCAKeys {server.ca_file}
RevokedKeys {directory}/revoked.krl
AuthorizedPrincipalsFile {names}
StrictModes no
UsePAM no
PermitRootLogin prohibit-password
LogLevel VERBOSE
Subsystem sftp internal-sftp
""",
        encoding="utf-8",
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    command = [_SSHD, "-D", "-e", "-f", str(configuration)]
    with (directory / "sshd.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        _wait(server, process)
        yield server
    finally:
        process.terminate()
        process.wait(10)


def _wait(server: Sshd, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", server.port), 1):
            return
        time.sleep(0.02)
    raise RuntimeError(f"sshd did not start: {server.log()}")
