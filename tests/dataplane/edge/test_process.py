"""The real process: start, restart, outage, certificates, drain, logs."""

import asyncio
import contextlib
import os
import re
import ssl
import stat
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography import x509

from dataplane.edge.certificates import CertificateError, CertificateStore
from dataplane.edge.main import run
from dataplane.edge.settings import SettingsError, read_settings
from tests.dataplane.edge.eyeball import Eyeball, Messages
from tests.dataplane.edge.fakes import (
    EDGE_TOKEN,
    SECRET,
    SSH_HOST,
    TEAM,
    FakeConnector,
    FakeControlPlane,
    make_token,
)

READY = re.compile(r"edge ready public=(\S+):(\d+) tunnel=(\S+):(\d+) control=(\S+)")


class EdgeProcess:
    def __init__(self, state_dir: Path, control_url: str, **environ: str) -> None:
        self.state_dir = state_dir
        self._environ = {
            **os.environ,
            "EDGE_PORT": "0",
            "TUNNEL_PORT": "0",
            "CONTROL_PLANE_URL": control_url,
            "EDGE_TOKEN": EDGE_TOKEN,
            "EDGE_STATE_DIR": str(state_dir),
            "EDGE_LOG_LEVEL": "DEBUG",
            **environ,
        }
        self.public = self.tunnel = ("", 0)
        self.tls: ssl.SSLContext
        self.log = b""

    async def start(self) -> "EdgeProcess":
        self.process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "dataplane.cli",
            "edge",
            "run",
            env=self._environ,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert self.process.stdout is not None
        line = (await asyncio.wait_for(self.process.stdout.readline(), 20)).decode()
        match = READY.match(line)
        assert match, line
        self.public, self.tunnel = (match[1], int(match[2])), (match[3], int(match[4]))
        self.tls = ssl.create_default_context(cafile=self.state_dir / "ca.pem")
        return self

    async def stop(self) -> int:
        if self.process.returncode is None:
            self.process.terminate()
        _, self.log = await asyncio.wait_for(self.process.communicate(), 20)
        assert self.process.returncode is not None
        return self.process.returncode


@pytest.fixture
async def control() -> AsyncIterator[FakeControlPlane]:
    control = FakeControlPlane()
    await control.start()
    yield control
    await control.stop()


async def _connect_again_and_again(edge: EdgeProcess) -> None:
    async with asyncio.timeout(5):
        while True:
            await (await Eyeball(edge.public, edge.tls, SSH_HOST).connect()).close()
            await asyncio.sleep(0.02)


async def test_process_serves_drains_and_keeps_secrets_out_of_its_log(
    tmp_path: Path, control: FakeControlPlane
) -> None:
    edge = await EdgeProcess(tmp_path, control.url).start()
    connector = FakeConnector()
    await connector.start(edge.tunnel, edge.tls)
    await connector.registered()
    token = make_token()
    eyeball = await Eyeball(edge.public, edge.tls, SSH_HOST).connect()
    headers = {"Cf-Access-Token": token, "Cookie": "CF_AppSession=canary-cookie", "Cf-Access-Client-Secret": "canary-s"}
    assert (await eyeball.upgrade("/?q=canary-query", headers)).status == 101
    messages = Messages(eyeball)
    eyeball.send_message(b"hello")
    assert await messages.read(5) == b"hello"
    # SIGTERM: nothing new is accepted, but this stream goes on within the grace and ends the process by
    # ending.
    edge.process.terminate()
    with pytest.raises((ConnectionError, ssl.SSLError)):
        await _connect_again_and_again(edge)
    eyeball.send_message(b"still alive")
    assert await messages.read(11) == b"still alive"
    await eyeball.close()
    assert await edge.stop() == 0
    assert b"canary" not in edge.log
    for secret in (token.encode(), EDGE_TOKEN.encode(), SECRET, SECRET.hex().encode()):
        assert secret not in edge.log
    assert b"app-ssh" in edge.log
    await connector.stop()


async def test_end_of_grace_tells_the_client(tmp_path: Path, control: FakeControlPlane) -> None:
    edge = await EdgeProcess(tmp_path, control.url, EDGE_DRAIN_SECONDS="1").start()
    connector = FakeConnector()
    await connector.start(edge.tunnel, edge.tls)
    await connector.registered()
    eyeball = await Eyeball(edge.public, edge.tls, SSH_HOST).connect()
    assert (await eyeball.upgrade(headers={"Cf-Access-Token": make_token()})).status == 101
    edge.process.terminate()
    close = await Messages(eyeball).read_close()
    assert close is not None
    assert close.code == 1001
    assert await edge.stop() == 0
    await eyeball.close()
    await connector.stop()


async def test_ac88_restart_keeps_ca_and_serves_from_the_cached_snapshot(
    tmp_path: Path, control: FakeControlPlane
) -> None:
    edge = await EdgeProcess(tmp_path, control.url).start()
    ca = (tmp_path / "ca.pem").read_bytes()
    assert await edge.stop() == 0
    for name in ("ca.key", "snapshot.json"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    await control.stop()
    again = await EdgeProcess(tmp_path, control.url).start()
    assert (tmp_path / "ca.pem").read_bytes() == ca
    connector = FakeConnector()
    await connector.start(again.tunnel, again.tls)
    await connector.registered()
    assert connector.result is not None
    eyeball = await Eyeball(again.public, again.tls, SSH_HOST).connect()
    response = await eyeball.request("GET", "/", {"Cf-Access-Token": make_token()})
    assert (response.status, response.reason) == (503, "control_plane_unreachable")
    assert await again.stop() == 0
    await eyeball.close()
    await connector.stop()
    await control.start()


async def test_outage_grace_lets_the_same_request_pass(tmp_path: Path, control: FakeControlPlane) -> None:
    edge = await EdgeProcess(tmp_path, control.url, EDGE_OUTAGE_GRACE_SECONDS="60").start()
    connector = FakeConnector()
    await connector.start(edge.tunnel, edge.tls)
    await connector.registered()
    token = {"Cf-Access-Token": make_token()}
    first = await Eyeball(edge.public, edge.tls, SSH_HOST).connect()
    assert (await first.upgrade(headers=dict(token))).status == 101
    await control.stop()
    second = await Eyeball(edge.public, edge.tls, SSH_HOST).connect()
    assert (await second.upgrade(headers=dict(token))).status == 101
    other = await Eyeball(edge.public, edge.tls, SSH_HOST).connect()
    response = await other.upgrade(headers={"Cf-Access-Token": make_token(sub="bob")})
    assert response.reason == "control_plane_unreachable"
    for eyeball in (first, second, other):
        await eyeball.close()
    await connector.stop()
    assert await edge.stop() == 0
    await control.start()


async def test_ac87_outage_grace_does_not_bring_a_cut_session_back(tmp_path: Path, control: FakeControlPlane) -> None:
    edge = await EdgeProcess(tmp_path, control.url, EDGE_OUTAGE_GRACE_SECONDS="60").start()
    connector = FakeConnector()
    await connector.start(edge.tunnel, edge.tls)
    await connector.registered()
    token = {"Cf-Access-Token": make_token()}
    first = await Eyeball(edge.public, edge.tls, SSH_HOST).connect()
    assert (await first.upgrade(headers=dict(token))).status == 101
    control.cut = {"reason": "session_revoked", "message": "Your session was revoked."}
    control.change()
    assert await first.is_closed()
    await control.stop()
    second = await Eyeball(edge.public, edge.tls, SSH_HOST).connect()
    assert (await second.upgrade(headers=dict(token))).reason == "control_plane_unreachable"
    for eyeball in (first, second):
        await eyeball.close()
    await connector.stop()
    assert await edge.stop() == 0
    await control.start()


# ---- certificates
# ----------------------------------------------------------------------------------------------------


def _handshake(context: ssl.SSLContext, ca: Path, name: str) -> x509.Certificate:
    """The leaf shown for a server name, without sockets."""
    client_context = ssl.create_default_context(cafile=ca)
    client_context.check_hostname = False
    client_in, client_out = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(client_in, client_out, server_hostname=name)
    server = context.wrap_bio(client_out, client_in, server_side=True)
    for _ in range(4):
        for side in (client, server):
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
    der = client.getpeercert(binary_form=True)
    assert der is not None
    return x509.load_der_x509_certificate(der)


def _names(certificate: x509.Certificate) -> list[str]:
    return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(
        x509.DNSName
    )


def test_leaves_are_made_for_known_names_only(tmp_path: Path) -> None:
    store = CertificateStore(tmp_path, None, {SSH_HOST, TEAM}.__contains__)
    context = store.server_context()
    assert _names(_handshake(context, tmp_path / "ca.pem", SSH_HOST)) == [SSH_HOST]
    assert _names(_handshake(context, tmp_path / "ca.pem", SSH_HOST.upper())) == [SSH_HOST]
    assert _names(_handshake(context, tmp_path / "ca.pem", "evil.example")) == ["sallyport.invalid"]
    tunnel = store.fixed_context(("h2.cftunnel.com", "quic.cftunnel.com", "probe.cftunnel.com"))
    assert _names(_handshake(tunnel, tmp_path / "ca.pem", "h2.cftunnel.com")) == [
        "h2.cftunnel.com",
        "quic.cftunnel.com",
        "probe.cftunnel.com",
    ]
    assert not (tmp_path / "leaf.pem").exists()


def test_configured_certificates_win_and_reload(tmp_path: Path) -> None:
    given, state = tmp_path / "given", tmp_path / "state"
    given.mkdir()
    state.mkdir()
    _write_pair(tmp_path, given, "*.widgetcorp.localhost")
    store = CertificateStore(state, given, {SSH_HOST}.__contains__)
    context = store.server_context()
    ca = tmp_path / "other" / "ca.pem"
    first = _handshake(context, ca, SSH_HOST)
    assert _names(first) == ["*.widgetcorp.localhost"]
    (given / "site.crt").write_text("broken")
    store.reload_configured()
    assert _handshake(context, ca, SSH_HOST) == first
    _write_pair(tmp_path, given, "*.widgetcorp.localhost")
    store.reload_configured()
    assert _handshake(context, ca, SSH_HOST).serial_number != first.serial_number


def _write_pair(tmp_path: Path, target: Path, name: str) -> None:
    """A pair from another CA of our own making."""
    other = tmp_path / "other"
    other.mkdir(exist_ok=True)
    store = CertificateStore(other, None, lambda _: True)
    content: list[bytes] = []

    class Context:
        def load_cert_chain(self, path: Path) -> None:
            content.append(path.read_bytes())

    store._load_leaf(Context(), (name,))  # type: ignore[arg-type]
    chain, marker, key = content[0].partition(b"-----BEGIN PRIVATE KEY-----")
    (target / "site.crt").write_bytes(chain)
    (target / "site.key").write_bytes(marker + key)


def test_half_a_ca_is_refused(tmp_path: Path) -> None:
    CertificateStore(tmp_path, None, lambda _: True)
    (tmp_path / "ca.pem").unlink()
    with pytest.raises(CertificateError, match=r"ca\.key and ca\.pem"):
        CertificateStore(tmp_path, None, lambda _: True)


# ---- settings
# --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"EDGE_TOKEN": ""}, "EDGE_TOKEN"),
        ({"EDGE_TOKEN": "short"}, "EDGE_TOKEN"),
        ({"EDGE_PORT": "70000"}, "EDGE_PORT"),
        ({"EDGE_PORT": "-1"}, "EDGE_PORT"),
        ({"CONTROL_PLANE_URL": "127.0.0.1:8000"}, "CONTROL_PLANE_URL"),
        ({"CONTROL_PLANE_URL": "http://x/path"}, "CONTROL_PLANE_URL"),
        ({"EDGE_STATE_DIR": ""}, "EDGE_STATE_DIR"),
        ({"EDGE_CERT_DIR": "/nonexistent"}, "EDGE_CERT_DIR"),
        ({"EDGE_TOKEN_FILE": "/nonexistent"}, "EDGE_TOKEN_FILE"),
    ],
)
def test_bad_settings_refuse_to_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, str], text: str
) -> None:
    environ = {"CONTROL_PLANE_URL": "http://127.0.0.1:1", "EDGE_TOKEN": EDGE_TOKEN, "EDGE_STATE_DIR": str(tmp_path)}
    with pytest.raises(SettingsError, match=text):
        read_settings({**environ, **change})
    assert run([], {**environ, **change}) == 2
    assert text in capsys.readouterr().err


def test_token_file_and_identity(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(EDGE_TOKEN + "\n")
    environ = {
        "CONTROL_PLANE_URL": "http://127.0.0.1:1/",
        "EDGE_TOKEN_FILE": str(tmp_path / "token"),
        "EDGE_STATE_DIR": str(tmp_path / "state"),
    }
    settings = read_settings(environ)
    assert settings.token == EDGE_TOKEN
    assert EDGE_TOKEN not in repr(settings)
    assert read_settings(environ).edge_id == settings.edge_id
