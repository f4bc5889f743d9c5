"""The ingress configuration in force: swapped whole, never going back (tunnel-edge.md 5.5)."""

import json
import logging
from collections.abc import Mapping
from typing import Any

from dataplane.wire.ingress import Ingress, IngressError, parse_ingress
from dataplane.wire.services import SocksService

logger = logging.getLogger(__name__)

MAX_DOCUMENT_BYTES = 1 << 20
UNVERSIONED = -1


class PushError(Exception):
    """The push itself cannot be read; nothing to report a version about."""


class LiveConfiguration:
    """Streams keep the rule they were matched with, so a swap never touches them."""

    def __init__(self, ingress: Ingress) -> None:
        check_supported(ingress)
        self.ingress = ingress
        self.version = UNVERSIONED

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
        return version, None


def check_supported(ingress: Ingress) -> None:
    """Raises IngressError for what this connector would not enforce: ignoring it silently would widen access."""
    for number, rule in enumerate(ingress.rules, start=1):
        if isinstance(rule.service, SocksService):
            raise IngressError(f"ingress rule {number}: socks-proxy is not offered by this connector; use bastion")
        access = rule.origin_request.access
        if access is not None and access.required:
            raise IngressError(
                f"ingress rule {number}: originRequest.access.required is not offered by this connector;"
                " the edge checks every token before it opens a stream"
            )


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
