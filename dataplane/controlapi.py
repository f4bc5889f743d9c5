"""Small client for the control plane's /client/v4 API (product.md 3.1, tunnel-edge.md section 1)."""

import json
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit

from dataplane.errors import CommandError, printable
from dataplane.https import Dialer, HttpError, Response, is_loopback_name

API_TIMEOUT_SECONDS = 15.0
MAX_PAGES = 1000
PER_PAGE = 50


class ApiError(CommandError):
    """The API refused; `status` is the HTTP status, `codes` the error codes of the envelope."""

    def __init__(self, message: str, *, status: int, codes: tuple[int, ...] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.codes = codes


class ControlApi:
    """One account's view of the API. The token is sent as a bearer and shows in no message."""

    def __init__(self, *, base_url: str, token: str, dialer: Dialer) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.username:
            raise CommandError(f"{printable(base_url)!r} is not an API URL; write for example https://HOST/client/v4")
        if parts.scheme == "http" and not _is_local(parts.hostname):
            raise CommandError(f"the API token would cross the network in clear: use https://{parts.netloc}")
        self._base_url = base_url.rstrip("/")
        self._token = token
        self._dialer = dialer

    def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> Any:
        """The envelope's `result`. Raises ApiError, or HttpError when there is no answer."""
        return self._envelope(method, path, query or {}, body).get("result")

    def pages(self, path: str, *, query: Mapping[str, str] | None = None) -> Iterator[dict[str, Any]]:
        """Every item of a list, page after page; stops by result_info as cloudflared does (tunnel-edge.md 1.2)."""
        seen = 0
        for page in range(1, MAX_PAGES + 1):
            numbers = {"page": str(page), "per_page": str(PER_PAGE)}
            envelope = self._envelope("GET", path, {**(query or {}), **numbers}, None)
            items = envelope.get("result") or []
            info = envelope.get("result_info") or {}
            yield from (item for item in items if isinstance(item, dict))
            seen += len(items)
            if (
                not items
                or len(items) < int(info.get("per_page") or PER_PAGE)
                or seen >= int(info.get("total_count") or 0)
            ):
                return

    def sole_account(self) -> str:
        """The account id, when the token reaches exactly one account. Raises CommandError."""
        accounts = list(self.pages("/accounts"))
        if not accounts:
            raise CommandError("this API token reaches no account; make one with account permissions in the dashboard")
        if len(accounts) > 1:
            names = ", ".join(f"{item.get('id')} ({printable(str(item.get('name')), limit=60)})" for item in accounts)
            raise CommandError(f"this API token reaches several accounts; choose one with --account: {names}")
        return str(accounts[0]["id"])

    def zone_of(self, hostname: str, account_id: str | None = None) -> str:
        """Id of the zone with the longest name that `hostname` lies in. Raises CommandError."""
        query = {"account.id": account_id} if account_id else {}
        zones = {str(zone.get("name", "")).lower(): str(zone.get("id")) for zone in self.pages("/zones", query=query)}
        labels = hostname.lower().rstrip(".").split(".")
        for start in range(len(labels)):
            zone_id = zones.get(".".join(labels[start:]))
            if zone_id:
                return zone_id
        known = ", ".join(sorted(zones)) or "none"
        raise CommandError(
            f"{hostname} lies in no zone of this account (zones: {known}); add the zone in the dashboard first"
        )

    def _envelope(
        self, method: str, path: str, query: Mapping[str, str], body: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        url = self._base_url + path + (f"?{urlencode(query)}" if query else "")
        headers = {"Authorization": f"Bearer {self._token}", "Accept": "application/json"}
        payload = None if body is None else json.dumps(body).encode()
        if payload is not None:
            headers["Content-Type"] = "application/json"
        response = self._dialer.request(method, url, headers=headers, body=payload, timeout=API_TIMEOUT_SECONDS)
        return _read_envelope(response, f"{method} {path}")


def _read_envelope(response: Response, what: str) -> dict[str, Any]:
    try:
        document = json.loads(response.body) if response.body else {}
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        if response.status < 300:
            raise HttpError("the API answered without JSON; is the URL right? It ends in /client/v4")
        document = {}
    if 200 <= response.status < 300 and document.get("success", True) is not False:
        return document
    errors = [item for item in document.get("errors") or [] if isinstance(item, dict)]
    text = "; ".join(printable(str(item.get("message")), limit=300) for item in errors) or _plain(response.status)
    codes = tuple(item["code"] for item in errors if isinstance(item.get("code"), int))
    numbers = f" (HTTP {response.status}" + "".join(f", code {code}" for code in codes) + ")"
    raise ApiError(f"{what}: {text}{numbers}", status=response.status, codes=codes)


def _plain(status: int) -> str:
    return {
        401: "the API token is not accepted; check SALLYPORT_API_TOKEN or run: sallyport login",
        403: "the API token may not do this",
        404: "not found",
        429: "too many requests; wait a moment",
    }.get(status, "the request failed")


def _is_local(host: str) -> bool:
    return is_loopback_name(host) or host == "::1" or host.startswith("127.")
