"""The connector's own service behind the management host: live log lines over a WebSocket (tunnel-edge.md 7).

    edge -> connector   {"type": "start_streaming", "filters": {"level": "info"}}   {"type": "stop_streaming"}
    connector -> edge   {"type": "logs", "logs": [{"time", "level", "message", "event", "fields"}]}

An unmodified cloudflared and our connector speak the same messages; both announce the feature management_logs.
"""

import base64
import json
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote

LEVELS: Final = ("debug", "info", "warn", "error")
LOGS_PATH: Final = "/logs"
MAX_MESSAGE_CHARACTERS: Final = 2000
MAX_FIELDS: Final = 20
MAX_FIELD_CHARACTERS: Final = 300
MAX_LINES_PER_MESSAGE: Final = 200


@dataclass(frozen=True, slots=True)
class LogLine:
    time: str
    level: str
    message: str
    fields: dict[str, str] = field(default_factory=dict)


def logs_target(tunnel_id: str, account: str) -> str:
    """The path to ask for. cloudflared reads the claims of a token whose signature it does not check; who asks is
    proved by the tunnel it comes through. Ours ignores the token."""
    header = {"alg": "ES256", "typ": "JWT"}
    claims = {"tun": {"id": tunnel_id, "account_tag": account}, "actor": {"id": "edge", "support": False}}
    token = ".".join([_part(header), _part(claims), base64.urlsafe_b64encode(bytes(64)).rstrip(b"=").decode()])
    return f"{LOGS_PATH}?access_token={quote(token)}"


def start_message(level: str) -> bytes:
    return json.dumps({"type": "start_streaming", "filters": {"level": level, "sampling": 1.0}}).encode()


def read_start(text: bytes) -> str | None:
    """The level a start_streaming message asks for; None for every other message."""
    try:
        document = json.loads(text)
        if document["type"] != "start_streaming":
            return None
        level = (document.get("filters") or {}).get("level") or "info"
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return level if level in LEVELS else "info"


def logs_message(lines: list[LogLine]) -> bytes:
    rows = [
        {"time": line.time, "level": line.level, "message": line.message, "event": "cloudflared", "fields": line.fields}
        for line in lines
    ]
    return json.dumps({"type": "logs", "logs": rows}, separators=(",", ":")).encode()


def read_logs(text: bytes) -> list[LogLine]:
    """Lines of a logs message, cut to size; empty for anything else."""
    try:
        document = json.loads(text)
        rows = document["logs"] if document["type"] == "logs" else []
    except (ValueError, KeyError, TypeError, RecursionError):
        return []
    if not isinstance(rows, list):
        return []
    return [_line(row) for row in rows[:MAX_LINES_PER_MESSAGE] if isinstance(row, dict)]


def level_number(level: str) -> int:
    return LEVELS.index(level) if level in LEVELS else LEVELS.index("info")


def _line(row: dict[str, Any]) -> LogLine:
    fields = row.get("fields")
    kept = list(fields.items())[:MAX_FIELDS] if isinstance(fields, dict) else []
    level = _text(row.get("level"), 10).lower()
    level = {"warning": "warn", "fatal": "error", "critical": "error"}.get(level, level)
    return LogLine(
        time=_text(row.get("time"), 40),
        level=level if level in LEVELS else "info",
        message=_text(row.get("message"), MAX_MESSAGE_CHARACTERS),
        fields={_text(key, 60): _text(value, MAX_FIELD_CHARACTERS) for key, value in kept},
    )


def _text(value: object, limit: int) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str) if value is not None else ""
    return "".join(letter if letter.isprintable() else " " for letter in text[:limit])


def _part(document: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(document, separators=(",", ":")).encode()).rstrip(b"=").decode()
