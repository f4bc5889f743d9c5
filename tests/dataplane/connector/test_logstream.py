"""Live log lines through the tunnel: level, redaction, bounds, and nothing when nobody watches."""

import json
from pathlib import Path
from typing import Any

from dataplane.wire import websocket as ws
from dataplane.wire.management import LOGS_PATH, logs_target, read_logs, start_message
from dataplane.wire.names import MANAGEMENT_HOST
from tests.dataplane.connector.lab import LabConnection, LabEdge, LabStream, connector, within

Config = dict[str, Any]
LOCAL = [{"service": "http_status:404"}]
TARGET = logs_target("79a60ee2-9a98-4f5f-96c7-76c88b2075be", "a" * 32)


async def watch(connection: LabConnection, level: str) -> LabStream:
    stream = connection.open_websocket(MANAGEMENT_HOST, path=TARGET)
    assert await stream.status() == 200
    await stream.send_message(start_message(level), opcode=ws.TEXT)
    return stream


async def line_with(stream: LabStream, text: str) -> Any:
    """Reads log messages until one has the text."""
    parser = ws.FrameParser(expects_mask=False)
    message = bytearray()

    async def read() -> Any:
        while True:
            await stream.wait_for(lambda: bool(stream.buffer) or stream.is_over)
            assert stream.buffer, "the stream ended"
            for event in parser.receive_data(await stream.read(len(stream.buffer))):
                assert isinstance(event, ws.PayloadReceived)
                message.extend(event.data)
                if event.is_message_end:
                    for line in read_logs(bytes(message)):
                        if text in line.message:
                            return line
                    message.clear()

    return await within(read())


async def test_lines_arrive_while_somebody_watches(edge: LabEdge, base: Config, tmp_path: Path) -> None:
    async with connector(tmp_path, config={**base, "ingress": LOCAL}):
        connection = await edge.registered()
        stream = await watch(connection, "info")
        await connection.push_config(7, {"ingress": [{"service": "http_status:410"}]})
        line = await line_with(stream, "configuration version 7 applied")
        assert line.level == "info"
        assert line.time.endswith("Z")


async def test_a_level_leaves_out_what_is_below(edge: LabEdge, base: Config, tmp_path: Path) -> None:
    async with connector(tmp_path, config={**base, "ingress": LOCAL}):
        connection = await edge.registered()
        stream = await watch(connection, "error")
        await connection.push_config(7, {"ingress": LOCAL})
        await connection.push_config(8, {"ingress": [{"service": "socks-proxy"}]})
        line = await line_with(stream, "")
        assert "version 8 refused" in line.message


async def test_secrets_stay_behind(edge: LabEdge, base: Config, tmp_path: Path) -> None:
    secret = "hunter2-hunter2"
    async with connector(tmp_path, config={**base, "ingress": LOCAL}) as process:
        connection = await edge.registered()
        stream = await watch(connection, "info")
        config = {"ingress": [{"hostname": f"password={secret}", "service": "bastion"}]}
        await connection.push_config(9, config)
        line = await line_with(stream, "version 9 refused")
        assert secret not in json.dumps([line.message, line.fields])
        assert secret in (await process.logged("version 9 refused"))["message"]


async def test_the_process_itself_logs_no_more_than_before(edge: LabEdge, base: Config, tmp_path: Path) -> None:
    async with connector(tmp_path, config={**base, "ingress": LOCAL, "loglevel": "warning"}) as process:
        connection = await edge.registered()
        stream = await watch(connection, "debug")
        await connection.push_config(7, {"ingress": LOCAL})
        await line_with(stream, "version 7 applied")
        assert not any("version 7 applied" in line["message"] for line in process.lines)


async def test_other_management_requests_are_refused(edge: LabEdge, base: Config, tmp_path: Path) -> None:
    async with connector(tmp_path, config={**base, "ingress": [{"service": "hello_world"}]}):
        connection = await edge.registered()
        for path in ("/", "/metrics", "/host_details", LOGS_PATH):
            stream = connection.open([], end=True, host=MANAGEMENT_HOST, path=path)
            assert await stream.status() == 404
            assert (await stream.meta()).reason == "management_unavailable"


async def test_streams_are_few(edge: LabEdge, base: Config, tmp_path: Path) -> None:
    async with connector(tmp_path, config={**base, "ingress": LOCAL}):
        connection = await edge.registered()
        streams = [await watch(connection, "info") for _ in range(4)]
        assert await connection.open_websocket(MANAGEMENT_HOST, path=TARGET).status() == 503
        streams[0].reset()
        await within(_until_room(connection))


async def _until_room(connection: LabConnection) -> None:
    while await connection.open_websocket(MANAGEMENT_HOST, path=TARGET).status() != 200:
        pass


async def test_a_connector_may_keep_its_log_to_itself(edge: LabEdge, base: Config, tmp_path: Path) -> None:
    async with connector(tmp_path, "--no-remote-logs", config={**base, "ingress": LOCAL}):
        connection = await edge.registered()
        assert connection.registration is not None
        assert "management_logs" not in connection.registration.options.features
        assert await connection.open_websocket(MANAGEMENT_HOST, path=TARGET).status() == 404
