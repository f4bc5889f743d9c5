"""Decides whether a request may pass: token, then the control plane's word, remembered only as long as it
allows."""

import hashlib
import time
from collections import OrderedDict
from dataclasses import dataclass

from dataplane.edge.agent import AgentApi, Allowed, Answered, Decision, Denied, LoginNeeded
from dataplane.edge.errors import Refusal
from dataplane.edge.evidence import ClientCertificate, linked_token
from dataplane.edge.heads import RequestHead, parse_cookies
from dataplane.edge.httpclient import ControlPlaneUnreachableError
from dataplane.edge.snapshot import Application, Snapshot
from dataplane.edge.tokens import KEY_UNKNOWN, TokenAccepted, check_token
from dataplane.wire.names import (
    COOKIE_APP_SESSION,
    COOKIE_AUTH,
    H_CLIENT_ID,
    H_CLIENT_SECRET,
    H_JUMP,
    H_TOKEN,
)

MAX_REMEMBERED = 10_000
MAX_CACHE_SECONDS = 60.0
MAX_USER_AGENT_CHARACTERS = 256
H_PREFLIGHT_METHOD = "access-control-request-method"


class LoginRedirect(Exception):
    """Answer 302 to the login page."""

    def __init__(self, login: LoginNeeded) -> None:
        super().__init__("login needed")
        self.login = login


class AnsweredByAccess(Exception):
    """Answer this instead of asking the application."""

    def __init__(self, answer: Answered) -> None:
        super().__init__("answered")
        self.answer = answer


@dataclass(frozen=True, slots=True)
class Credentials:
    """What the client showed. A token that does not hold is already gone from here."""

    token: str | None
    token_source: str | None
    app_session: str | None
    service_token_id: str | None
    service_token_secret: str | None
    certificate: ClientCertificate | None = None
    linked_token: str | None = None


class Gate:
    """Default deny: without the control plane's answer nobody passes, unless the operator set an outage grace
    and the very same request had been allowed within it."""

    def __init__(self, agent: AgentApi, outage_grace_seconds: float) -> None:
        self._agent = agent
        self._outage_grace_seconds = outage_grace_seconds
        # Key: digest of everything the decision depended on. Value: when it was made, and the decision.
        self._allowed: OrderedDict[bytes, tuple[float, Allowed]] = OrderedDict()

    async def pass_through(
        self,
        head: RequestHead,
        application: Application,
        snapshot: Snapshot,
        client_ip: str,
        reference: str,
        certificate: ClientCertificate | None = None,
    ) -> Allowed:
        """Raises Refusal, LoginRedirect or AnsweredByAccess."""
        credentials = read_credentials(head, application, snapshot, time.time(), certificate)
        key = _key(head, application, credentials, client_ip)
        now = time.monotonic()
        if not head.is_websocket:
            cached = self._allowed.get(key + snapshot.version.to_bytes(8, "big", signed=True))
            fresh = cached is not None and now < cached[0] + min(cached[1].cache_seconds, MAX_CACHE_SECONDS)
            if cached is not None and fresh and not _has_ended(cached[1], now):
                return cached[1]
        try:
            decision = await self._agent.authorize(_question(head, credentials, client_ip, reference))
        except ControlPlaneUnreachableError as error:
            return self._during_outage(key, now, error)
        return self._settle(decision, application, key, snapshot.version)

    def forget(self, allowed: Allowed) -> None:
        """A stream let in by `allowed` was cut: what else the same session was let in to is no longer remembered, nor,
        for a machine, what was let in to the same application without a session."""
        gone = [
            key
            for key, (_, other) in self._allowed.items()
            if other.session_nonce == allowed.session_nonce
            and (other.session_nonce is not None or other.application_id == allowed.application_id)
        ]
        for key in gone:
            del self._allowed[key]

    def _settle(self, decision: Decision, application: Application, key: bytes, version: int) -> Allowed:
        if not isinstance(decision, Allowed):
            self._allowed.pop(key, None)
        if isinstance(decision, LoginNeeded):
            raise LoginRedirect(decision)
        if isinstance(decision, Answered):
            raise AnsweredByAccess(decision)
        if isinstance(decision, Denied):
            raise Refusal(
                decision.status,
                decision.reason,
                decision.message,
                location=decision.location,
                page=decision.page,
            )
        if decision.application_id != application.id:
            # Edge and control plane disagree about which application this is: a snapshot is on its way.
            raise Refusal(503, "snapshot_outdated", "The configuration is just changing; please try again.")
        now = time.monotonic()
        if decision.cache_seconds > 0:
            self._remember(key + version.to_bytes(8, "big", signed=True), now, decision)
        if self._outage_grace_seconds > 0:
            self._remember(key, now, decision)
        return decision

    def _during_outage(self, key: bytes, now: float, error: Exception) -> Allowed:
        remembered = self._allowed.get(key)
        within_grace = remembered is not None and now < remembered[0] + self._outage_grace_seconds
        if remembered is not None and within_grace and not _has_ended(remembered[1], now):
            return remembered[1]
        raise Refusal(
            503, "control_plane_unreachable", "Access cannot be checked at the moment; please try again."
        ) from error

    def _remember(self, key: bytes, now: float, decision: Allowed) -> None:
        self._allowed[key] = (now, decision)
        self._allowed.move_to_end(key)
        while len(self._allowed) > MAX_REMEMBERED:
            self._allowed.popitem(last=False)


def _has_ended(allowed: Allowed, now: float) -> bool:
    return allowed.ends_at is not None and now >= allowed.ends_at


def read_credentials(
    head: RequestHead,
    application: Application,
    snapshot: Snapshot,
    now: float,
    certificate: ClientCertificate | None = None,
) -> Credentials:
    """Raises Refusal for a token that no login would make better, and for a WebSocket from a foreign page."""
    cookies = parse_cookies(head.get_all("cookie"))
    token, source = head.get(H_TOKEN), "header"
    if not token:
        token, source = cookies.get(COOKIE_AUTH), "cookie"
    if token:
        verdict = check_token(token, application, snapshot, now)
        if not isinstance(verdict, TokenAccepted):
            # A browser cannot help what its cookie jar holds: it logs in again. A client that sends a header
            # can.
            if source == "header" and not verdict.is_login_useful:
                raise Refusal(403, verdict.reason, verdict.message)
            # A key this snapshot lacks may be seconds old (an organization's first login): the control plane, asked
            # next, checks the token itself. Taken for absent, a fresh token would be sent to the login in a circle.
            if verdict.reason != KEY_UNKNOWN:
                token = None
    if head.is_websocket and source == "cookie" and (token or cookies.get(COOKIE_APP_SESSION)):
        _check_origin(head)
    return Credentials(
        token=token or None,
        token_source=source if token else None,
        app_session=cookies.get(COOKIE_APP_SESSION),
        service_token_id=head.get(H_CLIENT_ID),
        service_token_secret=head.get(H_CLIENT_SECRET),
        certificate=certificate,
        linked_token=linked_token(head, application),
    )


def _check_origin(head: RequestHead) -> None:
    """Browsers send cookies along with WebSockets opened by any page; only the application's own may
    (AC-60)."""
    origins = head.get_all("origin")
    if len(origins) != 1 or origins[0].lower() != f"https://{(head.get('host') or '').lower()}":
        raise Refusal(403, "websocket_origin_refused", "This WebSocket was opened by a page of another site.")


def _question(head: RequestHead, credentials: Credentials, client_ip: str, reference: str) -> dict[str, object]:
    return {
        "ray_id": reference,
        "hostname": head.hostname,
        "path": head.path,
        "query": head.target.partition("?")[2],
        "method": head.method,
        "websocket": head.is_websocket,
        "client_ip": client_ip,
        "user_agent": (head.get("user-agent") or "")[:MAX_USER_AGENT_CHARACTERS],
        "token": credentials.token,
        "token_source": credentials.token_source,
        "app_session": credentials.app_session,
        "service_token_id": credentials.service_token_id,
        "service_token_secret": credentials.service_token_secret,
        "destination": head.get(H_JUMP),
        "xhr": (head.get("x-requested-with") or "").lower() == "xmlhttprequest",
        "page_wanted": head.method in ("GET", "HEAD") and "text/html" in (head.get("accept") or ""),
        "origin": head.get("origin"),
        "certificate": credentials.certificate.to_document() if credentials.certificate else None,
        "linked_token": credentials.linked_token,
        "preflight_method": head.get(H_PREFLIGHT_METHOD),
        "preflight_headers": ", ".join(head.get_all("access-control-request-headers")) or None,
    }


def _key(head: RequestHead, application: Application, credentials: Credentials, client_ip: str) -> bytes:
    """Everything the decision may depend on, digested so that no credential stays in memory."""
    parts = (
        application.id,
        client_ip,
        head.hostname,
        head.path,
        head.method,
        str(head.is_websocket),
        credentials.token or "",
        credentials.token_source or "",
        credentials.app_session or "",
        credentials.service_token_id or "",
        credentials.service_token_secret or "",
        head.get(H_JUMP) or "",
        credentials.certificate.fingerprint if credentials.certificate else "",
        credentials.linked_token or "",
        # A preflight passes without a login: what was said about one is said about preflights only.
        *((head.get("origin") or "", method) if (method := head.get(H_PREFLIGHT_METHOD)) else ()),
    )
    return hashlib.sha256("\0".join(parts).encode()).digest()
