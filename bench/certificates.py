"""Certificates per second and latency through HTTP, policy and Celery, as a share of raw signing in the same run.

Three set-ups: embedded (SQLite, in-memory broker), Redis and PostgreSQL with one worker, and with two. The anchor is
the certificate builder alone in this process. Requests go to the control plane as the edge sends them.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import statistics
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import SSHCertificateBuilder, SSHCertificateType

from demo.first_login import HOSTNAME, build_application, identity_provider
from demo.installation import Installation, installation
from demo.person import Person
from tools.services import free_port, services

SECONDS = 6.0
CALLERS = 8


@dataclass(frozen=True)
class Figures:
    name: str
    callers: int
    per_second: float
    p50_ms: float
    p99_ms: float


def main() -> int:
    raw = raw_signing()
    rows: list[Figures] = []
    with tempfile.TemporaryDirectory(prefix="sallyport-bench-") as directory:
        base = Path(directory)
        rows += measure_setup("embedded, SQLite", base / "embedded", {})
        for workers in (1, 2):
            with services() as variables:
                environment = {**variables, "WORKERS": str(workers)}
                rows += measure_setup(f"Redis, PostgreSQL, {workers} worker(s)", base / f"redis-{workers}", environment)
    print(f"\nraw SSHCertificateBuilder, Ed25519, one core: {raw:,.0f} certificates/s (anchor)\n")
    print(f"{'set-up':34} {'callers':>7} {'cert/s':>8} {'p50 ms':>8} {'p99 ms':>8} {'of raw':>8}")
    for row in rows:
        share = row.per_second / raw
        print(f"{row.name:34} {row.callers:7d} {row.per_second:8.0f} {row.p50_ms:8.1f} {row.p99_ms:8.1f} {share:8.1%}")
    return 0


def raw_signing() -> float:
    """Builder and signature only, one core, certificates per second."""
    authority, key = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate().public_key()
    now = int(datetime.now(UTC).timestamp())
    count, started = 0, time.perf_counter()
    while time.perf_counter() - started < 2.0:
        builder = SSHCertificateBuilder().public_key(key).serial(count + 1).type(SSHCertificateType.USER)
        builder = builder.key_id(b"bench").valid_principals([b"alice"]).valid_after(now).valid_before(now + 240)
        builder.add_extension(b"permit-pty", b"").sign(authority)
        count += 1
    return count / (time.perf_counter() - started)


def measure_setup(name: str, state: Path, environment: dict[str, str]) -> list[Figures]:
    port = free_port()
    with identity_provider(port) as issuer:
        allowed = {"FETCH_ALLOWED_PRIVATE_HOSTS": f"127.0.0.1:{port}"}
        with installation(state / "var", **allowed, **environment) as here:
            application = build_application(here, issuer, ["127.0.0.1:22"])
            here.api("POST", f"/accounts/{{account}}/access/apps/{application['id']}/ca")
            alice = Person.at("alice", state, here)
            done = alice.sallyport("access", "login", "--no-verbose", f"https://{HOSTNAME}")
            if done.returncode != 0:
                raise RuntimeError(f"login failed: {done.stderr}")
            caller = Caller(here, done.stdout.strip())
            caller.run(callers=2, seconds=1.0)  # warm-up: connections, unsealed key
            return [Figures(name, n, *caller.run(callers=n, seconds=SECONDS)) for n in (1, CALLERS)]


class Caller:
    """Plays the edge: cert_sign requests straight to the control plane, each caller on one kept connection."""

    def __init__(self, here: Installation, token: str) -> None:
        parts = urlsplit(here.facts["dashboard_url"])
        self._address = ("127.0.0.1", parts.port or 80)
        port = here.facts["edge_address"].rpartition(":")[2]
        issuer = f"https://{here.facts['team_domain']}:{port}"
        self._headers = {
            "Host": f"{here.facts['team_domain']}:{port}",
            "Content-Type": "application/json",
            "Sallyport-Edge-Token": json.loads((here.state / "secrets.json").read_text())["EDGE_TOKEN"],
            "Sallyport-Client-IP": "127.0.0.1",
        }
        key = Ed25519PrivateKey.generate().public_key()
        line = key.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()
        self._body = json.dumps({"public_key": line, "jwt": token, "issuer": issuer})

    def run(self, *, callers: int, seconds: float) -> tuple[float, float, float]:
        """Certificates per second, median and 99th percentile in milliseconds."""
        times: list[float] = []
        failures: list[str] = []
        deadline = time.perf_counter() + seconds
        started = time.perf_counter()
        threads = [threading.Thread(target=self._call, args=(deadline, times, failures)) for _ in range(callers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(seconds + 30)
        elapsed = time.perf_counter() - started
        if failures:
            raise RuntimeError(f"{len(failures)} requests failed, the first: {failures[0]}")
        ordered = sorted(times)
        return len(times) / elapsed, statistics.median(ordered) * 1000, ordered[int(len(ordered) * 0.99) - 1] * 1000

    def _call(self, deadline: float, times: list[float], failures: list[str]) -> None:
        connection = http.client.HTTPConnection(*self._address, timeout=15)
        with contextlib.closing(connection):
            while time.perf_counter() < deadline and not failures:
                started = time.perf_counter()
                connection.request("POST", "/cdn-cgi/access/cert_sign", body=self._body, headers=self._headers)
                answer = connection.getresponse()
                body = answer.read()
                if answer.status != 200:
                    failures.append(f"{answer.status} {body[:200]!r}")
                times.append(time.perf_counter() - started)


if __name__ == "__main__":
    sys.exit(main())
