"""`make demo`: the tutorial without hands. A real identity provider process, a real sshd, the stock OpenSSH client.

Exits 0 only if a command's output came through a certificate-authenticated session (serial, key id and CA fingerprint
read from sshd's own log), a person outside the policy was refused with a reason, a revoked person's live session was
cut, and the certificate she still held was refused by sshd once it had the revocation list.
"""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from demo.installation import ROOT, Installation, installation
from demo.person import Person
from demo.sshd import Sshd, sshd
from tools.services import free_port

HOSTNAME = "ssh-bastion.widgetcorp.localhost"
TUNNEL = "ssh-pool"
CERTIFICATE_SECONDS = 60
_STARTED = time.monotonic()


class DemoFailed(Exception):
    """A step did not show what it has to show."""


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="sallyport-demo-") as directory, contextlib.ExitStack() as stack:
        try:
            _tell(Path(directory), stack)
        except (DemoFailed, RuntimeError, LookupError) as error:
            print(f"\nDEMO FAILED: {error}", file=sys.stderr)
            return 1
    print(f"\nEverything worked, {time.monotonic() - _STARTED:.1f} s in all.")
    return 0


def _tell(base: Path, stack: contextlib.ExitStack) -> None:
    idp_port = free_port()
    with _step("Identity provider: a separate OpenID Connect process"):
        issuer = stack.enter_context(identity_provider(idp_port))
    with _step("make run: control plane, worker, beat and edge"):
        here = stack.enter_context(installation(base / "var", FETCH_ALLOWED_PRIVATE_HOSTS=f"127.0.0.1:{idp_port}"))
    with _step("sshd: stock, own configuration, trusting an empty CA file"):
        server = stack.enter_context(sshd(base / "sshd", principals=["alice"]))
    with _step("1 Login method, group (claim and country), application with a policy"):
        application = build_application(here, issuer, [f"127.0.0.1:{server.port}"])
    with _step(f"2 sallyport tunnel create {TUNNEL}, config.yml, tunnel run"):
        operator = Person.at("operator", base, here)
        tunnel_id = create_tunnel(operator)
        stack.enter_context(run_tunnel(operator, tunnel_id))
        wait_until(lambda: _connections(here, tunnel_id) >= 4, "four connections")
    with _step(f"3 DNS: CNAME {HOSTNAME.split('.')[0]} -> {tunnel_id}.{here.facts['tunnel_domain']}"):
        _must(operator_cli(operator, "tunnel", "route", "dns", TUNNEL, HOSTNAME), "route dns")
    with _step("4 Service Auth > SSH: generate certificate, trust it in sshd"):
        authority = here.api("POST", f"/accounts/{{account}}/access/apps/{application['id']}/ca")
        _check(authority["aud"] == application["aud"], "the audience tag is the application's")
        server.ca_file.write_text(authority["public_key"] + "\n", encoding="utf-8")
    alice = Person.at("alice", base, here)
    with _step("5 sallyport access ssh-config, ssh: browser, login, approve, shell"):
        alice.configure(HOSTNAME)
        done = alice.ssh(f"{server.account}@{HOSTNAME}", "echo through-the-door; id -un")
        _check(done.stdout.split() == ["through-the-door", server.account], f"remote output; got {done}")
        _check(bool(alice.browser_saw()["code"]) and alice.browser_saw()["code"] in done.stderr, "codes match")
    with _step("  sshd's log names serial, key id and authority of that certificate"):
        _check_sshd_log(server, alice, here, authority)
    with _step("  the second ssh needs no browser; scp, rsync, port forwarding, exit codes"):
        _use_it(alice, server, base)
    with _step("6 carol is outside the policy: refused, with a reason"):
        carol = Person.at("carol", base, here)
        carol.configure(HOSTNAME)
        refused = carol.ssh(f"{server.account}@{HOSTNAME}", "echo never")
        _check(refused.returncode != 0 and "never" not in refused.stdout, "carol got no shell")
        reason = next((line for line in refused.stderr.splitlines() if line.startswith("sallyport:")), "")
        _check("group" in reason and "reference" in reason, f"her terminal says why; it said {refused.stderr}")
        reference = reason.rpartition("reference ")[2].strip(")")
        _check(reference in carol.browser_saw()["text"], "her page names the same reference")
        print(f"      {reason}")
    with _step("7 alice is revoked: her live session is cut, nothing new is issued"):
        seconds = _revoke(alice, here, server)
        print(f"      live session ended {seconds:.1f} s after the revocation")
    with _step("8 the certificate she still holds: sshd takes it until it fetches the revocation list"):
        _refuse_revoked(alice, here, server, application["aud"])


@contextlib.contextmanager
def _step(title: str) -> Iterator[None]:
    started = time.monotonic()
    print(f"{started - _STARTED:6.1f} s  {title}", flush=True)
    yield
    print(f"          done in {time.monotonic() - started:.2f} s", flush=True)


def _check(holds: bool, what: str) -> None:
    if not holds:
        raise DemoFailed(what)


def _must(done: subprocess.CompletedProcess[str], what: str) -> str:
    if done.returncode != 0:
        raise DemoFailed(f"{what}: {done.stderr or done.stdout}")
    return done.stdout


def wait_until(condition: Any, what: str, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise DemoFailed(f"{what} did not come within {seconds:.0f} s")
        time.sleep(0.05)


@contextlib.contextmanager
def identity_provider(port: int) -> Iterator[str]:
    """Run demo.idp; yields its issuer URL."""
    command = [sys.executable, "-m", "demo.idp", "--port", str(port)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: _listens(port), "the identity provider")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def build_application(here: Installation, issuer: str, destinations: list[str]) -> dict[str, Any]:
    """Login method, Access group, application and policy through the public API."""
    provider = here.api(
        "POST",
        "/accounts/{account}/access/identity_providers",
        {
            "name": "Demo IdP",
            "type": "oidc",
            "config": {
                "client_id": "sallyport",
                "client_secret": "demo-secret",
                "auth_url": f"{issuer}/authorize",
                "token_url": f"{issuer}/token",
                "certs_url": f"{issuer}/jwks",
                "issuer": issuer,
                "scopes": ["openid", "email", "profile", "groups"],
                "claims": ["groups"],
                "pkce_enabled": True,
            },
        },
    )
    claim = {"identity_provider_id": provider["id"], "claim_name": "groups", "claim_value": "engineering"}
    group = here.api(
        "POST",
        "/accounts/{account}/access/groups",
        {"name": "SSH engineers", "include": [{"oidc": claim}], "require": [{"geo": {"country_code": "PT"}}]},
    )
    application: dict[str, Any] = here.api(
        "POST",
        "/accounts/{account}/access/apps",
        {
            "type": "self_hosted",
            "name": "SSH bastion",
            "domain": HOSTNAME,
            "allowed_idps": [provider["id"]],
            "policies": [
                {"name": "Engineers", "decision": "allow", "include": [{"group": {"id": group["id"]}}], "precedence": 1}
            ],
            "ssh_profile": {
                "certificate_lifetime_seconds": CERTIFICATE_SECONDS,
                "bastion_destinations": destinations,
            },
        },
    )
    return application


def operator_cli(operator: Person, *arguments: str) -> subprocess.CompletedProcess[str]:
    facts = operator.installation.facts
    credentials = {"SALLYPORT_API_URL": facts["api_url"], "SALLYPORT_API_TOKEN": facts["api_token"]}
    return subprocess.run(
        [sys.executable, "-m", "dataplane.cli", *arguments],
        env={**operator.environment, **credentials},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def create_tunnel(operator: Person) -> str:
    """`tunnel create`, then the tutorial's YAML with its very keys. Returns the tunnel's UUID."""
    said = _must(operator_cli(operator, "tunnel", "create", TUNNEL), "tunnel create")
    found = re.search(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", said)
    _check(found is not None, f"tunnel create printed no UUID: {said}")
    tunnel_id = found.group() if found else ""
    folder = operator.home / ".sallyport"
    configuration = {
        "tunnel": tunnel_id,
        "credentials-file": str(folder / f"{tunnel_id}.json"),
        "logDirectory": str(folder),
        "http2": True,
        "ingress": [{"hostname": HOSTNAME, "service": "bastion"}, {"service": "http_status:404"}],
    }
    (folder / "config.yml").write_text(yaml.safe_dump(configuration, sort_keys=False), encoding="utf-8")
    return tunnel_id


@contextlib.contextmanager
def run_tunnel(operator: Person, tunnel: str) -> Iterator[subprocess.Popen[bytes]]:
    facts = operator.installation.facts
    dial = {"TUNNEL_EDGE": ",".join([facts["tunnel_edge"]] * 4), "TUNNEL_CACERT": facts["edge_ca"]}
    with (operator.home / "connector.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "dataplane.cli", "tunnel", "run", tunnel],
            env={**operator.environment, **dial},
            stdout=log,
            stderr=log,
        )
    try:
        yield process
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(15)
        process.kill()


def _connections(here: Installation, tunnel_id: str) -> int:
    clients = here.api("GET", f"/accounts/{{account}}/cfd_tunnel/{tunnel_id}/connections")
    return sum(len(client["conns"]) for client in clients)


def _check_sshd_log(server: Sshd, alice: Person, here: Installation, authority: dict[str, Any]) -> None:
    shown = subprocess.run(
        ["ssh-keygen", "-L", "-f", str(alice.certificate(HOSTNAME))],
        capture_output=True,
        text=True,
        timeout=10,
        check=True,
    ).stdout
    serial = re.search(r"Serial: (\d+)", shown)
    key_id = re.search(r'Key ID: "([^"]+)"', shown)
    _check(serial is not None and key_id is not None, f"ssh-keygen read the certificate: {shown}")
    fingerprint = subprocess.run(
        ["ssh-keygen", "-l", "-f", str(server.ca_file)], capture_output=True, text=True, timeout=10, check=True
    ).stdout.split()[1]
    accepted = [line for line in server.log().splitlines() if line.startswith("Accepted publickey")]
    wanted = [
        f"(serial {serial.group(1) if serial else ''})",
        f"ID {key_id.group(1) if key_id else ''} ",
        f"CA ED25519 {fingerprint}",
    ]
    _check(any(all(word in line for word in wanted) for line in accepted), f"{wanted} in sshd's log: {accepted}")
    print(f"      {next(line for line in accepted if wanted[0] in line)}")
    _check(authority["public_key"].split()[1] in server.ca_file.read_text(), "the CA file holds the authority's key")


def _use_it(alice: Person, server: Sshd, base: Path) -> None:
    (alice.home / "browser.json").unlink()
    remote = f"{server.account}@{HOSTNAME}"
    again = alice.ssh(remote, "exit 7")
    _check(again.returncode == 7, f"the remote exit code 7 came back; got {again}")
    _check(not (alice.home / "browser.json").exists(), "no browser was needed")
    source = base / "payload.bin"
    source.write_bytes(bytes(range(256)) * 8192)  # 2 MiB
    copied, synced = base / "copied.bin", base / "synced.bin"
    _must(alice.ssh("-q", str(source), f"{remote}:{copied}", program="scp"), "scp")
    _check(copied.read_bytes() == source.read_bytes(), "scp copied byte for byte")
    config = str(alice.home / ".ssh" / "config")
    rsync = ["rsync", "-e", f"ssh -F {config}", str(source), f"{remote}:{synced}"]
    _must(
        subprocess.run(rsync, env=alice.environment, capture_output=True, text=True, timeout=60, check=False), "rsync"
    )
    _check(synced.read_bytes() == source.read_bytes(), "rsync copied byte for byte")
    port = free_port()
    forward = alice.ssh_command("-N", "-L", f"{port}:127.0.0.1:{server.port}", remote)
    process = subprocess.Popen(forward, env=alice.environment, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: _banner(port).startswith(b"SSH-2.0"), "the forwarded port answers as sshd")
    finally:
        process.terminate()
        process.wait(10)


def _banner(port: int) -> bytes:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 2) as connection:
        return connection.recv(64)
    return b""


def _revoke(alice: Person, here: Installation, server: Sshd) -> float:
    command = alice.ssh_command(f"{server.account}@{HOSTNAME}", "echo started; sleep 60")
    process = subprocess.Popen(
        command, env=alice.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        _check(process.stdout is not None and process.stdout.readline() == "started\n", "a live session")
        email = next(
            user["email"] for user in here.api("GET", "/accounts/{account}/access/users") if "alice" in user["email"]
        )
        started = time.monotonic()
        here.api("POST", "/accounts/{account}/access/organizations/revoke_user", {"email": email})
        process.wait(5)
        seconds = time.monotonic() - started
    except subprocess.TimeoutExpired as error:
        raise DemoFailed("the live session was not cut within 5 s") from error
    finally:
        process.kill()
    said = process.stderr.read() if process.stderr else ""
    print(f"      her terminal says: {said.strip().splitlines()[0] if said.strip() else '(nothing)'}")
    _check("revoked" in said.lower(), f"the reason reached the terminal: {said}")
    return seconds


def _refuse_revoked(alice: Person, here: Installation, server: Sshd, aud: str) -> None:
    before = alice.ssh_directly(HOSTNAME, server)
    _check(before.stdout == "inside\n", f"the certificate is still good for sshd alone; got {before}")
    server.install_revocations(from_team_domain(here, f"/cdn-cgi/access/ssh/{aud}/revoked.krl"))
    after = alice.ssh_directly(HOSTNAME, server)
    _check(after.returncode != 0 and "inside" not in after.stdout, f"sshd refused it; got {after}")
    line = next((line for line in server.log().splitlines() if "revoked" in line), "")
    _check(bool(line), "sshd's log says revoked")
    print(f"      {line}")


def from_team_domain(here: Installation, path: str) -> bytes:
    """A file that hosts fetch, through the edge."""
    host, _, port = here.facts["edge_address"].rpartition(":")
    context = ssl.create_default_context(cafile=here.facts["edge_ca"])
    with socket.create_connection((host, int(port)), 10) as plain:
        connection = http.client.HTTPSConnection(here.facts["team_domain"], int(port), timeout=10, context=context)
        connection.sock = context.wrap_socket(plain, server_hostname=here.facts["team_domain"])
        connection.request("GET", path)
        answer = connection.getresponse()
        content = answer.read()
    _check(answer.status == 200, f"{path} answered {answer.status}")
    return content


if __name__ == "__main__":
    sys.exit(main())
