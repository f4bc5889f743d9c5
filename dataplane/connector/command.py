"""`sallyport tunnel run`."""

import asyncio
import contextlib
import logging
import os
import signal
import ssl
from collections.abc import Sequence

from dataplane.connector.logs import set_up_logging
from dataplane.connector.metrics import serve_metrics
from dataplane.connector.settings import Settings, load_settings
from dataplane.connector.supervisor import Connector
from dataplane.errors import CommandError
from dataplane.transport import run_event_loop
from dataplane.wire.ingress import IngressError

logger = logging.getLogger(__name__)


def run(argv: Sequence[str]) -> int:
    """Runs until SIGTERM or SIGINT; a second signal stops at once. Raises CommandError for unusable settings."""
    settings = load_settings(argv, os.environ)
    set_up_logging(level=settings.log_level, log_format=settings.log_format, log_file=settings.log_file)
    for warning in settings.warnings:
        logger.warning("%s", warning)
    run_event_loop(_serve(settings))
    return 0


async def _serve(settings: Settings) -> None:
    try:
        connector = Connector(settings)
    except (OSError, ssl.SSLError) as error:
        raise CommandError(f"cannot use the CA file {settings.ca_file}: {error}") from error
    except IngressError as error:
        raise CommandError(str(error)) from error
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, connector.stop)
    async with contextlib.AsyncExitStack() as stack:
        if settings.metrics is not None:
            try:
                server = await serve_metrics(connector, settings.metrics)
            except OSError as error:
                raise CommandError(f"cannot listen on {settings.metrics}: {error.strerror}") from error
            stack.callback(server.close)
            logger.info("metrics on %s", server.sockets[0].getsockname()[:2])
        await connector.run()
