"""Client certificates at the edge: asked for only where there are roots, verified against those alone."""

import asyncio
import ssl
import struct
from pathlib import Path

import pytest

from dataplane.edge.clienthello import IncompleteError, server_name_of
from tests.client_roots import NOW, Root
from tests.dataplane.edge.conftest import Stage
from tests.dataplane.edge.eyeball import Eyeball
from tests.dataplane.edge.fakes import SSH_HOST, WEB_HOST, make_snapshot, make_token


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
    assert await asyncio.wait_for(reader.read(1), 5) == b"\x16"
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
