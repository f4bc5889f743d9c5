"""The control RPC between connector and edge, sans-io: bytes in, events and bytes out (tunnel-edge.md 5.3, 5.4).

The connector is the RPC client, the edge the server. Only what the tunnel uses of Cap'n Proto RPC is spoken:
bootstrap, three methods of one interface, finish, release, abort.
"""

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from dataplane.wire import rpcmessages as m
from dataplane.wire.credentials import TunnelCredentials
from dataplane.wire.rpcmessages import RpcError

__all__ = [
    "ConnectionOptions",
    "LocalConfigurationAccepted",
    "RegisterConnection",
    "Registered",
    "RegistrationRefused",
    "RpcAborted",
    "RpcClientSession",
    "RpcError",
    "RpcServerSession",
    "UnregisterConnection",
    "Unregistered",
    "UpdateLocalConfiguration",
]

MAX_OPEN_QUESTIONS = 8
MAX_FEATURES = 64
MAX_TEXT_LENGTH = 256


@dataclass(frozen=True, slots=True)
class ConnectionOptions:
    """What a connector says about itself; `origin_local_ip` is 4 or 16 raw bytes, or empty."""

    client_id: uuid.UUID
    features: tuple[str, ...] = ()
    version: str = ""
    arch: str = ""
    origin_local_ip: bytes = b""
    replace_existing: bool = False
    previous_attempts: int = 0


# ---- events for the edge -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RegisterConnection:
    """Answer with respond_registered or respond_error within 5 s. The secret never shows in repr."""

    question_id: int
    account_tag: str
    secret: bytes = field(repr=False)
    tunnel_id: uuid.UUID
    conn_index: int
    options: ConnectionOptions


@dataclass(frozen=True, slots=True)
class UnregisterConnection:
    """The connector is shutting down: answer with respond_empty and open no more streams."""

    question_id: int


@dataclass(frozen=True, slots=True)
class UpdateLocalConfiguration:
    """JSON of a locally managed connector; answer with respond_empty."""

    question_id: int
    config: bytes


@dataclass(frozen=True, slots=True)
class RpcAborted:
    """The peer gives up the session; close the connection."""

    reason: str


ServerEvent = RegisterConnection | UnregisterConnection | UpdateLocalConfiguration | RpcAborted


class RpcServerSession:
    """Edge side. Send data_to_send() after every receive_data; each respond_* includes what is queued there."""

    def __init__(self) -> None:
        self._splitter = m.MessageSplitter()
        self._out: list[bytes] = []
        self._open_questions: set[int] = set()

    def receive_data(self, data: bytes | bytearray | memoryview) -> list[ServerEvent]:
        """Raises RpcError; the connection must then be closed."""
        events: list[ServerEvent] = []
        for message in self._splitter.receive_data(data):
            with m.opened(message) as reader:
                event = self._take(reader)
            if event is not None:
                events.append(event)
        return events

    def data_to_send(self) -> bytes:
        out, self._out = b"".join(self._out), []
        return out

    def respond_registered(
        self, question_id: int, connection_id: uuid.UUID, location: str, remotely_managed: bool
    ) -> bytes:
        message, results = m.new_results(question_id, m.schema.RegisterConnectionResults)
        details = results.init("result").result.init("connectionDetails")
        details.uuid = connection_id.bytes
        details.locationName = location
        details.tunnelIsRemotelyManaged = remotely_managed
        return self._answer(question_id, m.encoded(message))

    def respond_error(self, question_id: int, cause: str, retry_after_ns: int, should_retry: bool) -> bytes:
        """A cause with "Unauthorized" lets cloudflared try again after a wrong secret (tunnel-edge.md 4.3)."""
        message, results = m.new_results(question_id, m.schema.RegisterConnectionResults)
        error = results.init("result").result.init("error")
        error.cause, error.retryAfter, error.shouldRetry = cause, retry_after_ns, should_retry
        return self._answer(question_id, m.encoded(message))

    def respond_empty(self, question_id: int) -> bytes:
        message, _ = m.new_results(question_id, m.schema.EmptyResults)
        return self._answer(question_id, m.encoded(message))

    def _answer(self, question_id: int, answer: bytes) -> bytes:
        self._open_questions.discard(question_id)
        return self.data_to_send() + answer

    def _take(self, reader: Any) -> ServerEvent | None:
        which = str(reader.which())
        if which == "bootstrap":
            self._out.append(m.bootstrap_return(reader.bootstrap.questionId))
        elif which == "call":
            return self._take_call(reader.call)
        elif which == "abort":
            return RpcAborted(_text(reader.abort.reason))
        elif which not in ("finish", "release", "unimplemented", "return"):
            self._out.append(m.unimplemented(reader))
        return None

    def _take_call(self, call: Any) -> ServerEvent | None:
        question_id = int(call.questionId)
        if question_id in self._open_questions or len(self._open_questions) >= MAX_OPEN_QUESTIONS:
            raise RpcError("too many open calls on the control stream")
        reader = _METHODS.get(int(call.methodId))
        if call.interfaceId != m.REGISTRATION_INTERFACE or reader is None:
            self._out.append(m.exception_return(question_id, "unknown interface or method", "unimplemented"))
            return None
        event = reader(question_id, call.params.content)
        self._open_questions.add(question_id)
        return event


def _read_register(question_id: int, content: Any) -> RegisterConnection:
    params = content.as_struct(m.schema.RegisterConnectionParams)
    options, client = params.options, params.options.client
    if len(client.features) > MAX_FEATURES:
        raise RpcError("too many features")
    return RegisterConnection(
        question_id,
        _text(params.auth.accountTag),
        bytes(params.auth.tunnelSecret),
        _uuid(params.tunnelId, "tunnel id"),
        int(params.connIndex),
        ConnectionOptions(
            _uuid(client.clientId, "client id"),
            tuple(_text(feature) for feature in client.features),
            _text(client.version),
            _text(client.arch),
            bytes(options.originLocalIp)[:16],
            bool(options.replaceExisting),
            int(options.numPreviousAttempts),
        ),
    )


def _read_unregister(question_id: int, _content: Any) -> UnregisterConnection:
    return UnregisterConnection(question_id)


def _read_update_local_configuration(question_id: int, content: Any) -> UpdateLocalConfiguration:
    params = content.as_struct(m.schema.UpdateLocalConfigurationParams)
    return UpdateLocalConfiguration(question_id, bytes(params.config))


_METHODS: dict[int, Callable[[int, Any], ServerEvent]] = {
    m.METHOD_REGISTER: _read_register,
    m.METHOD_UNREGISTER: _read_unregister,
    m.METHOD_UPDATE_LOCAL_CONFIGURATION: _read_update_local_configuration,
}


# ---- events for the connector --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Registered:
    """The connection serves from now on."""

    connection_id: uuid.UUID
    location: str
    remotely_managed: bool


@dataclass(frozen=True, slots=True)
class RegistrationRefused:
    """`retry_after_seconds` is 0 when the edge named none."""

    cause: str
    retry_after_seconds: float
    should_retry: bool


@dataclass(frozen=True, slots=True)
class Unregistered:
    """The edge opens no more streams."""


@dataclass(frozen=True, slots=True)
class LocalConfigurationAccepted:
    """Method 2 was answered."""


ClientEvent = Registered | RegistrationRefused | Unregistered | LocalConfigurationAccepted | RpcAborted


class RpcClientSession:
    """Connector side. Send data_to_send() after every receive_data: it holds the Finish messages."""

    def __init__(self) -> None:
        self._splitter = m.MessageSplitter()
        self._out: list[bytes] = []
        self._questions: dict[int, str] = {}
        self._export_id: int | None = None

    def bootstrap_and_register(
        self, credentials: TunnelCredentials, conn_index: int, options: ConnectionOptions
    ) -> bytes:
        """Both messages pipelined, as one round trip."""
        bootstrap_id = self._ask("bootstrap")
        question_id = self._ask("register")
        message, call = m.new_call(question_id, m.METHOD_REGISTER)
        call.init("target").init("promisedAnswer").questionId = bootstrap_id
        params = call.init("params").content.as_struct(m.schema.RegisterConnectionParams)
        auth = params.init("auth")
        auth.accountTag, auth.tunnelSecret = credentials.account_tag, credentials.secret
        params.tunnelId = credentials.tunnel_id.bytes
        params.connIndex = conn_index
        _write_options(params.init("options"), options)
        return m.bootstrap(bootstrap_id) + m.encoded(message)

    def receive_data(self, data: bytes | bytearray | memoryview) -> list[ClientEvent]:
        """Raises RpcError; the connection must then be closed."""
        events: list[ClientEvent] = []
        for message in self._splitter.receive_data(data):
            with m.opened(message) as reader:
                event = self._take(reader)
            if event is not None:
                events.append(event)
        return events

    def data_to_send(self) -> bytes:
        out, self._out = b"".join(self._out), []
        return out

    def unregister(self) -> bytes:
        message, call = self._new_call("unregister", m.METHOD_UNREGISTER)
        call.init("params")
        return m.encoded(message)

    def update_local_configuration(self, config: bytes) -> bytes:
        message, call = self._new_call("configure", m.METHOD_UPDATE_LOCAL_CONFIGURATION)
        call.init("params").content.as_struct(m.schema.UpdateLocalConfigurationParams).config = config
        return m.encoded(message)

    def close(self) -> bytes:
        """Release and Abort, the last words before the stream ends."""
        released = m.release(self._export_id) if self._export_id is not None else b""
        return self.data_to_send() + released + m.abort("rpc: shutdown")

    def _ask(self, what: str) -> int:
        question_id = next(number for number in range(len(self._questions) + 1) if number not in self._questions)
        self._questions[question_id] = what
        return question_id

    def _new_call(self, what: str, method_id: int) -> tuple[Any, Any]:
        if self._export_id is None:
            raise RpcError("the registration capability is not known yet")
        message, call = m.new_call(self._ask(what), method_id)
        call.init("target").importedCap = self._export_id
        return message, call

    def _take(self, reader: Any) -> ClientEvent | None:
        which = str(reader.which())
        if which == "return":
            return self._take_return(getattr(reader, "return"))
        if which == "abort":
            return RpcAborted(_text(reader.abort.reason))
        if which == "call":
            self._out.append(m.exception_return(reader.call.questionId, "nothing is exported", "unimplemented"))
        elif which not in ("finish", "release", "unimplemented"):
            self._out.append(m.unimplemented(reader))
        return None

    def _take_return(self, answer: Any) -> ClientEvent | None:
        question_id = int(answer.answerId)
        what = self._questions.pop(question_id, None)
        if what is None:
            raise RpcError("an answer to a question that was not asked")
        self._out.append(m.finish(question_id, release_result_caps=what != "bootstrap"))
        which = str(answer.which())
        if which != "results":
            return self._take_failure(what, _text(answer.exception.reason) if which == "exception" else which)
        if what == "bootstrap":
            self._take_capability(answer.results)
            return None
        if what == "register":
            return _read_response(answer.results.content)
        return Unregistered() if what == "unregister" else LocalConfigurationAccepted()

    def _take_failure(self, what: str, reason: str) -> ClientEvent:
        if what == "register":
            return RegistrationRefused(reason, 0.0, True)
        return Unregistered() if what == "unregister" else RpcAborted(f"{what} failed: {reason}")

    def _take_capability(self, payload: Any) -> None:
        table = payload.capTable
        if len(table) != 1 or str(table[0].which()) != "senderHosted":
            raise RpcError("the bootstrap answer carries no capability")
        self._export_id = int(table[0].senderHosted)


def _write_options(target: Any, options: ConnectionOptions) -> None:
    client = target.init("client")
    client.clientId = options.client_id.bytes
    _write_texts(client.init("features", len(options.features)), options.features)
    client.version, client.arch = options.version, options.arch
    target.originLocalIp = options.origin_local_ip
    target.replaceExisting = options.replace_existing
    target.numPreviousAttempts = min(options.previous_attempts, 255)


def _write_texts(target: Any, texts: Sequence[str]) -> None:
    for index, text in enumerate(texts):
        target[index] = text


def _read_response(content: Any) -> Registered | RegistrationRefused:
    result = content.as_struct(m.schema.RegisterConnectionResults).result.result
    if str(result.which()) == "connectionDetails":
        details = result.connectionDetails
        connection_id = _uuid(details.uuid, "connection id")
        return Registered(connection_id, _text(details.locationName), bool(details.tunnelIsRemotelyManaged))
    error = result.error
    retry_after_seconds = max(0.0, int(error.retryAfter) / 1e9)
    return RegistrationRefused(_text(error.cause), retry_after_seconds, bool(error.shouldRetry))


def _uuid(data: bytes, what: str) -> uuid.UUID:
    if len(data) != 16:
        raise RpcError(f"a {what} must have 16 bytes")
    return uuid.UUID(bytes=bytes(data))


def _text(text: str) -> str:
    """Cut, and without control characters: such text ends in logs."""
    return "".join(character for character in str(text)[:MAX_TEXT_LENGTH] if character.isprintable())
