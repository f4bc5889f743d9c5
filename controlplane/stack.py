"""`make run`: everything on one machine. Prepares state and database, starts each process, prints what to do next.

    STATE_DIR/secrets.json      keys of this installation, made once (0600)
    STATE_DIR/quickstart.json   addresses and first credentials for scripts (0600)
    STATE_DIR/logs/*.log        what each process says

Without REDIS_URL the web process carries the Celery worker and beat; with it, worker and beat are processes of their
own and only workers receive the key that opens SSH authorities. Runs in the foreground; SIGINT or SIGTERM stops all.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
READY_SECONDS = 120.0
STOP_SECONDS = 20.0
_SECRET_BYTES = 32
_PR_SET_PDEATHSIG = 1


class StackError(Exception):
    """Something that keeps the stack from running; the message is for the person at the terminal."""


@dataclass(frozen=True)
class Plan:
    """Addresses and paths of this run."""

    state: Path
    host: str
    port: int
    edge_port: int
    tunnel_port: int

    @property
    def dashboard_url(self) -> str:
        return f"http://{'localhost' if self.host in {'127.0.0.1', '0.0.0.0'} else self.host}:{self.port}"  # noqa: S104

    @property
    def control_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@dataclass
class Child:
    name: str
    process: subprocess.Popen[bytes]
    log: Path


def main() -> int:
    try:
        return _run(_plan())
    except StackError as error:
        print(f"sallyport: {error}", file=sys.stderr)
        return 1


def _plan() -> Plan:
    state = Path(os.environ.get("STATE_DIR", ROOT / "var")).absolute()
    plan = Plan(
        state=state,
        host=os.environ.get("HOST", "127.0.0.1"),
        port=_port("PORT", 8000),
        edge_port=_port("EDGE_PORT", 8443),
        tunnel_port=_port("TUNNEL_PORT", 7844),
    )
    ports = {"PORT": plan.port, "EDGE_PORT": plan.edge_port, "TUNNEL_PORT": plan.tunnel_port}
    if len(set(ports.values())) < len(ports):
        raise StackError("PORT, EDGE_PORT and TUNNEL_PORT must be three different ports")
    for name, port in ports.items():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((plan.host, port))
            except OSError as error:
                raise StackError(f"port {port} is taken; choose another with {name}=… ({error.strerror})") from error
    return plan


def _port(name: str, default: int) -> int:
    value = os.environ.get(name, str(default))
    if not value.isdigit() or not 0 < int(value) < 65536:
        raise StackError(f"{name} must be a port number, it is {value!r}")
    return int(value)


def _run(plan: Plan) -> int:
    stopping: list[int] = []

    def stop(number: int, _: FrameType | None) -> None:
        stopping.append(number)

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    os.umask(0o077)  # database, logs and mails are nobody else's, even in a directory that others may enter
    plan.state.mkdir(parents=True, exist_ok=True)
    with _only_one(plan.state):
        return _run_all(plan, stopping)


@contextlib.contextmanager
def _only_one(state: Path) -> Iterator[None]:
    """The embedded broker and worker live in one process: a second one on the same state would lose tasks."""
    with (state / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StackError(f"already running on {state}; stop it first, or choose another STATE_DIR") from error
        yield


def _run_all(plan: Plan, stopping: list[int]) -> int:
    (plan.state / "logs").mkdir(exist_ok=True)
    keys = _load_or_make_secrets(plan.state / "secrets.json")
    common = _common_environment(plan, keys, os.environ)
    control = _control_environment(common, keys)
    worker = {**control, "AUTHORITY_SEAL_KEY": keys["AUTHORITY_SEAL_KEY"]}
    print("Preparing the database …", flush=True)
    # One process for both: starting it takes longer than its work on a database that is up to date.
    _manage(["prepare_demo", "--migrate", "--output", str(plan.state / "demo.json")], worker, plan)
    children: list[Child] = []
    # Until quickstart.json is written and the edge is up, /healthz does not say "ready".
    starting = plan.state / "starting"
    starting.touch()
    try:
        split = bool(os.environ.get("REDIS_URL"))
        web = {**(control if split else worker), "STARTING_FILE": str(starting)}
        children.append(_start("web", _web_command(plan, split), web, plan))
        if split:
            for number in range(1, int(os.environ.get("WORKERS", "1")) + 1):
                name = f"worker-{number}"
                children.append(_start(name, _celery("worker", f"--hostname={name}@%h", *_WORKER_FLAGS), worker, plan))
            children.append(_start("beat", _celery("beat", "--scheduler", "celery.beat:Scheduler"), control, plan))
        _wait_for(lambda: _is_up(f"{plan.control_url}/healthz"), children, stopping, "the control plane")
        children.append(_start("edge", [sys.executable, "-m", "dataplane.cli", "edge", "run"], common, plan))
        edge_log = plan.state / "logs" / "edge.log"
        _wait_for(lambda: "edge ready" in edge_log.read_text(errors="replace"), children, stopping, "the edge")
        if stopping:
            return 0
        facts = _write_quickstart(plan)
        starting.unlink()
        _announce(plan, facts)
        return _watch(children, stopping)
    finally:
        _stop(children)


_WORKER_FLAGS = (
    "--queues=signing,default",
    "--pool=threads",
    "--concurrency=4",
    "--without-gossip",
    "--without-mingle",
)


def _load_or_make_secrets(path: Path) -> dict[str, str]:
    if not path.exists():
        made = {
            name: secrets.token_hex(_SECRET_BYTES)
            for name in ("SECRET_KEY", "SEAL_KEY", "AUTHORITY_SEAL_KEY", "EDGE_TOKEN")
        }
        _write_private(path, made)
    try:
        stored: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StackError(
            f"{path} cannot be read; without it sealed data is lost, restore it from a backup ({error})"
        ) from error
    return {name: os.environ.get(name, value) for name, value in stored.items()}


def _common_environment(plan: Plan, keys: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    """For every process, the edge included: no key that opens sealed data."""
    state = plan.state
    defaults = {
        "ACCESS_DOMAIN": "access.localhost",
        "TUNNEL_DOMAIN": "tunnel.localhost",
        "EDGE_PUBLIC_PORT": str(plan.edge_port),
        "DASHBOARD_URL": plan.dashboard_url,
        "DASHBOARD_HOSTS": f"localhost,127.0.0.1,{plan.host}",
        "TUNNEL_EDGES": f"127.0.0.1:{plan.tunnel_port}",
        "EDGE_ADDRESS": f"127.0.0.1:{plan.edge_port}",
        "EDGE_CA_FILE": str(state / "edge" / "ca.pem"),
        "GEOIP_DATABASE": str(state / "demo-country.mmdb"),
        "UNVERIFIED_ZONE_SUFFIX": "localhost",
        "MAIL_DIR": str(state / "mail"),
        "DATABASE_URL": f"sqlite:///{state / 'sallyport.sqlite3'}",
        "FETCH_ALLOWED_PRIVATE_HOSTS": "",
        "CONTROL_PLANE_URL": plan.control_url,
        "EDGE_STATE_DIR": str(state / "edge"),
        "EDGE_HOST": plan.host,
        "EDGE_CONTROL_PORT": "0",
        "EDGE_NAME": "local",
        "EDGE_LOCATION": "local",
        # performance.md 3: without these each large read pays for fresh memory pages.
        "MALLOC_MMAP_THRESHOLD_": "8388608",
        "MALLOC_TRIM_THRESHOLD_": "16777216",
    }
    fixed = {
        "STATE_DIR": str(state),
        "EDGE_PORT": str(plan.edge_port),
        "TUNNEL_PORT": str(plan.tunnel_port),
        "EDGE_TOKEN": keys["EDGE_TOKEN"],
        "DJANGO_SETTINGS_MODULE": "controlplane.settings",
        "PYTHONUNBUFFERED": "1",
        "PYTHONPATH": str(ROOT),
    }
    hidden = {"SECRET_KEY", "SEAL_KEY", "AUTHORITY_SEAL_KEY"}
    inherited = {name: value for name, value in given.items() if name not in hidden}
    (state / "mail").mkdir(exist_ok=True, mode=0o700)
    return {**defaults, **inherited, **fixed}


def _control_environment(common: Mapping[str, str], keys: Mapping[str, str]) -> dict[str, str]:
    return {**common, "SECRET_KEY": keys["SECRET_KEY"], "SEAL_KEY": keys["SEAL_KEY"]}


def manage_environment(plan: Plan, given: Mapping[str, str]) -> dict[str, str]:
    """For manage.py beside a running stack that was started with `given`: what its web process has."""
    keys = _load_or_make_secrets(plan.state / "secrets.json")
    return _control_environment(_common_environment(plan, keys, given), keys)


def _web_command(plan: Plan, split: bool) -> list[str]:
    # The in-memory broker lives in one process, so the embedded set-up has exactly one worker.
    workers = os.environ.get("WEB_WORKERS", str(os.cpu_count() or 1)) if split else "1"
    threads = os.environ.get("WEB_THREADS", "8")
    command = [sys.executable, "-m", "granian", "--interface", "wsgi", "--host", plan.host, "--port", str(plan.port)]
    limits = ["--workers", workers, "--blocking-threads", threads, "--backlog", "1024", "--no-ws", "--http", "1"]
    return [*command, *limits, "--log-level", "warning", "controlplane.wsgi:application"]


def _celery(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "celery", "--app", "controlplane", *arguments, "--loglevel", "WARNING"]


def _manage(arguments: list[str], environment: Mapping[str, str], plan: Plan) -> None:
    command = [sys.executable, str(ROOT / "manage.py"), *arguments]
    done = subprocess.run(
        command, env=dict(environment), cwd=ROOT, capture_output=True, text=True, check=False, timeout=300
    )
    if done.returncode != 0:
        raise StackError(f"manage.py {arguments[0]} failed:\n{done.stdout}{done.stderr}")


def _start(name: str, command: list[str], environment: Mapping[str, str], plan: Plan) -> Child:
    log = plan.state / "logs" / f"{name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env=dict(environment), cwd=ROOT, stdout=output, stderr=output, preexec_fn=_die_with_parent
        )
    return Child(name, process, log)


def _die_with_parent() -> None:
    """A killed supervisor must not leave servers behind (Linux only; elsewhere the signal handlers have to do)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the supervisor decides the order of stopping


def _wait_for(ready: Any, children: list[Child], stopping: list[int], what: str) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while not stopping and not ready():
        for child in children:
            if child.process.poll() is not None:
                raise StackError(f"{child.name} ended at once:\n{_tail(child.log)}")
        if time.monotonic() > deadline:
            raise StackError(f"{what} was not ready after {READY_SECONDS:.0f} s; see {children[-1].log}")
        time.sleep(0.05)


def _is_up(url: str) -> bool:
    """Serving, though `starting` is still there."""
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310 - our own http address
            return bool(answer.status == 200)
    except urllib.error.HTTPError as error:
        return error.code == 503 and b"starting" in error.read(100)
    except OSError:
        return False


def _write_quickstart(plan: Plan) -> dict[str, str]:
    demo: dict[str, str] = json.loads((plan.state / "demo.json").read_text(encoding="utf-8"))
    facts = {
        **demo,
        "dashboard_url": plan.dashboard_url,
        "api_url": f"{plan.dashboard_url}/client/v4",
        "edge_url": f"https://localhost:{plan.edge_port}",
        "edge_address": f"127.0.0.1:{plan.edge_port}",
        "edge_ca": str(plan.state / "edge" / "ca.pem"),
        "tunnel_edge": f"127.0.0.1:{plan.tunnel_port}",
        "tunnel_domain": os.environ.get("TUNNEL_DOMAIN", "tunnel.localhost"),
        "mail_dir": str(plan.state / "mail"),
    }
    _write_private(plan.state / "quickstart.json", facts)
    return facts


def _write_private(path: Path, content: Mapping[str, str]) -> None:
    temporary = path.with_suffix(".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(content, file, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _announce(plan: Plan, facts: Mapping[str, str]) -> None:
    print(
        f"""
Sallyport is running.

  Dashboard    {facts["dashboard_url"]}
  Sign in      {facts["admin_email"]}
  Password     {facts["admin_password"]}

  Organization Widget Corp · zone {facts["zone"]} · team domain {facts["team_domain"]}
  Edge         {facts["edge_address"]} (TLS; its CA: {facts["edge_ca"]})
  Connectors   dial {facts["tunnel_edge"]}
  For scripts  {plan.state / "quickstart.json"}
  Logs         {plan.state / "logs"} · e-mails sent: {facts["mail_dir"]}

Next: sign in; the home page leads you through the first SSH login. Ctrl-C stops everything.
""",
        flush=True,
    )


def _watch(children: list[Child], stopping: list[int]) -> int:
    while not stopping:
        for child in children:
            code = child.process.poll()
            if code is not None:
                print(
                    f"sallyport: {child.name} ended with code {code}; stopping. Its last words:\n{_tail(child.log)}",
                    file=sys.stderr,
                )
                return 1
        time.sleep(0.2)
    print("Stopping …", flush=True)
    return 0


def _stop(children: list[Child]) -> None:
    """Edge first, so that it reports its closed connections while the control plane still listens."""
    for child in reversed(children):
        if child.process.poll() is None:
            child.process.terminate()
            try:
                child.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                child.process.kill()
                child.process.wait(5)


def _tail(log: Path, lines: int = 20) -> str:
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


if __name__ == "__main__":
    sys.exit(main())
