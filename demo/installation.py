"""A whole installation in a temporary directory on free ports, started as `make run` starts it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from controlplane.stack import Plan, manage_environment
from tools.services import free_ports

ROOT = Path(__file__).resolve().parent.parent
_READY_SECONDS = 180.0
_STOP_SECONDS = 30.0


class ApiError(Exception):
    """The API refused; `status` and the first error's message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status
        self.message = message


@dataclass(frozen=True)
class Installation:
    state: Path
    facts: Mapping[str, str]  # quickstart.json
    process: subprocess.Popen[bytes]

    def api(self, method: str, path: str, body: object = None) -> Any:
        """The `result` of a /client/v4 call; {account} and {zone} in the path are filled in."""
        url = self.facts["api_url"] + path.format(account=self.facts["account_id"], zone=self.facts["zone_id"])
        request = urllib.request.Request(url, method=method, data=None if body is None else json.dumps(body).encode())
        request.add_header("Authorization", f"Bearer {self.facts['api_token']}")
        request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return json.load(answer)["result"]
        except urllib.error.HTTPError as error:
            text = error.read().decode("utf-8", "replace")
            try:
                message = json.loads(text)["errors"][0]["message"]
            except (ValueError, KeyError, IndexError):
                message = text[:300]
            raise ApiError(error.code, message) from error

    def manage(self, *arguments: str) -> str:
        """What `manage.py` prints, run beside the stack."""
        ports = (int(self.facts[name].rpartition(":")[2]) for name in ("dashboard_url", "edge_address", "tunnel_edge"))
        environment = manage_environment(Plan(self.state, "127.0.0.1", *ports), _kept_environment())
        command = [sys.executable, str(ROOT / "manage.py"), *arguments]
        done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"manage.py {arguments[0]} failed: {done.stderr}")
        return done.stdout

    def log(self, name: str) -> str:
        return (self.state / "logs" / f"{name}.log").read_text(encoding="utf-8", errors="replace")


@contextlib.contextmanager
def installation(state: Path, **environment: str) -> Iterator[Installation]:
    """Start the stack, wait for quickstart.json of this very start, stop it at the end."""
    ports = dict(zip(("PORT", "EDGE_PORT", "TUNNEL_PORT"), map(str, free_ports(3)), strict=True))
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    ready = state / "quickstart.json"
    ready.unlink(missing_ok=True)
    with (state / "stack.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "controlplane.stack"],
            cwd=ROOT,
            env={**_kept_environment(), **ports, "STATE_DIR": str(state), **environment},
            stdout=log,
            stderr=log,
        )
    try:
        _wait(process, ready, state / "stack.log")
        yield Installation(state, json.loads(ready.read_text(encoding="utf-8")), process)
    finally:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)


def _kept_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not _is_setting(name)}


def _is_setting(name: str) -> bool:
    """Variables of a test run that must not leak into a fresh installation (its keys and domains are its own)."""
    return name in {"SECRET_KEY", "SEAL_KEY", "AUTHORITY_SEAL_KEY", "EDGE_TOKEN", "ACCESS_DOMAIN", "TUNNEL_DOMAIN"} or (
        name in {"DASHBOARD_URL", "DASHBOARD_HOSTS", "DATABASE_URL", "REDIS_URL", "EMBEDDED_WORKER", "STATE_DIR"}
        or name == "DJANGO_SETTINGS_MODULE"
    )


def _wait(process: subprocess.Popen[bytes], ready: Path, log: Path) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while not ready.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"The installation did not start:\n{log.read_text(errors='replace')}")
        time.sleep(0.05)
