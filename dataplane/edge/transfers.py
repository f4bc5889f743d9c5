"""The login hand-over: holds a client's poll until the control plane has its sealed token (access-client.md
6.2)."""

import asyncio
import re
from collections import Counter

from dataplane.edge.agent import AgentApi
from dataplane.edge.errors import Refusal
from dataplane.edge.httpclient import ControlPlaneUnreachableError
from dataplane.edge.public import PublicConnection

# Below the client's 60 s, after which it gives up for good.
HOLD_SECONDS = 50.0
POLL_SECONDS = 0.5
MAX_WAITING = 1000
MAX_WAITING_PER_ADDRESS = 32
# base64url of a 32-byte key, with or without its padding, plain or percent-encoded.
_PUBLIC_KEY = re.compile(r"^[A-Za-z0-9_-]{43}(=|%3[Dd])?$")


class Transfers:
    def __init__(self, agent: AgentApi, *, hold_seconds: float = HOLD_SECONDS) -> None:
        self._agent = agent
        self._hold_seconds = hold_seconds
        self._waiting: Counter[str] = Counter()

    async def serve(self, client: PublicConnection, public_key: str) -> None:
        """200 with the sealed body once, 404 after the hold. Never 5xx while waiting: the client gives up on
        those."""
        if not _PUBLIC_KEY.match(public_key):
            raise Refusal(404, "transfer_unknown", "This is not a transfer key.")
        address = client.peer_ip
        if self._waiting.total() >= MAX_WAITING or self._waiting[address] >= MAX_WAITING_PER_ADDRESS:
            raise Refusal(429, "too_many_transfers", "Too many logins are waiting; please try again.")
        self._waiting[address] += 1
        try:
            await self._hold(client, public_key[:43] + "=")
        finally:
            self._waiting[address] -= 1
            if not self._waiting[address]:
                del self._waiting[address]

    async def _hold(self, client: PublicConnection, public_key: str) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._hold_seconds
        while loop.time() < deadline and not client.is_last:
            try:
                found = await self._agent.fetch_transfer(public_key, client.peer_ip)
            except ControlPlaneUnreachableError:
                found = None
            if found is not None:
                service_public_key, body = found
                headers = [
                    ("service-public-key", service_public_key),
                    ("content-type", "text/plain"),
                    ("cache-control", "no-store"),
                ]
                client.send_response(200, headers, body.encode())
                return
            await asyncio.sleep(POLL_SECONDS)
        raise Refusal(404, "transfer_pending", "The login is not finished yet.")
