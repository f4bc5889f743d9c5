"""A provider's side of SCIM: one kept-open HTTPS connection through the edge, JSON in and out."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from demo.installation import Installation

_TIMEOUT_SECONDS = 20.0


class ScimPush:
    """Speaks to a login method's base URL. The edge is dialled directly: the demo's names are in no DNS."""

    def __init__(self, here: Installation, base_url: str, secret: str) -> None:
        self._parts = urlsplit(base_url)
        self._base_url = base_url
        self._secret = secret
        host, _, port = here.facts["edge_address"].rpartition(":")
        context = ssl.create_default_context(cafile=here.facts["edge_ca"])
        raw = socket.create_connection((host, int(port)), _TIMEOUT_SECONDS)
        self._connection = http.client.HTTPConnection(host, int(port), timeout=_TIMEOUT_SECONDS)
        self._connection.sock = context.wrap_socket(raw, server_hostname=self._parts.hostname)

    def send(self, method: str, path: str, body: object = None) -> Any:
        """The answer's JSON. Raises RuntimeError with the problem's text for anything but success."""
        headers = {
            "Host": self._parts.netloc,
            "Authorization": f"Bearer {self._secret}",
            "Content-Type": "application/scim+json",
        }
        data = None if body is None else json.dumps(body).encode()
        self._connection.request(method, self._parts.path + path, body=data, headers=headers)
        answer = self._connection.getresponse()
        text = answer.read()
        if answer.status >= 400:
            raise RuntimeError(f"{method} {path}: {answer.status} {text[:300]!r}")
        return json.loads(text) if text else None

    def patch(self, path: str, *operations: dict[str, Any]) -> Any:
        schemas = ["urn:ietf:params:scim:api:messages:2.0:PatchOp"]
        return self.send("PATCH", path, {"schemas": schemas, "Operations": list(operations)})

    def bulk(self, operations: Iterable[dict[str, Any]]) -> None:
        """Many changes in one request. Raises RuntimeError for the first that was refused."""
        schemas = ["urn:ietf:params:scim:api:messages:2.0:BulkRequest"]
        answer = self.send("POST", "/Bulk", {"schemas": schemas, "Operations": list(operations)})
        for outcome in answer["Operations"]:
            if int(outcome["status"]) >= 400:
                raise RuntimeError(f"{outcome['method']}: {outcome['response']}")

    def another(self, here: Installation) -> ScimPush:
        """A second connection with the same secret."""
        return ScimPush(here, self._base_url, self._secret)

    def close(self) -> None:
        self._connection.close()


def enable_scim(here: Installation, provider_id: str, **settings: object) -> ScimPush:
    """Through the public API, as an administrator's program would."""
    path = f"/accounts/{{account}}/access/identity_providers/{provider_id}"
    provider = here.api("GET", path)
    body = {key: provider[key] for key in ("name", "type", "config")}
    config = here.api("PUT", path, body | {"scim_config": {"enabled": True, **settings}})["scim_config"]
    return ScimPush(here, config["scim_base_url"], config["secret"])
