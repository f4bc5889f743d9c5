"""The agent API of the control plane, as the edge calls it (CONTRACT: Edge <-> control plane)."""

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote, urlencode

from dataplane.edge.errors import Refusal
from dataplane.edge.httpclient import ControlPlaneUnreachableError, HttpClient
from dataplane.wire.headers import is_valid_value

SNAPSHOT_TIMEOUT_SECONDS = 10.0
AUTHORIZE_TIMEOUT_SECONDS = 10.0
# Short, because the next change waits for it (livestreams.py).
RECHECK_TIMEOUT_SECONDS = 3.0
REPORT_TIMEOUT_SECONDS = 10.0
MAX_LOCATION_CHARACTERS = 16 * 1024


class BadAnswerError(ControlPlaneUnreachableError):
    """The control plane answered something this edge cannot act on; treated like no answer: deny."""


@dataclass(frozen=True, slots=True)
class Allowed:
    application_id: str
    session_nonce: str | None
    identity: str | None
    assertion: str | None
    destination: str | None
    cache_seconds: float
    # Opaque: what the control plane wants to see again when the stream is rechecked.
    evidence: str | None = None
    # By this machine's monotonic clock: then the yes counts no longer (an approval runs out), and a stream ends unless
    # it is confirmed anew.
    ends_at: float | None = None


@dataclass(frozen=True, slots=True)
class LoginNeeded:
    location: str
    cookies: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Denied:
    status: int
    reason: str
    message: str
    # For browsers: where to go instead, or the page to show.
    location: str = ""
    page: str = ""


@dataclass(frozen=True, slots=True)
class Answered:
    """The answer to a preflight request: the application is not asked."""

    status: int
    headers: tuple[tuple[str, str], ...]


Decision = Allowed | LoginNeeded | Denied | Answered


@dataclass(frozen=True, slots=True)
class Cut:
    stream_id: str
    reason: str
    message: str
    # Under which the control plane logged it.
    reference: str = ""


@dataclass(frozen=True, slots=True)
class Rechecked:
    """`ends_at`: stream id -> until when the yes counts (as Allowed.ends_at), for those whose end is known."""

    cuts: Sequence[Cut]
    ends_at: Mapping[str, float]


class AgentApi:
    """Raises ControlPlaneUnreachableError from every method when there is no usable answer."""

    def __init__(self, client: HttpClient, token: str) -> None:
        self._client = client
        self._authorization = ("authorization", f"Bearer {token}")

    async def fetch_snapshot(self, known_version: int | None) -> Any | None:
        """The snapshot document, or None when `known_version` is still the newest."""
        extra = {"if-none-match": f'"{known_version}"'} if known_version is not None else {}
        status, document = await self._call("GET", "/agent/v1/snapshot", None, SNAPSHOT_TIMEOUT_SECONDS, extra)
        return None if status == 304 else document

    async def authorize(self, request: Mapping[str, object]) -> Decision:
        _, document = await self._call("POST", "/agent/v1/authorize", request, AUTHORIZE_TIMEOUT_SECONDS)
        try:
            return _parse_decision(document)
        except (KeyError, TypeError, ValueError) as error:
            raise BadAnswerError("authorize answered in an unexpected shape") from error

    async def recheck(self, streams: Sequence[Mapping[str, object]]) -> Rechecked:
        _, document = await self._call("POST", "/agent/v1/recheck", {"streams": streams}, RECHECK_TIMEOUT_SECONDS)
        try:
            cuts = [
                Cut(str(c["stream_id"]), str(c["reason"]), str(c.get("message") or ""), str(c.get("reference") or ""))
                for c in document["cut"]
            ]
            now = time.monotonic()
            ends = {str(k): now + _seconds(value) for k, value in (document.get("ends_in_seconds") or {}).items()}
            return Rechecked(cuts, ends)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BadAnswerError("recheck answered in an unexpected shape") from error

    async def report(self, report: Mapping[str, object]) -> None:
        await self._call("POST", "/agent/v1/report", report, REPORT_TIMEOUT_SECONDS)

    async def fetch_transfer(self, public_key: str, client_ip: str) -> tuple[str, str] | None:
        """(service public key, sealed body) exactly once, None while nothing is stored.

        Raises Refusal when the login ended without a token, with the control plane's reason.
        """
        target = f"/agent/v1/transfers/{quote(public_key, safe='')}?{urlencode({'client_ip': client_ip})}"
        status, document = await self._call("GET", target, None, AUTHORIZE_TIMEOUT_SECONDS, allowed=(200, 404, 410))
        if status == 404:
            return None
        try:
            if status == 410:
                told = str(document["reason"]), str(document["message"])
                raise Refusal(410, *told, reference=str(document.get("reference") or ""))
            return str(document["service_public_key"]), str(document["body"])
        except (KeyError, TypeError) as error:
            raise BadAnswerError("transfer answered in an unexpected shape") from error

    async def _call(
        self,
        method: str,
        target: str,
        document: object,
        timeout: float,
        extra: Mapping[str, str] | None = None,
        *,
        allowed: tuple[int, ...] = (200, 304),
    ) -> tuple[int, Any]:
        headers = [("host", self._client.authority), self._authorization, ("accept", "application/json")]
        headers += list((extra or {}).items())
        body = b""
        if document is not None:
            headers.append(("content-type", "application/json"))
            body = json.dumps(document, separators=(",", ":")).encode()
        answer = await self._client.open(method, target, headers, body, head_timeout=timeout)
        try:
            content = await answer.read()
        finally:
            answer.close()
        if answer.status not in allowed:
            raise BadAnswerError(f"{method} {target.partition('?')[0]} answered {answer.status}")
        if answer.status not in (200, 410):
            return answer.status, None
        try:
            return answer.status, json.loads(content)
        except (ValueError, RecursionError) as error:
            raise BadAnswerError(f"{method} {target.partition('?')[0]} did not answer JSON") from error


def _parse_decision(document: Any) -> Decision:
    outcome: Literal["allow", "login", "deny", "answer"] = document["outcome"]
    if outcome == "allow":
        return Allowed(
            application_id=str(document["application_id"]),
            session_nonce=_header_safe(document.get("session_nonce")),
            identity=_header_safe(document.get("identity")),
            assertion=_header_safe(document.get("assertion")),
            destination=_header_safe(document.get("destination")),
            cache_seconds=max(0.0, float(document.get("cache_seconds") or 0)),
            evidence=_header_safe(document.get("evidence")),
            ends_at=None if (end := document.get("ends_in_seconds")) is None else time.monotonic() + _seconds(end),
        )
    if outcome == "login":
        location = _header_safe(document["location"]) or ""
        if not location or len(location) > MAX_LOCATION_CHARACTERS:
            raise ValueError("login without a location")
        return LoginNeeded(location, tuple(_header_safe(c) or "" for c in document.get("set_cookie") or ()))
    if outcome == "deny":
        status = int(document["status"])
        if not 400 <= status <= 599:
            raise ValueError("deny with a success status")
        location, page = _header_safe(document.get("location")) or "", document.get("page") or ""
        if len(location) > MAX_LOCATION_CHARACTERS or not isinstance(page, str):
            raise ValueError("deny with an unusable page")
        return Denied(status, str(document["reason"]), str(document["message"]), location, page)
    if outcome == "answer":
        status = int(document["status"])
        if not 200 <= status <= 299:
            raise ValueError("answer without a success status")
        return Answered(
            status, tuple((_cors_name(name), _header_safe(value) or "") for name, value in document["headers"])
        )
    raise ValueError("unknown outcome")


def _cors_name(name: object) -> str:
    if not isinstance(name, str) or not (name == "vary" or name.startswith("access-control-")):
        raise ValueError("a preflight answer holds nothing but CORS headers")
    return name


def _seconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("not a number of seconds")
    return max(0.0, float(value))


def _header_safe(value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not is_valid_value(value):
        raise ValueError("a value that goes into a header has control characters")
    return value
