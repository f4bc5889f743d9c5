"""The ingress configuration in force: swapped whole, never going back (tunnel-edge.md 5.5)."""

import json
import logging
from collections.abc import Mapping
from typing import Any

from dataplane.connector.lastgood import LastGood
from dataplane.wire.ingress import Ingress, IngressError, not_offered, parse_ingress

logger = logging.getLogger(__name__)

MAX_DOCUMENT_BYTES = 1 << 20
UNVERSIONED = -1


class PushError(Exception):
    """The push itself cannot be read; nothing to report a version about."""


class LiveConfiguration:
    """Streams keep the rule they were matched with, so a swap never touches them."""

    def __init__(self, ingress: Ingress, last_good: LastGood | None = None) -> None:
        check_supported(ingress)
        self.ingress = ingress
        self.version = UNVERSIONED
        self._last_good = last_good
        self._start_from_last_good()

    def apply(self, body: bytes) -> tuple[int, str | None]:
        """(version in force, error text or None). An older or equal version changes nothing and is no error.
        Raises PushError for a body that is no push."""
        version, config = _parse_push(body)
        if version <= self.version:
            return self.version, None
        try:
            ingress = parse_ingress(config)
            check_supported(ingress)
        except IngressError as error:
            logger.error("configuration version %d refused: %s", version, error)
            return self.version, str(error)
        self.ingress, self.version = ingress, version
        logger.info("configuration version %d applied, %d rules", version, len(ingress.rules))
        if self._last_good is not None:
            self._last_good.save(version, config)
        return version, None

    def _start_from_last_good(self) -> None:
        """The file exists only for a tunnel that the dashboard configures; its connectors ignore their own rules."""
        stored = self._last_good.load() if self._last_good is not None else None
        if stored is None:
            return
        version, config = stored
        try:
            ingress = parse_ingress(config)
            check_supported(ingress)
        except IngressError as error:
            logger.warning("last good configuration version %d not used: %s", version, error)
            return
        # One below: the push of the same version is taken, so that a file somebody changed cannot outlive it.
        self.ingress, self.version = ingress, version - 1
        logger.info("starting with the last good configuration, version %d, %d rules", version, len(ingress.rules))


def check_supported(ingress: Ingress) -> None:
    """Raises IngressError for what this connector would not enforce."""
    refused = not_offered(ingress)
    if refused:
        raise IngressError(refused)


def _parse_push(body: bytes) -> tuple[int, Mapping[str, Any]]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise PushError("the configuration push is not JSON") from error
    version = document.get("version") if isinstance(document, dict) else None
    if not isinstance(version, int) or isinstance(version, bool) or not 0 <= version < 1 << 31:
        raise PushError("the configuration push has no version")
    config = document.get("config")
    if not isinstance(config, dict):
        raise PushError("the configuration push has no config")
    return version, config
