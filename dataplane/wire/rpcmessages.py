"""Cap'n Proto messages of the control stream: stream framing and pycapnp readers and builders.

The peer is not authenticated yet, so size and segment count are capped before pycapnp sees a byte, and its
traversal and nesting limits are set explicitly.
"""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import capnp

MAX_MESSAGE_BYTES: Final = 1 << 20
MAX_SEGMENTS: Final = 16
_TRAVERSAL_LIMIT_WORDS: Final = 4 * MAX_MESSAGE_BYTES // 8
_NESTING_LIMIT: Final = 16

REGISTRATION_INTERFACE: Final = 0xF71695EC7FE85497
METHOD_REGISTER: Final = 0
METHOD_UNREGISTER: Final = 1
METHOD_UPDATE_LOCAL_CONFIGURATION: Final = 2

# Without this every `import x` in the process would look for x.capnp.
capnp.remove_import_hook()
schema: Final[Any] = capnp.load(str(Path(__file__).with_name("tunnelrpc.capnp")))

# A bootstrap answer carries a capability, which pycapnp can only write through its own RPC runtime. The message
# is constant but for the question id: results with capability 0, sender-hosted export 0 (tunnel-edge.md 5.4).
_BOOTSTRAP_RETURN: Final = bytes.fromhex(
    "000000000b000000 0000000001000100 0300000000000000 0000000002000100 0000000000000000 0000000000000000"
    "0000000000000200 0300000000000000 0100000017000000 0400000001000100 0100000000000000 0000000000000000"
)
_ANSWER_ID_OFFSET: Final = 8 + 4 * 8  # stream header, root pointer, Message (1 data word, 1 pointer), then Return


class RpcError(Exception):
    """The peer sent something that is no valid control message; close the connection."""


class MessageSplitter:
    """Cuts the byte stream into messages: 32-bit segment count minus one, segment sizes in words, segments."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def receive_data(self, data: bytes | bytearray | memoryview) -> list[bytes]:
        """Raises RpcError on oversized messages; holds at most one incomplete message."""
        self._buffer += data
        messages: list[bytes] = []
        while (size := self._message_bytes()) is not None and len(self._buffer) >= size:
            messages.append(bytes(self._buffer[:size]))
            del self._buffer[:size]
        return messages

    def _message_bytes(self) -> int | None:
        """Size of the first message with its header, or None while the header is incomplete."""
        buffer = self._buffer
        if len(buffer) < 4:
            return None
        segments = int.from_bytes(buffer[:4], "little") + 1
        if segments > MAX_SEGMENTS:
            raise RpcError(f"a control message has {segments} segments")
        header = 4 + 4 * segments
        header += header % 8
        if len(buffer) < header:
            return None
        words: int = sum(struct.unpack_from(f"<{segments}L", buffer, 4))
        if words * 8 > MAX_MESSAGE_BYTES:
            raise RpcError(f"a control message has {words * 8} bytes; at most {MAX_MESSAGE_BYTES} are allowed")
        return header + words * 8


@contextmanager
def opened(message: bytes) -> Iterator[Any]:
    """The Message reader, valid inside the block. Any fault pycapnp finds becomes RpcError."""
    try:
        with schema.Message.from_bytes(
            message, traversal_limit_in_words=_TRAVERSAL_LIMIT_WORDS, nesting_limit=_NESTING_LIMIT
        ) as reader:
            yield reader
    except (capnp.KjException, UnicodeDecodeError) as error:
        raise RpcError("a control message cannot be read") from error


def bootstrap(question_id: int) -> bytes:
    message = schema.Message.new_message()
    message.init("bootstrap").questionId = question_id
    return encoded(message)


def bootstrap_return(answer_id: int) -> bytes:
    raw = bytearray(_BOOTSTRAP_RETURN)
    struct.pack_into("<L", raw, _ANSWER_ID_OFFSET, answer_id)
    return bytes(raw)


def new_call(question_id: int, method_id: int) -> tuple[Any, Any]:
    """(message, call) on the registration interface; the caller sets target and parameters."""
    message = schema.Message.new_message()
    call = message.init("call")
    call.questionId = question_id
    call.interfaceId = REGISTRATION_INTERFACE
    call.methodId = method_id
    return message, call


def new_results(answer_id: int, results_type: Any) -> tuple[Any, Any]:
    """(message, results) of a successful Return."""
    message = schema.Message.new_message()
    answer = message.init("return")
    answer.answerId = answer_id
    return message, answer.init("results").content.as_struct(results_type)


def exception_return(answer_id: int, reason: str, kind: str) -> bytes:
    """`kind` is failed, overloaded, disconnected or unimplemented."""
    message = schema.Message.new_message()
    answer = message.init("return")
    answer.answerId = answer_id
    exception = answer.init("exception")
    exception.reason, exception.type = reason, kind
    return encoded(message)


def finish(question_id: int, *, release_result_caps: bool) -> bytes:
    message = schema.Message.new_message()
    ending = message.init("finish")
    ending.questionId, ending.releaseResultCaps = question_id, release_result_caps
    return encoded(message)


def release(export_id: int) -> bytes:
    message = schema.Message.new_message()
    release_message = message.init("release")
    release_message.id, release_message.referenceCount = export_id, 1
    return encoded(message)


def abort(reason: str) -> bytes:
    message = schema.Message.new_message()
    exception = message.init("abort")
    exception.reason, exception.type = reason, "failed"
    return encoded(message)


def unimplemented(reader: Any) -> bytes:
    """Echo of a message we do not know, as the RPC specification asks."""
    message = schema.Message.new_message()
    message.unimplemented = reader
    return encoded(message)


def encoded(message: Any) -> bytes:
    return bytes(message.to_bytes())
