"""Client certificates at the edge: asked for only where there are roots, verified against those alone."""

import asyncio
import base64
import hashlib
import ssl
import struct
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from dataplane.edge.clienthello import IncompleteError, server_name_of
from tests.client_roots import NOW, Root
from tests.dataplane.edge.conftest import Stage
from tests.dataplane.edge.eyeball import Eyeball
from tests.dataplane.edge.fakes import SSH_HOST, WEB_HOST, aud, make_snapshot, make_token


def name_digest(name: x509.Name) -> str:
    """As access.client_crls has it; the data plane's tests import no Django."""
    return hashlib.sha256(name.public_bytes()).hexdigest()


@pytest.fixture(scope="module")
def root() -> Root:
    return Root("Widget machines")


async def serve_roots(stage: Stage, roots: dict[str, list[Root]]) -> None:
    snapshot = make_snapshot()
    snapshot["version"] = stage.control.snapshot["version"] + 1
    snapshot["client_roots"] = {
        host: [{"fingerprint": root.fingerprint(), "pem": root.pem()} for root in held] for host, held in roots.items()
    }
    stage.control.snapshot = snapshot
    await stage.until(lambda: stage.edge.snapshots.current.version == snapshot["version"])


async def connected(stage: Stage, state_dir: Path, host: str, client_file: Path | None) -> Eyeball:
    context = ssl.create_default_context(cafile=state_dir / "ca.pem")
    if client_file is not None:
        context.load_cert_chain(client_file)
    eyeball = Eyeball(stage.edge.public_address, context, host)
    await eyeball.connect()
    stage._opened.append(eyeball.close)
    return eyeball


async def asked(stage: Stage, state_dir: Path, client_file: Path) -> None:
    eyeball = await connected(stage, state_dir, SSH_HOST, client_file)
    await eyeball.request()


async def test_common_name_and_roots_reach_the_control_plane(stage: Stage, tmp_path: Path, root: Root) -> None:
    await serve_roots(stage, {SSH_HOST: [root]})
    eyeball = await connected(stage, tmp_path, SSH_HOST, root.client_file("dev1", tmp_path))
    await eyeball.request()
    shown = stage.control.authorized[-1]["certificate"]
    assert shown["common_name"] == "dev1"
    assert shown["roots"] == [root.fingerprint()]
    assert len(shown["fingerprint"]) == 64
    assert shown["expires_at"] > NOW.timestamp()


async def test_issuer_and_serial_reach_the_control_plane(stage: Stage, tmp_path: Path, root: Root) -> None:
    await serve_roots(stage, {SSH_HOST: [root]})
    file = root.client_file("dev1", tmp_path)
    certificate = x509.load_pem_x509_certificate(file.read_bytes())
    eyeball = await connected(stage, tmp_path, SSH_HOST, file)
    await eyeball.request()
    shown = stage.control.authorized[-1]["certificate"]
    assert shown["serial"] == f"{certificate.serial_number:x}"
    assert shown["issuer"] == name_digest(root.name)


async def test_a_certificate_below_an_intermediate_of_the_bundle_is_verified(
    stage: Stage, tmp_path: Path, root: Root
) -> None:
    """The client sends its own certificate only: the chain to the root comes from what was uploaded."""
    middle, lower = (one := Root("Middle", root)), Root("Lower", one)
    file = lower.client_file("dev1", tmp_path)
    await serve_roots(stage, {SSH_HOST: [root]})
    with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError, OSError)):
        await asked(stage, tmp_path, file)
    snapshot = {**stage.control.snapshot, "version": stage.control.snapshot["version"] + 1}
    pem = root.pem() + middle.pem() + lower.pem()
    snapshot["client_roots"] = {SSH_HOST: [{"fingerprint": root.fingerprint(), "pem": pem}]}
    stage.control.snapshot = snapshot
    await stage.until(lambda: stage.edge.snapshots.current.version == snapshot["version"])
    await asked(stage, tmp_path, file)
    assert stage.control.authorized[-1]["certificate"]["common_name"] == "dev1"
    assert stage.control.authorized[-1]["certificate"]["issuer"] == name_digest(lower.name)
    # An intermediate alone is no root.
    snapshot = {**snapshot, "version": snapshot["version"] + 1}
    snapshot["client_roots"] = {SSH_HOST: [{"fingerprint": lower.fingerprint(), "pem": lower.pem()}]}
    stage.control.snapshot = snapshot
    await stage.until(lambda: stage.edge.snapshots.current.version == snapshot["version"])
    with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError, OSError)):
        await asked(stage, tmp_path, file)


async def test_a_wildcard_asks_one_label_below_and_no_deeper(stage: Stage, tmp_path: Path, root: Root) -> None:
    parent = SSH_HOST.partition(".")[2]
    await serve_roots(stage, {f"*.{parent}": [root]})
    await asked(stage, tmp_path, root.client_file("dev1", tmp_path))
    assert stage.control.authorized[-1]["certificate"]["roots"] == [root.fingerprint()]
    await serve_roots(stage, {f"*.{parent.partition('.')[2]}": [root]})
    await asked(stage, tmp_path, root.client_file("dev1", tmp_path))
    assert stage.control.authorized[-1]["certificate"] is None


@pytest.mark.parametrize("forwards", [True, False])
async def test_origins_see_the_certificate_only_where_it_is_forwarded(
    stage: Stage, tmp_path: Path, root: Root, forwards: bool
) -> None:
    await stage.connector()
    await serve_roots(stage, {WEB_HOST: [root]})
    snapshot = {**stage.control.snapshot, "version": stage.control.snapshot["version"] + 1}
    snapshot["certificate_forwarding"] = [WEB_HOST] if forwards else []
    stage.control.snapshot = snapshot
    await stage.until(lambda: stage.edge.snapshots.current.version == snapshot["version"])
    file = root.client_file("dev1", tmp_path)
    der = x509.load_pem_x509_certificate(file.read_bytes()).public_bytes(Encoding.DER)
    eyeball = await connected(stage, tmp_path, WEB_HOST, file)
    forged = {"Cf-Client-Cert-Der-Base64": "Zm9yZ2Vk", "CF_Client_Cert_Sha256": "forged"}
    token = {"Cf-Access-Token": make_token(aud=[aud("web")])}
    seen = (await eyeball.request("GET", "/", {**forged, **token})).json()["headers"]
    told = seen.get("cf-client-cert-der-base64"), seen.get("cf-client-cert-sha256")
    expected = (base64.b64encode(der).decode(), hashlib.sha256(der).hexdigest())
    assert told == (expected if forwards else (None, None))
    assert "forged" not in str(seen)


async def test_without_a_certificate_the_request_goes_on(stage: Stage, tmp_path: Path, root: Root) -> None:
    await serve_roots(stage, {SSH_HOST: [root]})
    eyeball = await connected(stage, tmp_path, SSH_HOST, None)
    await eyeball.request()
    assert stage.control.authorized[-1]["certificate"] is None


async def test_other_hosts_ask_for_none(stage: Stage, tmp_path: Path, root: Root) -> None:
    """A client that has one does not send it: it was not asked."""
    await serve_roots(stage, {SSH_HOST: [root]})
    eyeball = await connected(stage, tmp_path, WEB_HOST, root.client_file("dev1", tmp_path))
    await eyeball.request()
    assert stage.control.authorized[-1]["certificate"] is None


async def test_another_organizations_root_opens_nothing(stage: Stage, tmp_path: Path, root: Root) -> None:
    stranger = Root("Widget machines")
    await serve_roots(stage, {SSH_HOST: [root], WEB_HOST: [stranger]})
    before = len(stage.control.authorized)
    with pytest.raises((ssl.SSLError, OSError, asyncio.IncompleteReadError)):
        await asked(stage, tmp_path, stranger.client_file("dev1", tmp_path))
    assert len(stage.control.authorized) == before


async def test_a_removed_root_is_asked_for_no_more(stage: Stage, tmp_path: Path, root: Root) -> None:
    await serve_roots(stage, {SSH_HOST: [root]})
    await serve_roots(stage, {})
    eyeball = await connected(stage, tmp_path, SSH_HOST, root.client_file("dev1", tmp_path))
    await eyeball.request()
    assert stage.control.authorized[-1]["certificate"] is None


async def test_a_hello_in_pieces_is_waited_for(stage: Stage, root: Root) -> None:
    await serve_roots(stage, {SSH_HOST: [root]})
    outgoing = ssl.MemoryBIO()
    client = stage.tls.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=SSH_HOST)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    hello = outgoing.read()
    reader, writer = await asyncio.open_connection(*stage.edge.public_address)
    for piece in (hello[:3], hello[3:40], hello[40:]):
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(0.05)
    # A handshake record: the server's hello.
    assert await asyncio.wait_for(reader.read(1), 30) == b"\x16"
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize("own_issuer", [True, False])
async def test_only_bearer_tokens_of_the_team_are_linked(stage: Stage, own_issuer: bool) -> None:
    token = make_token() if own_issuer else make_token(iss="https://idp.example.test")
    eyeball = await stage.eyeball(SSH_HOST)
    await eyeball.request(headers={"Authorization": f"Bearer {token}"})
    assert stage.control.authorized[-1]["linked_token"] == (token if own_issuer else None)


def client_hello(name: str, *, record_size: int = 16384) -> bytes:
    encoded = name.encode()
    entry = struct.pack(">HBH", len(encoded) + 3, 0, len(encoded)) + encoded
    extensions = struct.pack(">HH", 0xFFCE, 3) + b"abc" + struct.pack(">HH", 0, len(entry)) + entry
    body = b"\x03\x03" + b"r" * 32 + b"\x00" + struct.pack(">HH", 2, 0x1301) + b"\x01\x00"
    body += struct.pack(">H", len(extensions)) + extensions
    message = b"\x01" + len(body).to_bytes(3) + body
    pieces = [message[start : start + record_size] for start in range(0, len(message), record_size)]
    return b"".join(b"\x16\x03\x01" + struct.pack(">H", len(piece)) + piece for piece in pieces)


def test_server_name_is_read_from_one_record_or_many() -> None:
    assert server_name_of(client_hello("SSH.Widgetcorp.test")) == "ssh.widgetcorp.test"
    assert server_name_of(client_hello("ssh.widgetcorp.test", record_size=7)) == "ssh.widgetcorp.test"


def test_an_unfinished_hello_wants_more() -> None:
    hello = client_hello("ssh.widgetcorp.test")
    for length in range(len(hello)):
        with pytest.raises(IncompleteError):
            server_name_of(hello[:length])


@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.1", b"\x15\x03\x01\x00\x02\x01\x00", b"\x16\x03\x01\x00\x04\x02\x00\x00\x00"]
)
def test_what_is_no_hello_has_no_name(data: bytes) -> None:
    assert server_name_of(data) == ""


def test_damaged_hellos_never_raise_anything_else() -> None:
    hello = client_hello("ssh.widgetcorp.test")
    for position in range(9, len(hello)):
        for value in (0, 1, 127, 255):
            try:
                server_name_of(hello[:position] + bytes([value]) + hello[position + 1 :])
            except IncompleteError:
                continue
