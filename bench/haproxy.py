"""haproxy as the anchor of bench.tunnel: the same hops as edge and connector, by the relay everybody knows.

    client -TLS-> near haproxy -TLS-> far haproxy -TCP-> origin

The near one does what the edge does (TLS in, TLS out), the far one what the connector does (TLS in, TCP out). One
thread each, like ours; haproxy's own defaults otherwise.
"""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tools.services import free_ports

HOSTNAME = "haproxy.localhost"
_READY_SECONDS = 10.0
_CONFIG = """\
global
    nbthread 1
    maxconn 2000
defaults
    mode tcp
    timeout connect 5s
    timeout client 120s
    timeout server 120s
listen relay
    bind 127.0.0.1:{port} ssl crt {pair}
    server next 127.0.0.1:{next_port}{next_tls}
"""


@dataclass(frozen=True)
class Relays:
    """`far_port` is one hop (TLS in, TCP out), `near_port` both."""

    near_port: int
    near_pid: int
    far_port: int
    far_pid: int
    ca_file: Path


@contextmanager
def relays(directory: Path, origin_port: int) -> Iterator[Relays]:
    """Start both, stop both. Raises RuntimeError when haproxy is not installed."""
    directory.mkdir()
    ca_file = _make_pair(directory)
    processes: list[subprocess.Popen[bytes]] = []
    try:
        far_port, near_port = free_ports(2)
        far = _start(directory / "far.cfg", far_port, origin_port, "")
        processes.append(far)
        near = _start(directory / "near.cfg", near_port, far_port, f" ssl ca-file {ca_file} verify required")
        processes.append(near)
        yield Relays(near_port, near.pid, far_port, far.pid, ca_file)
    finally:
        for process in processes:
            process.terminate()
            process.wait(10)


def _make_pair(directory: Path) -> Path:
    """A self-signed certificate (ECDSA P-256, as the edge's) and its key in one file."""
    certificate, key = directory / "certificate.pem", directory / "key.pem"
    subject = ["-subj", f"/CN={HOSTNAME}", "-addext", f"subjectAltName=DNS:{HOSTNAME}"]
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    command = ["openssl", "req", "-x509", *kind, *subject, "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True, timeout=30)
    (directory / "pair.pem").write_bytes(certificate.read_bytes() + key.read_bytes())
    return certificate


def _start(config: Path, port: int, next_port: int, next_tls: str) -> subprocess.Popen[bytes]:
    pair = config.parent / "pair.pem"
    config.write_text(_CONFIG.format(port=port, pair=pair, next_port=next_port, next_tls=next_tls))
    # The package puts it where only root's PATH looks.
    program = "/usr/sbin/haproxy" if Path("/usr/sbin/haproxy").exists() else shutil.which("haproxy")
    if program is None:
        raise RuntimeError("haproxy, the anchor, is not installed: run tools/system-packages.sh bench")
    process = subprocess.Popen([program, "-db", "-q", "-f", str(config)])
    deadline = time.monotonic() + _READY_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return process
    process.kill()
    raise RuntimeError(f"haproxy did not start; try: haproxy -c -f {config}")
