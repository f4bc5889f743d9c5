"""`sallyport edge run`."""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Mapping, Sequence

from dataplane.edge.certificates import CertificateError
from dataplane.edge.server import Edge
from dataplane.edge.settings import EdgeSettings, SettingsError, read_settings
from dataplane.transport import run_event_loop

USAGE = """usage: sallyport edge run

Runs the public entry. Everything is set by the environment: EDGE_HOST EDGE_PORT TUNNEL_PORT EDGE_CONTROL_PORT
EDGE_PUBLIC_PORT CONTROL_PLANE_URL EDGE_TOKEN or EDGE_TOKEN_FILE, EDGE_STATE_DIR EDGE_NAME EDGE_LOCATION
EDGE_CERT_DIR EDGE_OUTAGE_GRACE_SECONDS EDGE_DRAIN_SECONDS EDGE_LOG_LEVEL (see docs/configuration.md).
"""
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


def run(argv: Sequence[str], environ: Mapping[str, str] | None = None) -> int:
    """Exit code: 0 after a drained stop, 2 for wrong arguments or settings, 1 when a port cannot be bound."""
    environ = os.environ if environ is None else environ
    if argv:
        print(USAGE, end="", file=sys.stdout if argv[0] in ("-h", "--help") else sys.stderr)
        return 0 if argv[0] in ("-h", "--help") else 2
    try:
        settings = read_settings(environ)
        _set_up_logging(environ)
        return run_event_loop(_run(settings))
    except (SettingsError, CertificateError) as error:
        print(f"sallyport edge: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"sallyport edge: {error}", file=sys.stderr)
        return 1


async def _run(settings: EdgeSettings) -> int:
    edge = Edge(settings)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    await edge.start()
    public, tunnel = (f"{host}:{port}" for host, port in (edge.public_address, edge.tunnel_address))
    print(f"edge ready public={public} tunnel={tunnel} control={edge.control.url}", flush=True)
    await stopping.wait()
    await edge.stop(settings.drain_seconds)
    return 0


def _set_up_logging(environ: Mapping[str, str]) -> None:
    level = environ.get("EDGE_LOG_LEVEL") or "INFO"
    if level not in LOG_LEVELS:
        raise SettingsError(f"EDGE_LOG_LEVEL: expected one of {', '.join(LOG_LEVELS)}")
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s %(message)s", stream=sys.stderr)
    # hpack writes header values, tokens among them, at DEBUG.
    logging.getLogger("hpack").setLevel(logging.WARNING)
