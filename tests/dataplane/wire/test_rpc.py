"""The control RPC: published byte vectors, both sessions against each other, hostile bytes."""

import struct
import uuid

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataplane.wire import rpc, rpcmessages
from dataplane.wire.credentials import TunnelCredentials

# tunnel-edge.md 5.4
BOOTSTRAP_0 = bytes.fromhex(
    "000000000500000000000000010001000800000000000000000000000100010000000000000000000000000000000000"
)
BOOTSTRAP_RETURN_0 = bytes.fromhex(
    "000000000b0000000000000001000100030000000000000000000000020001000000000000000000"
    "00000000000000000000000000000200030000000000000001000000170000000400000001000100"
    "01000000000000000000000000000000"
)
FINISH_1 = bytes.fromhex("00000000040000000000000001000100040000000000000000000000010000000100000000000000")
RETURN_DETAILS_1 = bytes.fromhex(
    "000000001100000000000000010001000300000000000000000000000200010001000000000000000000000000000000"
    "000000000000020004000000000001000000000000000000000000000100010001000000000000000000000001000200"
    "010000000000000005000000820000000900000032000000000102030405060708090a0b0c0d0e0f6c61623031000000"
)

CREDENTIALS = TunnelCredentials("a" * 32, bytes(range(32)), uuid.UUID(int=7))
OPTIONS = rpc.ConnectionOptions(
    uuid.UUID(int=99), ("allow_remote_config", "serialized_headers"), "sallyport 1", "linux_amd64", bytes(16), False, 3
)


def test_published_vectors_are_what_we_write() -> None:
    assert rpcmessages.bootstrap(0) == BOOTSTRAP_0
    assert rpcmessages.bootstrap_return(0) == BOOTSTRAP_RETURN_0
    assert rpcmessages.finish(1, release_result_caps=True) == FINISH_1


def test_published_registration_return_is_read_by_our_connector() -> None:
    client = rpc.RpcClientSession()
    client.bootstrap_and_register(CREDENTIALS, 0, OPTIONS)
    assert client.receive_data(BOOTSTRAP_RETURN_0) == []
    assert client.data_to_send() == rpcmessages.finish(0, release_result_caps=False)
    details_id = uuid.UUID(bytes=bytes(range(16)))
    assert client.receive_data(RETURN_DETAILS_1) == [rpc.Registered(details_id, "lab01", True)]
    assert client.data_to_send() == FINISH_1


def test_our_registration_return_carries_the_published_bytes() -> None:
    written = rpc.RpcServerSession().respond_registered(1, uuid.UUID(bytes=bytes(range(16))), "lab01", True)
    assert written == RETURN_DETAILS_1


def register() -> tuple[rpc.RpcClientSession, rpc.RpcServerSession, rpc.RegisterConnection]:
    client, server = rpc.RpcClientSession(), rpc.RpcServerSession()
    (event,) = server.receive_data(client.bootstrap_and_register(CREDENTIALS, 2, OPTIONS))
    assert isinstance(event, rpc.RegisterConnection)
    return client, server, event


def test_registration_carries_every_field() -> None:
    _, _, event = register()
    assert event == rpc.RegisterConnection(1, "a" * 32, bytes(range(32)), uuid.UUID(int=7), 2, OPTIONS)
    assert "0102" not in repr(event)
    assert "secret" not in repr(event)


def test_whole_life_of_a_session() -> None:
    client, server, event = register()
    connection_id = uuid.uuid4()
    reply = server.respond_registered(event.question_id, connection_id, "edge 1", False)
    assert client.receive_data(reply) == [rpc.Registered(connection_id, "edge 1", False)]
    assert server.receive_data(client.data_to_send()) == []
    (update,) = server.receive_data(client.update_local_configuration(b'{"ingress":[]}'))
    assert update == rpc.UpdateLocalConfiguration(0, b'{"ingress":[]}')
    assert client.receive_data(server.respond_empty(0)) == [rpc.LocalConfigurationAccepted()]
    (unregister,) = server.receive_data(client.unregister())
    assert unregister == rpc.UnregisterConnection(0)
    assert client.receive_data(server.respond_empty(0)) == [rpc.Unregistered()]
    assert server.receive_data(client.close()) == [rpc.RpcAborted("rpc: shutdown")]


def test_refusal_carries_cause_and_retry() -> None:
    client, server, event = register()
    reply = server.respond_error(event.question_id, "Unauthorized: wrong secret", 5_000_000_000, True)
    assert client.receive_data(reply) == [rpc.RegistrationRefused("Unauthorized: wrong secret", 5.0, True)]


def test_unknown_method_is_answered_unimplemented() -> None:
    server = rpc.RpcServerSession()
    message, call = rpcmessages.new_call(4, 9)
    call.init("params")
    assert server.receive_data(rpcmessages.encoded(message)) == []
    assert server.data_to_send() == rpcmessages.exception_return(4, "unknown interface or method", "unimplemented")


def test_exception_to_a_registration_is_a_refusal() -> None:
    client, _, _ = register()
    reply = rpcmessages.exception_return(1, "not today", "failed")
    assert client.receive_data(reply) == [rpc.RegistrationRefused("not today", 0.0, True)]


def test_unknown_messages_are_echoed_unimplemented() -> None:
    server = rpc.RpcServerSession()
    message = rpcmessages.schema.Message.new_message()
    message.init("resolve")
    assert server.receive_data(rpcmessages.encoded(message)) == []
    with rpcmessages.opened(server.data_to_send()) as reader:
        assert reader.which() == "unimplemented"
        assert reader.unimplemented.which() == "resolve"


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(1, 60), min_size=1, max_size=30))
def test_any_chunking(sizes: list[int]) -> None:
    stream = rpc.RpcClientSession().bootstrap_and_register(CREDENTIALS, 1, OPTIONS)
    server, events, position = rpc.RpcServerSession(), [], 0
    while position < len(stream):
        size = sizes[position % len(sizes)]
        events += server.receive_data(stream[position : position + size])
        position += size
    assert [type(event) for event in events] == [rpc.RegisterConnection]


@pytest.mark.parametrize(
    "data",
    [
        struct.pack("<LL", 0, (1 << 17) + 1),  # one word over 1 MiB
        struct.pack("<L", 500),
        struct.pack("<L", 0xFFFFFFFF),
        struct.pack("<LLLL", 1, 1 << 17, 1, 0),
        struct.pack("<LL", 0, 1) + b"\xff" * 8,
        struct.pack("<LL", 0, 0),
    ],
)
def test_oversized_and_broken_messages_are_refused(data: bytes) -> None:
    with pytest.raises(rpc.RpcError):
        rpc.RpcServerSession().receive_data(data)


def test_wrong_tunnel_id_length_is_refused() -> None:
    message, call = rpcmessages.new_call(1, 0)
    call.init("params").content.as_struct(rpcmessages.schema.RegisterConnectionParams).tunnelId = b"short"
    with pytest.raises(rpc.RpcError, match="tunnel id"):
        rpc.RpcServerSession().receive_data(rpcmessages.encoded(message))


def test_call_flood_is_refused() -> None:
    client, server, event = register()
    client.receive_data(server.respond_registered(event.question_id, uuid.uuid4(), "x", False))
    calls = b"".join(client.unregister() for _ in range(rpc.MAX_OPEN_QUESTIONS + 1))
    with pytest.raises(rpc.RpcError, match="too many"):
        server.receive_data(calls)


def test_answer_nobody_asked_for_is_refused() -> None:
    with pytest.raises(rpc.RpcError):
        rpc.RpcClientSession().receive_data(RETURN_DETAILS_1)


@settings(deadline=None, max_examples=300)
@given(st.integers(0, 400), st.binary(min_size=1, max_size=8))
def test_damaged_messages_raise_only_rpc_error(position: int, damage: bytes) -> None:
    stream = bytearray(rpc.RpcClientSession().bootstrap_and_register(CREDENTIALS, 1, OPTIONS))
    position %= len(stream)
    stream[position : position + len(damage)] = damage[: len(stream) - position]
    try:
        rpc.RpcServerSession().receive_data(stream)
    except rpc.RpcError:
        pass
