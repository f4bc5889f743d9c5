"""Log lines of the connector: plain for people, JSON for machines; extra fields are kept in both."""

import json
import logging
import sys
from datetime import UTC, datetime
from pathlib import Path

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class PlainFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = " ".join(f"{key}={_quoted(value)}" for key, value in extras(record).items())
        line = f"{_timestamp(record)} {record.levelname:<7} {record.getMessage()}"
        text = f"{line} {fields}" if fields else line
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


class JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        document = {"time": _timestamp(record), "level": record.levelname.lower(), "message": record.getMessage()}
        document |= {key: str(value) for key, value in extras(record).items()}
        if record.exc_info:
            document["exception"] = self.formatException(record.exc_info)
        return json.dumps(document)


def set_up_logging(*, level: str, log_format: str, log_file: Path | None) -> None:
    """Lines go to stderr and, when it can be opened, to `log_file` (JSON there)."""
    root = logging.getLogger()
    root.setLevel(level.upper())
    for old in list(root.handlers):
        root.removeHandler(old)
    console = logging.StreamHandler(sys.stderr)
    console.setFormatter(JsonFormatter() if log_format == "json" else PlainFormatter())
    # On the handler too: a watched log stream (connector/logstream.py) may ask our own loggers for more.
    console.setLevel(level.upper())
    root.addHandler(console)
    if log_file is None:
        return
    try:
        log_file.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
        to_file = logging.FileHandler(log_file)
    except OSError as error:
        # The tutorial's logDirectory is optional: a tunnel that runs matters more than its second log.
        logging.getLogger(__name__).warning("no log file: cannot write %s: %s", log_file, error.strerror)
        return
    to_file.setFormatter(JsonFormatter())
    to_file.setLevel(level.upper())
    root.addHandler(to_file)


def _timestamp(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def extras(record: logging.LogRecord) -> dict[str, object]:
    return {key: value for key, value in vars(record).items() if key not in _STANDARD and value not in ("", None)}


def _quoted(value: object) -> str:
    text = str(value)
    return text if text.isalnum() or all(c.isalnum() or c in "-_.:/@" for c in text) else json.dumps(text)
