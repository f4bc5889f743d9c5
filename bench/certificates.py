"""Certificates per second and latency through HTTP, policy and Celery, as a share of raw signing in the same run.

    .venv/bin/python -m bench.certificates

Three set-ups: embedded (SQLite, in-memory broker), Redis and PostgreSQL with one worker, and with two. Requests go to
the control plane as the edge sends them. Two anchors, each measured in the same run: the certificate builder alone in
this process, and the bare Celery round trip of the same set-up (the same queue and workers, a job that returns its
argument). The CPU column counts what all processes of the installation and its servers spent per certificate, and "of
raw" is the builder's CPU time in relation to it: both stay meaningful on a busy machine, where rates do not.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import statistics
import subprocess
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

from dataplane.client.possession import prove
from dataplane.state import DIRECTORY_NAME, State
from demo.first_login import HOSTNAME, build_application, identity_provider
from demo.installation import Installation, installation
from demo.person import Person
from tools.services import free_port, services

SECONDS = 4.0
CALLERS = (1, 8, 32)
ROUND_TRIPS = 300
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Figures:
    name: str
    callers: int
    per_second: float
    p50_ms: float
    p99_ms: float
    cpu_ms: float
    round_trip_ms: float


def main() -> int:
    raw_ms = raw_signing_ms()
    rows: list[Figures] = []
    with tempfile.TemporaryDirectory(prefix="sallyport-bench-") as directory:
        base = Path(directory)
        rows += measure_setups({"embedded, SQLite": {}}, base / "embedded")
        with services() as variables:
            setups = {f"Redis, PostgreSQL, {n} worker(s)": {**variables, "WORKERS": str(n)} for n in (1, 2)}
            rows += measure_setups(setups, base / "redis")
    anchor = f"{raw_ms:.3f} ms of CPU, {1000 / raw_ms:,.0f} a second and core"
    print(f"\nraw SSHCertificateBuilder, Ed25519: {anchor} (anchor)")
    print(f"load at the end: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores\n")
    names = ("callers", "cert/s", "p50 ms", "p99 ms", "CPU ms", "of raw", "Celery ms", "p50/Celery")
    print(f"{'set-up':30}" + "".join(f"{name:>11}" for name in names))
    for row in rows:
        share, ratio = raw_ms / row.cpu_ms, row.p50_ms / row.round_trip_ms
        print(
            f"{row.name:30}{row.callers:11d}{row.per_second:11.0f}{row.p50_ms:11.1f}{row.p99_ms:11.1f}"
            f"{row.cpu_ms:11.1f}{share:11.1%}{row.round_trip_ms:11.1f}{ratio:10.1f}x"
        )
    return 0


def raw_signing_ms() -> float:
    """Builder and signature only: CPU time of one certificate in milliseconds."""
    authority, key = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate().public_key()
    now = int(datetime.now(UTC).timestamp())
    count, started = 0, time.thread_time()
    while time.thread_time() - started < 1.0:
        builder = SSHCertificateBuilder().public_key(key).serial(count + 1).type(SSHCertificateType.USER)
        builder = builder.key_id(b"bench").valid_principals([b"alice"]).valid_after(now).valid_before(now + 240)
        builder.add_extension(b"permit-pty", b"").sign(authority)
        count += 1
    return (time.thread_time() - started) * 1000 / count


def measure_setups(setups: dict[str, dict[str, str]], state: Path) -> list[Figures]:
    """One installation, started once for each of the environments."""
    rows: list[Figures] = []
    token = ""
    port = free_port()
    # Tokens name their issuer with the edge's port, so it stays.
    kept = {"FETCH_ALLOWED_PRIVATE_HOSTS": f"127.0.0.1:{port}", "EDGE_PORT": str(free_port())}
    kept |= {"SIGNING_LIMIT_PER_IDENTITY": "0", "SIGNING_LIMIT_PER_ORGANIZATION": "0"}
    with identity_provider(port) as issuer:
        for name, environment in setups.items():
            with installation(state / "var", **kept, **environment) as here:
                token = token or log_in(here, issuer, state)
                rows += measure(name, Caller(here, token, state), round_trip_ms(here, environment))
    return rows


def log_in(here: Installation, issuer: str, state: Path) -> str:
    """Build the application and its authority; Alice's token for it."""
    application = build_application(here, issuer, ["127.0.0.1:22"])
    here.api("POST", f"/accounts/{{account}}/access/apps/{application['id']}/ca")
    alice = Person.at("alice", state, here)
    done = alice.sallyport("access", "login", "--no-verbose", f"https://{HOSTNAME}")
    if done.returncode != 0:
        raise RuntimeError(f"login failed: {done.stderr}")
    return done.stdout.strip()


def measure(name: str, caller: Caller, round_trip: float) -> list[Figures]:
    caller.run(callers=2, seconds=1.0)  # warm-up: connections, unsealed key, compiled queries
    rows = []
    for callers in CALLERS:
        before = cpu_seconds()
        rate, p50, p99 = caller.run(callers=callers, seconds=SECONDS)
        spent = (cpu_seconds() - before) * 1000 / (rate * SECONDS)
        rows.append(Figures(name, callers, rate, p50, p99, spent, round_trip))
    return rows


def round_trip_ms(here: Installation, environment: dict[str, str]) -> float:
    """Median of the bare Celery round trip, one caller."""
    if "REDIS_URL" in environment:
        return _probe(environment)
    # The broker of the embedded set-up lives inside its one process: the same worker settings in a process of our own.
    return _probe({"STATE_DIR": str(here.state), "DATABASE_URL": f"sqlite:///{here.state / 'sallyport.sqlite3'}"})


def _probe(environment: dict[str, str]) -> float:
    made = dict.fromkeys(("SECRET_KEY", "SEAL_KEY", "AUTHORITY_SEAL_KEY", "EDGE_TOKEN"), "00" * 32)
    names = {
        "ACCESS_DOMAIN": "access.localhost",
        "TUNNEL_DOMAIN": "tunnel.localhost",
        "DASHBOARD_URL": "http://localhost",
    }
    done = subprocess.run(
        [sys.executable, "-m", "bench.roundtrip", str(ROUND_TRIPS)],
        env={**os.environ, **made, **names, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    if done.returncode != 0:
        raise RuntimeError(f"the Celery round trip could not be measured:\n{done.stderr[-2000:]}")
    return float(done.stdout.split()[-1])


def cpu_seconds() -> float:
    """Spent so far by all processes below this one: installation, PostgreSQL, Redis."""
    parents: dict[int, list[int]] = {}
    spent: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            pid = int(path.parent.name)
            parents.setdefault(int(fields[1]), []).append(pid)
            spent[pid] = int(fields[11]) + int(fields[12])
    below, waiting = 0, list(parents.get(os.getpid(), []))
    while waiting:
        pid = waiting.pop()
        below += spent[pid]
        waiting += parents.get(pid, [])
    return below / _TICKS


class Caller:
    """Plays the edge: cert_sign requests straight to the control plane, each caller on one kept connection."""

    def __init__(self, here: Installation, token: str, state: Path) -> None:
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
        self._key, self._token, self._issuer = Ed25519PrivateKey.generate(), token, issuer
        line = (
            self._key.public_key()
            .public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
            .decode()
        )
        self._line = line
        # Where Alice's client keeps the device key that her token is bound to.
        self._state = State(state / "alice" / DIRECTORY_NAME)
        self._audience = str(json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))["aud"][0])

    def _body(self) -> str:
        """With a proof of its own: each is good once. Making it is this process's work, before the clock starts."""
        proof = prove(
            self._state,
            self._key,
            self._line,
            issuer=self._issuer,
            audience=self._audience,
            credential=self._token,
        )
        return json.dumps({"public_key": self._line, "jwt": self._token, "issuer": self._issuer, "proof": proof})

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
                body_of_request = self._body()
                started = time.perf_counter()
                connection.request("POST", "/cdn-cgi/access/cert_sign", body=body_of_request, headers=self._headers)
                answer = connection.getresponse()
                body = answer.read()
                if answer.status != 200:
                    failures.append(f"{answer.status} {body[:200]!r}")
                times.append(time.perf_counter() - started)


if __name__ == "__main__":
    sys.exit(main())
