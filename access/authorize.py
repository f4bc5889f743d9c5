"""What edges ask: may this request pass, and may these live streams go on? (CONTRACT: /agent/v1/authorize, recheck)

Everything is looked up now: token, session, identity, service token, policies, destination. Both allowed and denied
decisions go to the access log.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime

from django.utils import timezone

from access import tokens
from access.actions.service_tokens import authenticate_service_token, shown_version
from access.bearer import SessionEnded, TokenRefused, issued_at, session_behind
from access.cors import preflight_headers
from access.decisions import decide_loading, record_decision, refused_after
from access.denial import denial_of, refusal_page
from access.destinations import allowed_destinations, resolve_destination
from access.evaluation import QUESTIONS, Decision, Outcome, Policy
from access.evidence import evidence_of_request, explained
from access.facts import NO_EVIDENCE, Asker, Evidence
from access.login_links import app_session_cookie, login_url, new_app_session
from access.models import Application, ServiceToken
from access.recheck import recheck_streams
from access.routing import find_application
from access.stream_ends import Opened, ends_at, seconds_until
from accounts.errors import DomainError, PermissionDenied
from accounts.models import AccessSession, public_url
from accounts.ratelimits import SERVICE_TOKEN_FAILURE_BY_ADDRESS, spend
from dataplane.wire.shown import ShownCertificate

__all__ = ["AuthorizeRequest", "AuthorizeResult", "as_json", "authorize_request", "login_redirect", "recheck_streams"]

# Upper bound of what an edge may reuse for plain requests (AC-84); a WebSocket always asks.
MAX_CACHE_SECONDS = 60
# Reasons for which the team domain's pages would help.
_LOGIN_REASONS = QUESTIONS | {"login_required"}
_COOKIE = "cookie"


@dataclass(frozen=True, slots=True)
class AuthorizeRequest:
    """A request as the edge saw it. `client_ip` is the peer's address, never taken from a header."""

    ray_id: str
    hostname: str
    path: str
    client_ip: str
    query: str = ""
    method: str = "GET"
    websocket: bool = False
    user_agent: str = ""
    token: str | None = None
    token_source: str | None = None  # "header" or "cookie"
    app_session: str | None = None
    service_token_id: str | None = None
    service_token_secret: str | None = None
    destination: str | None = None
    xhr: bool = False
    # Whether a person looks at the answer: a GET of a browser that asks for HTML.
    page_wanted: bool = False
    origin: str | None = None
    # A client certificate that the edge verified, and a bearer token that claims to be of this team.
    certificate: ShownCertificate | None = None
    linked_token: str | None = None
    # What a browser's preflight asks leave for (Access-Control-Request-Method and -Headers).
    preflight_method: str | None = None
    preflight_headers: str | None = None

    @property
    def is_preflight(self) -> bool:
        """Never a WebSocket: edges refuse such a request too, but nobody gets a stream for looking like a preflight."""
        is_asked = self.method == "OPTIONS" and bool(self.origin) and bool(self.preflight_method)
        return is_asked and not self.websocket

    def __repr__(self) -> str:
        return f"<AuthorizeRequest {self.ray_id} {self.hostname}{self.path}>"


@dataclass(frozen=True, slots=True)
class Allow:
    application_id: str
    organization_id: str
    session_nonce: str | None
    identity: str | None
    assertion: str | None
    destination: str | None
    cache_seconds: int
    # For the edge to keep with a stream and to show when the stream is rechecked.
    evidence: str | None = None
    # How long the yes counts: then a live stream is asked about again, and ends if nobody answers.
    ends_in_seconds: float | None = None
    outcome: str = "allow"

    def __repr__(self) -> str:
        return f"<Allow {self.application_id} {self.identity}>"


@dataclass(frozen=True, slots=True)
class Login:
    location: str
    set_cookie: list[str]
    outcome: str = "login"

    def __repr__(self) -> str:
        return "<Login>"


@dataclass(frozen=True, slots=True)
class Deny:
    status: int
    reason: str
    message: str
    reference: str
    # Where the application sends refused browsers, or the page to show them; both empty for programs.
    location: str = ""
    page: str = ""
    outcome: str = "deny"


@dataclass(frozen=True, slots=True)
class Answer:
    """The edge answers by itself, without the application: a preflight request of a browser."""

    status: int
    headers: list[tuple[str, str]]
    outcome: str = "answer"


AuthorizeResult = Allow | Login | Deny | Answer


def as_json(result: AuthorizeResult) -> dict[str, object]:
    document = asdict(result)
    if isinstance(result, Deny):
        # For programs, most of those refused, there is neither.
        return {name: value for name, value in document.items() if value != ""}
    return document


def authorize_request(payload: AuthorizeRequest) -> AuthorizeResult:
    """The whole decision about one request. Never raises for what a client can send."""
    application = find_application(payload.hostname.lower().removesuffix("."), payload.path)
    if application is None:
        return Deny(404, "unknown_application", "Nothing is served under this name.", payload.ray_id)
    answered = _preflight(application, payload) if payload.is_preflight else None
    if answered is not None:
        return answered
    try:
        return _Authorization(payload, application, timezone.now()).result()
    except DomainError as error:
        return Deny(error.status, error.code, error.message, payload.ray_id)


def _preflight(application: Application, payload: AuthorizeRequest) -> Allow | Answer | None:
    """Nobody is logged in for a preflight (it carries no cookies), and it does nothing: the application's settings say
    who answers it. None: it is a request like any other."""
    if application.settings.get("options_preflight_bypass") is True:
        return Allow(str(application.pk), application.organization_id, None, None, None, None, cache_seconds=0)
    document = application.settings.get("cors_headers")
    if not isinstance(document, dict) or not document:
        return None
    asked = {"method": payload.preflight_method or "", "headers": payload.preflight_headers or ""}
    return Answer(200, preflight_headers(document, origin=payload.origin or "", **asked))


def login_redirect(
    application: Application, *, redirect_path: str, app_session: str | None, hostname: str | None = None
) -> tuple[str, list[str]]:
    """Where to send a browser that must log in, and the cookies to set. `hostname` for wildcard applications."""
    cookies = []
    if not app_session:
        app_session = new_app_session()
        cookies.append(app_session_cookie(app_session))
    location = login_url(
        application, hostname=hostname or application.hostname, redirect_path=redirect_path, app_session=app_session
    )
    return location, cookies


class _Authorization:
    """One request under decision."""

    def __init__(self, payload: AuthorizeRequest, application: Application, now: datetime) -> None:
        self.payload = payload
        self.application = application
        self.now = now
        self.session: AccessSession | None = None
        self.service_token: ServiceToken | None = None
        self.evidence: Evidence = NO_EVIDENCE
        self.policies: Sequence[Policy] = ()

    def result(self) -> AuthorizeResult:
        self.service_token = self._service_token()
        if self.service_token is None:
            self.session = self._session()
        self.evidence = evidence_of_request(
            self.application,
            hostname=self.payload.hostname.lower().removesuffix("."),
            certificate=self.payload.certificate,
            linked_token=self.payload.linked_token,
            now=self.now,
        )
        decision, self.policies = decide_loading(self.application, self._asker())
        if not decision.allowed:
            return self._refuse(explained(decision, self.evidence))
        try:
            self._check_origin(decision)
            destination = resolve_destination(
                self.payload.destination,
                allowed_destinations(self.application, decision),
                required=self.payload.websocket,
            )
        except DomainError as error:
            self._record(refused_after(decision, error))
            raise
        self._record(decision)
        return self._allow(decision, destination)

    def _service_token(self) -> ServiceToken | None:
        """Shown credentials must be good: falling back to a login would hide a machine's expired token."""
        client_id, secret = self.payload.service_token_id, self.payload.service_token_secret
        if not client_id and not secret:
            return None
        found = authenticate_service_token(self.application.organization, client_id or "", secret or "", now=self.now)
        if found is None:
            # Only failures count, so that a good token works from an address where another one is wrong. Beyond the
            # limit nothing is written either: strangers must not fill the log.
            spend(SERVICE_TOKEN_FAILURE_BY_ADDRESS, self.payload.client_ip)
            message = "The service token is unknown, disabled or expired, or its secret is wrong."
            self._record(Decision(False, Outcome.DENY, "service_token_invalid", message))
            raise ServiceTokenRefused(message)
        return found

    def _session(self) -> AccessSession | None:
        """None when nobody is logged in. A foreign or forged header token is refused; as a cookie it counts as absent,
        because the browser cannot do anything about it but log in."""
        if not self.payload.token:
            return None
        try:
            return session_behind(self.application, self.payload.token, now=self.now)
        except SessionEnded:
            return None
        except PermissionDenied as error:
            if isinstance(error, TokenRefused) and self.payload.token_source == _COOKIE:
                return None
            self._record(Decision(False, Outcome.DENY, error.code, error.message))
            raise

    def _check_origin(self, decision: Decision) -> None:
        """A WebSocket carries cookies across sites; only pages of the application itself may open one so (AC-60)."""
        by_cookie = self.payload.websocket and self.payload.token_source == _COOKIE
        own = public_url(self.payload.hostname.lower())
        if by_cookie and decision.outcome is not Outcome.BYPASS and (self.payload.origin or "").lower() != own:
            raise PermissionDenied(
                "A WebSocket with a login cookie must come from this application's own pages.",
                code="origin_not_allowed",
            )

    def _refuse(self, decision: Decision) -> AuthorizeResult:
        if decision.reason in _LOGIN_REASONS:
            if self.payload.xhr:
                return Deny(401, decision.reason, decision.message, self.payload.ray_id)
            path = self.payload.path + (f"?{self.payload.query}" if self.payload.query else "")
            location, cookies = login_redirect(
                self.application,
                redirect_path=path,
                app_session=self.payload.app_session,
                hostname=self.payload.hostname.lower().removesuffix("."),
            )
            return Login(location, cookies)
        self._record(decision)
        return self._denied(decision)

    def _denied(self, decision: Decision) -> Deny:
        reference = self.payload.ray_id
        plain = Deny(403, decision.reason, decision.message, reference)
        if not self.payload.page_wanted or self.payload.websocket or self.payload.xhr:
            return plain
        identity = self.session.identity if self.session else None
        denial = denial_of(self.application, decision, has_identity=identity is not None, reference=reference)
        if denial.location:
            return replace(plain, location=denial.location)
        page = refusal_page(
            self.application,
            decision,
            denial,
            hostname=self.payload.hostname.lower().removesuffix("."),
            identity=identity,
            reference=reference,
        )
        return replace(plain, page=page)

    def _allow(self, decision: Decision, destination: str | None) -> Allow:
        session, service_token = self.session, self.service_token
        identity: str | None = None
        assertion: str | None = None
        nonce: str | None = None
        if decision.outcome is Outcome.SERVICE_AUTH and service_token is not None:
            identity = service_token.name
            assertion = tokens.mint_service_assertion(self.application, service_token, now=self.now)
        elif decision.outcome is Outcome.SERVICE_AUTH:
            identity = self.evidence.label or None
            assertion = tokens.mint_machine_assertion(self.application, self.evidence.label, now=self.now)
        elif session is not None:
            identity, nonce = session.identity.email or session.identity.subject, session.nonce
            assertion = self.payload.token
        opened = self._opened()
        end = ends_at(decision, self.policies, service_token=service_token, opened=opened, now=self.now)
        return Allow(
            application_id=str(self.application.pk),
            organization_id=self.application.organization_id,
            session_nonce=nonce,
            identity=identity,
            assertion=assertion,
            destination=destination,
            cache_seconds=self._cache_seconds(decision),
            evidence=opened.noted_in(self.evidence.document) or None,
            ends_in_seconds=seconds_until(end, self.now),
        )

    def _opened(self) -> Opened:
        if self.service_token is not None:
            return Opened(secret_version=shown_version(self.service_token, self.payload.service_token_secret or ""))
        return Opened(issued_at(self.payload.token or "")) if self.session is not None else Opened()

    def _cache_seconds(self, decision: Decision) -> int:
        if self.payload.websocket:
            return 0
        approved = [] if decision.approved_seconds is None else [decision.approved_seconds]
        ends = [self.session.expires_at if self.session else None]
        ends.append(self.service_token.expires_at if self.service_token else None)
        left = [int((end - self.now).total_seconds()) for end in ends if end is not None]
        return max(0, min([MAX_CACHE_SECONDS, *approved, *left]))

    def _asker(self) -> Asker:
        return Asker(self.payload.client_ip, self.now, self.session, self.service_token, self.evidence)

    def _record(self, decision: Decision) -> None:
        record_decision(self.application, decision, self._asker(), action="connect", ray_id=self.payload.ray_id)


class ServiceTokenRefused(DomainError):
    status = 401
    code = "service_token_invalid"
