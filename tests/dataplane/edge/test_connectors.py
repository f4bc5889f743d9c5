"""Connectors: registration, duplicates, configuration, revocation, misbehaviour."""

import asyncio
import hashlib
import json
import time
import uuid

import pytest

from dataplane.wire.rpc import ConnectionOptions, Registered, RegistrationRefused, RpcClientSession
from tests.dataplane.edge.conftest import Stage
from tests.dataplane.edge.fakes import EDGE_TOKEN, INGRESS, SECRET, TUNNEL_ID, FakeConnector, make_token


async def post_push(stage: Stage, token: str = EDGE_TOKEN, body: bytes | None = None) -> tuple[int, dict[str, object]]:
    host, _, port = stage.edge.control.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    content = json.dumps({"snapshot_version": 1, "tunnels": [TUNNEL_ID]}).encode() if body is None else body
    head = f"POST /push HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Length: {len(content)}\r\n\r\n"
    writer.write(head.encode() + content)
    answer = await asyncio.wait_for(reader.read(-1), 30)
    writer.close()
    await writer.wait_closed()
    return int(answer.split(b" ")[1]), json.loads(answer.partition(b"\r\n\r\n")[2])


async def test_registration_is_reported_and_configured(stage: Stage) -> None:
    connector = await stage.connector()
    result = await connector.registered()
    assert isinstance(result, Registered)
    assert result.remotely_managed is True
    assert result.location == "edge-test"
    await asyncio.wait_for(connector.configured.wait(), 5)
    assert connector.configs == [{"version": 3, "config": INGRESS}]
    await stage.until(lambda: stage.control.reports[-1]["connections"])
    await stage.until(lambda: stage.control.reports[-1]["connections"][0]["applied_version"] == 3)
    report = stage.control.reports[-1]
    assert report["edge"]["name"] == "edge-test"
    assert report["edge"]["control_url"] == stage.edge.control.url
    connection = report["connections"][0]
    assert connection["id"] == str(result.connection_id)
    assert connection["client_id"] == str(connector.client_id)
    assert (connection["tunnel_id"], connection["index"], connection["origin_ip"]) == (TUNNEL_ID, 0, "127.0.0.1")
    assert connection["features"] == ["serialized_headers"]


async def test_connection_changes_are_reported_within_200_ms(stage: Stage) -> None:
    await stage.until(lambda: stage.control.reports)
    connector = await stage.connector()
    await stage.until(lambda: len(stage.control.reports[-1]["connections"]) == 1, 3)
    await connector.stop()
    await stage.until(lambda: stage.control.reports[-1]["connections"] == [], 3)


@pytest.mark.parametrize("change", ["secret", "tunnel", "account"])
async def test_wrong_credentials_are_refused_and_closed(stage: Stage, change: str) -> None:
    connector = FakeConnector(secret=b"x" * 32 if change == "secret" else SECRET)
    if change == "tunnel":
        connector.credentials = type(connector.credentials)("a" * 32, SECRET, uuid.uuid4())
    if change == "account":
        connector.credentials = type(connector.credentials)("b" * 32, SECRET, uuid.UUID(TUNNEL_ID))
    await connector.start(stage.edge.tunnel_address, stage.tls)
    result = await connector.registered()
    assert isinstance(result, RegistrationRefused)
    assert "Unauthorized" in result.cause
    await asyncio.wait_for(connector.closed.wait(), 30)
    assert stage.edge.tunnels.registered() == []


async def test_repeated_failures_are_answered_later_and_later(stage: Stage) -> None:
    """AC-71."""
    times = []
    for _ in range(6):
        started = time.monotonic()
        connector = FakeConnector(secret=b"x" * 32)
        await connector.start(stage.edge.tunnel_address, stage.tls)
        await asyncio.wait_for(connector.closed.wait(), 30)
        times.append(time.monotonic() - started)
    # However slow the machine: an answer never comes before its delay.
    assert min(times[:2]) < times[-1]
    assert times[-1] > 0.9


async def test_new_tunnel_is_fetched_when_its_connector_comes(stage: Stage) -> None:
    tunnel_id = str(uuid.uuid4())
    fresh = {**stage.control.snapshot["tunnels"][0], "id": tunnel_id}
    stage.control.change(tunnels=[*stage.control.snapshot["tunnels"], fresh])
    connector = FakeConnector()
    connector.credentials = type(connector.credentials)("a" * 32, SECRET, uuid.UUID(tunnel_id))
    await connector.start(stage.edge.tunnel_address, stage.tls)
    assert isinstance(await connector.registered(), Registered)
    await connector.stop()


async def test_living_duplicate_is_refused_and_dead_one_replaced(stage: Stage) -> None:
    first = await stage.connector()
    second = await stage.connector(client_id=first.client_id)
    result = await second.registered()
    assert isinstance(result, RegistrationRefused)
    assert result.cause == "EDUPCONN"
    await asyncio.wait_for(second.closed.wait(), 5)
    assert not first.closed.is_set()
    # The same connector with another index is a further connection, not a duplicate.
    assert isinstance(await (await stage.connector(client_id=first.client_id, index=1)).registered(), Registered)
    # A first connection that stopped answering makes room.
    first.thawed.clear()
    third = await stage.connector(client_id=first.client_id)
    assert isinstance(await third.registered(), Registered)


async def test_control_stream_end_closes_the_connection(stage: Stage) -> None:
    connector = await stage.connector()
    connector.end_control_stream()
    await asyncio.wait_for(connector.closed.wait(), 30)


async def test_unregister_lets_streams_finish(stage: Stage) -> None:
    connector = await stage.connector()
    eyeball = await stage.eyeball()
    assert (await eyeball.upgrade(headers={"Cf-Access-Token": make_token()})).status == 101
    connector.unregister()
    await stage.until(lambda: not stage.edge.tunnels.registered()[0].takes_streams)
    other = await (await stage.eyeball()).upgrade(headers={"Cf-Access-Token": make_token()})
    assert other.reason == "tunnel_not_connected"
    assert not connector.closed.is_set()
    await eyeball.close()
    await asyncio.wait_for(connector.closed.wait(), 30)


@pytest.mark.parametrize("how", ["deleted", "revoked tunnel", "revoked connector"])
@pytest.mark.parametrize("clock", [-86_400.0, 0.0, 86_400.0])
async def test_ac68_revocation_drops_live_connections(stage: Stage, how: str, clock: float) -> None:
    """AC-68: within 2 s of the snapshot, however the clocks of edge and control plane differ."""
    connector = await stage.connector()
    eyeball = await stage.eyeball()
    assert (await eyeball.upgrade(headers={"Cf-Access-Token": make_token()})).status == 101
    if how == "deleted":
        stage.control.change(tunnels=[])
    elif how == "revoked tunnel":
        stage.control.change_tunnel(min_registered_at=time.time() + clock)
    else:
        stage.control.change_tunnel(connectors={str(connector.client_id): time.time() + clock})
    await asyncio.wait_for(connector.closed.wait(), 30)
    assert await eyeball.is_closed()
    if how != "deleted":
        # Its secret is still good: it comes back at once, and is not closed by the same mark again.
        again = await stage.connector(client_id=connector.client_id)
        assert isinstance(await again.registered(), Registered)
        stage.control.change_tunnel(name="renamed")
        await stage.until(lambda: stage.edge.snapshots.current.version == stage.control.snapshot["version"])
        assert not again.closed.is_set()


async def test_fault40_rotated_secret_is_refused_and_the_live_connection_stays(stage: Stage) -> None:
    connector = await stage.connector()
    eyeball = await stage.eyeball()
    assert (await eyeball.upgrade(headers={"Cf-Access-Token": make_token()})).status == 101
    version = stage.control.change_tunnel(secret_sha256=[hashlib.sha256(b"n" * 32).hexdigest()])
    await stage.until(lambda: stage.edge.snapshots.current.version == version)
    late = FakeConnector(secret=SECRET)
    await late.start(stage.edge.tunnel_address, stage.tls)
    assert isinstance(await late.registered(), RegistrationRefused)
    fresh = FakeConnector(secret=b"n" * 32)
    await fresh.start(stage.edge.tunnel_address, stage.tls)
    assert isinstance(await fresh.registered(), Registered)
    assert not connector.closed.is_set()
    assert not await eyeball.is_closed(0.2)
    await fresh.stop()
    # The same administrator cuts after all.
    stage.control.change_tunnel(min_registered_at=1.0)
    await asyncio.wait_for(connector.closed.wait(), 30)


async def test_ac68_secret_rotated_during_the_registration_is_refused(stage: Stage) -> None:
    """While the edge waits for the first connection's PING, the secret that the second one showed stops being good."""
    first = await stage.connector()
    first.thawed.clear()
    second = FakeConnector(client_id=first.client_id)
    await second.start(stage.edge.tunnel_address, stage.tls)
    await asyncio.sleep(0.3)
    stage.control.change_tunnel(secret_sha256=[hashlib.sha256(b"n" * 32).hexdigest()])
    assert isinstance(await second.registered(), RegistrationRefused)


async def test_ac72_one_registration_at_a_time(stage: Stage) -> None:
    """A connection that asks many times costs the control plane one question."""
    connector = FakeConnector()
    unknown = type(connector.credentials)("a" * 32, SECRET, uuid.uuid4())
    options = ConnectionOptions(connector.client_id, (), "test", "linux")
    session = RpcClientSession()
    connector.bootstrap = b"".join(session.bootstrap_and_register(unknown, 0, options) for _ in range(7))
    asked = 0
    refresh = stage.edge.snapshots.refresh

    async def counted() -> bool:
        nonlocal asked
        asked += 1
        return await refresh()

    stage.edge.tunnels._snapshots.refresh = counted  # type: ignore[method-assign]
    began = time.monotonic()
    await connector.start(stage.edge.tunnel_address, stage.tls)
    await asyncio.wait_for(connector.closed.wait(), 30)
    await asyncio.sleep(0.2)
    # The poll of each second may be among them.
    assert 1 <= asked <= 2 + time.monotonic() - began
    assert stage.edge.tunnels.registered() == []


async def test_push_applies_a_new_version_at_once(stage: Stage) -> None:
    connector = await stage.connector()
    await asyncio.wait_for(connector.configured.wait(), 5)
    version = stage.control.change_tunnel(config_version=4)
    status, answer = await post_push(stage)
    assert (status, answer["snapshot_version"]) == (200, version)
    assert connector.configs[-1]["version"] == 4
    (connection,) = answer["connections"]  # type: ignore[misc]
    assert (connection["applied_version"], connection["error"]) == (4, None)


async def test_lost_push_is_made_up_by_the_poll(stage: Stage) -> None:
    connector = await stage.connector()
    stage.control.change_tunnel(config_version=5)
    await stage.until(lambda: connector.configs and connector.configs[-1]["version"] == 5)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ({"lastAppliedVersion": 3, "err": {}}, "refused by the connector"),
        ({"lastAppliedVersion": 3, "err": "service ssh://x is on the deny list"}, "deny list"),
        ({"lastAppliedVersion": 3, "err": None}, "stays at version 3"),
        ({"other": 1}, "cannot be read"),
    ],
)
async def test_refused_configuration_is_reported(stage: Stage, answer: dict[str, object], text: str) -> None:
    connector = await stage.connector()
    await asyncio.wait_for(connector.configured.wait(), 5)
    connector.config_answer = answer
    stage.control.change_tunnel(config_version=4)
    _, document = await post_push(stage)
    (connection,) = document["connections"]  # type: ignore[misc]
    assert connection["applied_version"] == 3
    assert text in connection["error"]


async def test_push_needs_the_token_and_a_sane_body(stage: Stage) -> None:
    assert (await post_push(stage, token="wrong-token-wrong-token"))[0] == 401
    for body in (b"", b"{}", b"[" * 10_000, b'{"tunnels": ["../x"]}'):
        assert (await post_push(stage, body=body))[0] == 400


async def test_streams_go_to_the_connection_with_the_fewest(stage: Stage) -> None:
    connectors = [await stage.connector(index=index) for index in range(3)]
    for _ in range(6):
        eyeball = await stage.eyeball()
        assert (await eyeball.upgrade(headers={"Cf-Access-Token": make_token()})).status == 101
    assert [len(connector.requests) for connector in connectors] == [2, 2, 2]


async def test_probe_and_foreign_server_names(stage: Stage) -> None:
    stage.tls.check_hostname = False
    for name, is_kept in (("probe.cftunnel.com", True), ("quic.cftunnel.com", False), ("evil.example", False)):
        reader, writer = await asyncio.open_connection(*stage.edge.tunnel_address, ssl=stage.tls, server_hostname=name)
        try:
            data = await asyncio.wait_for(reader.read(1), 0.5 if is_kept else 30)
        except TimeoutError:
            assert is_kept
        except OSError:
            assert not is_kept
        else:
            assert data == b""
            assert not is_kept
        writer.close()


@pytest.mark.parametrize(
    "garbage",
    [b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 4000, b"\x00\x00\x04\x01\x01\x00\x00\x00\x01\xff\xff\xff\xff", b"\x00" * 9],
)
async def test_malformed_frames_close_one_connection_only(stage: Stage, garbage: bytes) -> None:
    good = await stage.connector()
    reader, writer = await asyncio.open_connection(
        *stage.edge.tunnel_address, ssl=stage.tls, server_hostname="h2.cftunnel.com"
    )
    writer.write(garbage)
    async with asyncio.timeout(5):
        try:
            while await reader.read(1 << 16):
                if garbage == b"\x00" * 9:
                    break  # an empty DATA frame on stream 0 may be answered by GOAWAY first
        except OSError:
            pass
    writer.close()
    assert not good.closed.is_set()
    assert (await (await stage.eyeball()).upgrade(headers={"Cf-Access-Token": make_token()})).status == 101


async def test_garbage_on_the_control_stream_closes_the_connection(stage: Stage) -> None:
    connector = FakeConnector()
    connector.bootstrap = b"\xff" * 64
    await connector.start(stage.edge.tunnel_address, stage.tls)
    await asyncio.wait_for(connector.closed.wait(), 30)
