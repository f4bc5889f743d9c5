"""A private PostgreSQL and Redis on free loopback ports, for tests and benchmarks. Nothing of the system is touched."""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

_START_SECONDS = 30.0


def free_port() -> int:
    return free_ports(1)[0]


def free_ports(count: int) -> list[int]:
    """That many different ones: each is held until all are chosen, or the system may name one twice."""
    with contextlib.ExitStack() as held:
        listeners = [held.enter_context(socket.socket()) for _ in range(count)]
        for listener in listeners:
            listener.bind(("127.0.0.1", 0))
        return [int(listener.getsockname()[1]) for listener in listeners]


@contextlib.contextmanager
def services() -> Iterator[dict[str, str]]:
    """Start both; yields the environment variables that point at them; stops and removes both at the end."""
    directory = Path(tempfile.mkdtemp(prefix="sallyport-services-"))
    directory.chmod(0o755)
    processes: list[subprocess.Popen[bytes]] = []
    try:
        postgres_port, redis_port = free_ports(2)
        processes.append(_postgres(directory / "postgres", postgres_port))
        processes.append(_redis(directory / "redis", redis_port))
        _wait(postgres_port, "PostgreSQL")
        _wait(redis_port, "Redis")
        _create_database(postgres_port)
        yield {
            "DATABASE_URL": f"postgres://sallyport@127.0.0.1:{postgres_port}/sallyport",
            "REDIS_URL": f"redis://127.0.0.1:{redis_port}/0",
        }
    finally:
        for process in reversed(processes):
            process.send_signal(2)
        for process in processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(15)
            process.kill()
            process.wait(5)
        shutil.rmtree(directory, ignore_errors=True)


@contextlib.contextmanager
def redis_server() -> Iterator[str]:
    """One more Redis, for an installation that must share queues and cache with nobody; yields its URL."""
    directory, port = Path(tempfile.mkdtemp(prefix="sallyport-redis-")), free_port()
    process = _redis(directory / "redis", port)
    try:
        _wait(port, "Redis")
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.wait(15)
        shutil.rmtree(directory, ignore_errors=True)


def _postgres(data: Path, port: int) -> subprocess.Popen[bytes]:
    binaries = sorted(glob.glob("/usr/lib/postgresql/*/bin"))[-1]
    # PostgreSQL refuses to run as root; its package brings the user `postgres`.
    as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    data.mkdir()
    if as_user:
        shutil.chown(data, "postgres")
    subprocess.run(
        [*as_user, f"{binaries}/initdb", "-D", str(data), "-U", "sallyport", "--auth=trust", "--encoding=UTF8"],
        check=True,
        stdout=subprocess.DEVNULL,
        timeout=60,
        cwd="/",
    )
    # Durability is pointless for a database that is deleted afterwards.
    speed = [
        "-c",
        "fsync=off",
        "-c",
        "synchronous_commit=off",
        "-c",
        "full_page_writes=off",
        "-c",
        "max_connections=200",
    ]
    listen = ["-c", "listen_addresses=127.0.0.1", "-p", str(port), "-k", str(data)]
    with (data / "server.log").open("wb") as log:
        return subprocess.Popen(
            [*as_user, f"{binaries}/postgres", "-D", str(data), *listen, *speed], stdout=log, stderr=log, cwd="/"
        )


def _redis(data: Path, port: int) -> subprocess.Popen[bytes]:
    data.mkdir()
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(data)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


def _wait(port: int, name: str) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise RuntimeError(f"{name} did not start within {_START_SECONDS:.0f} s on port {port}.")


def _create_database(port: int) -> None:
    deadline = time.monotonic() + _START_SECONDS
    command = [
        "psql",
        "-h",
        "127.0.0.1",
        "-p",
        str(port),
        "-U",
        "sallyport",
        "-d",
        "postgres",
        "-qc",
        "CREATE DATABASE sallyport",
    ]
    while subprocess.run(command, capture_output=True, check=False, timeout=10).returncode != 0:
        if time.monotonic() > deadline:
            raise RuntimeError("PostgreSQL accepts connections but no database could be created.")
        time.sleep(0.1)
