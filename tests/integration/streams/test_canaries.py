"""Secrets of a real run, looked for in every file that installation, connector and sshd wrote (AC-37, AC-57, AC-92)."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from dataplane.wire.credentials import TunnelCredentials
from demo.first_login import HOSTNAME
from demo.person import Person
from tests.integration.kit import Workshop

pytestmark = pytest.mark.integration
# Where an installation keeps what it must keep: its own keys, the facts for scripts, and the mail it sent.
# stack.log is the terminal of `make run`, which tells the first password; demo.json keeps it for the next start.
HOMES_OF_SECRETS = ("quickstart.json", "secrets.json", "demo.json", "stack.log", "mail/", "edge/ca.key")
JWT = re.compile(rb"eyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}")
PEM = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----")
ONE_TIME = re.compile(rb"[?&](nonce|code|state|token|meta|ctx)=[A-Za-z0-9_-]{16,}")


def test_ac37_ac92_no_secret_of_a_login_is_in_any_file(workshop: Workshop) -> None:
    alice = workshop.person("alice")
    assert alice.ssh(workshop.remote, "echo in").stdout == "in\n"
    wanted = canaries(workshop, alice)
    files = dict(written(workshop))
    assert any(name.endswith(("edge/snapshot.json", "sallyport.sqlite3")) for name in files)
    assert any(name.endswith(".log") and content for name, content in files.items())
    found = [
        f"{what} in {name}" for name, content in files.items() for what, secret in wanted.items() if secret in content
    ]
    found += [f"a token in {name}" for name, content in files.items() if JWT.search(content)]
    found += [f"a private key in {name}" for name, content in files.items() if PEM.search(content)]
    found += [
        f"a one-time value in {name}"
        for name, content in files.items()
        if name.endswith(".log") and ONE_TIME.search(content)
    ]
    assert found == []


def canaries(workshop: Workshop, alice: Person) -> dict[str, bytes]:
    facts = workshop.here.facts
    texts = {"the admin's password": facts["admin_password"], "the API token": facts["api_token"]}
    texts["the provider's client secret"] = "demo-secret"
    texts |= {f"installation key {name}": key for name, key in installation_keys(workshop).items()}
    token = workshop.here.api("GET", f"/accounts/{{account}}/cfd_tunnel/{workshop.tunnel_id}/token")
    texts["the tunnel's token"] = token
    secrets = {f"{what}, text": text.encode() for what, text in texts.items()}
    file = json.loads((workshop.operator.home / ".sallyport" / f"{workshop.tunnel_id}.json").read_text())
    for what, secret in (
        ("tunnel token's secret", TunnelCredentials.from_token(token).secret),
        ("credentials file's secret", base64.b64decode(file["TunnelSecret"])),
        *((f"{name}, raw", bytes.fromhex(key)) for name, key in installation_keys(workshop).items() if is_hex(key)),
    ):
        secrets |= {f"{what}, raw": secret, f"{what}, base64": base64.b64encode(secret)}
        secrets[f"{what}, hex"] = secret.hex().encode()
    private = alice.certificate(HOSTNAME).with_name(alice.certificate(HOSTNAME).name.removesuffix("-cert.pub"))
    body = "".join(private.read_text().splitlines()[1:-1])
    # The middle of the file: the head holds the public key.
    secrets["alice's private key"] = body[-120:-40].encode()
    assert all(len(secret) >= 10 for secret in secrets.values())
    return secrets


def installation_keys(workshop: Workshop) -> dict[str, str]:
    keys: dict[str, str] = json.loads((workshop.here.state / "secrets.json").read_text())
    return keys


def is_hex(text: str) -> bool:
    return re.fullmatch(r"(?:[0-9a-f]{2})+", text) is not None


def written(workshop: Workshop) -> Iterator[tuple[str, bytes]]:
    roots: tuple[Path, ...] = (workshop.here.state, workshop.base / "sshd", workshop.operator.home)
    for root in roots:
        for path in sorted(root.rglob("*")):
            name = str(path.relative_to(root))
            is_home = name.startswith(HOMES_OF_SECRETS) or (root == workshop.operator.home and path.suffix != ".log")
            # The sshd of the tests keeps its own host key there.
            is_host_key = root.name == "sshd" and path.suffix != ".log"
            if path.is_file() and not is_home and not is_host_key:
                yield f"{root.name}/{name}", path.read_bytes()
