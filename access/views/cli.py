"""Approving a command-line login.

The client opens its link on the application host; the page itself is on the team domain. Scripts of the application
are same-origin with everything on its host: there they could press Approve for their visitors and collect tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlencode

from django.http import Http404, HttpResponse, QueryDict
from django.urls import reverse
from django.utils import timezone

from access.actions.logins import identity_actor
from access.actions.transfers import (
    TransferRefusal,
    WaitingClient,
    approve_transfer,
    clean_public_key,
    clean_thumbprint,
    deny_transfer,
    refuse_transfer,
    waiting_client,
)
from access.login_links import LoginContext
from access.models import Application, Transfer
from access.routing import find_application
from access.views.arrival import decide_login, denied_page, login_page, token_seconds, why_login_again
from access.views.authorized import hostname_of
from access.views.consent_pages import consent_page
from access.views.public import PublicRequest, public_page, redirect_to, show, team_session
from accounts.errors import Conflict
from accounts.models import AccessSession
from dataplane.wire.confirmation import confirmation_code


@dataclass(frozen=True, slots=True)
class CliRequest:
    """What the link of a waiting client asks for."""

    application: Application
    hostname: str
    public_key: str
    with_organization_token: bool
    device: str

    def as_query(self) -> dict[str, str]:
        return {
            "aud": self.application.aud,
            "host": self.hostname,
            "token": self.public_key,
            "send_org_token": "true" if self.with_organization_token else "false",
            **({"cnf": self.device} if self.device else {}),
        }


@public_page("GET", "HEAD")
def cli_on_application_host(request: PublicRequest) -> HttpResponse:
    asked = CliRequest(
        application=request.application,
        hostname=hostname_of(request),
        public_key=clean_public_key(request.GET.get("token", "")),
        with_organization_token=request.GET.get("send_org_token") == "true",
        device=clean_thumbprint(request.GET.get("cnf", "")),
    )
    return redirect_to(f"{request.organization.team_url}/cdn-cgi/access/cli?{urlencode(asked.as_query())}")


@public_page("GET", "HEAD", "POST")
def cli(request: PublicRequest) -> HttpResponse:
    """Log in if needed, ask the policy, then Approve or Deny."""
    now = timezone.now()
    asked = _asked(request, request.POST if request.method == "POST" else request.GET)
    application = asked.application
    session = team_session(request, now)
    again = "" if session is None else why_login_again(request, session, application, now=now)
    if session is None or again:
        return login_page(request, _context(asked), notice=again, may_redirect=not again)
    decision = decide_login(request, session, application, now=now)
    asking = consent_page(request, session, application, decision, _context(asked))
    if asking is not None:
        return asking  # the client waits on; after the answer the person comes back here
    if not decision.allowed:
        refuse_transfer(asked.public_key, TransferRefusal(decision.reason, decision.message, request.ray_id))
        return denied_page(request, session, application, decision, hostname=asked.hostname)
    if Transfer.objects.filter(pk=asked.public_key).exists():
        raise Conflict("This command-line login was answered already. Run the command again.", code="transfer_key_used")
    client = waiting_client(asked.public_key)
    lifetime = token_seconds(application, decision)
    if request.method == "POST":
        return _answer(request, asked, session, lifetime_seconds=lifetime, now=now)
    if request.method == "GET" and application.skip_interstitial and _is_same_address(request, client):
        return _approve(request, asked, session, lifetime_seconds=lifetime, now=now)
    return _approve_page(request, asked, session, client)


def _asked(request: PublicRequest, values: QueryDict) -> CliRequest:
    hostname = values.get("host", "").lower()
    application = find_application(hostname, "/cdn-cgi/access/cli", values.get("aud"))
    if application is None or application.organization_id != request.organization.id:
        raise Http404("No such application here.")
    return CliRequest(
        application=application,
        hostname=hostname,
        public_key=clean_public_key(values.get("token", "")),
        with_organization_token=values.get("send_org_token") == "true",
        device=clean_thumbprint(values.get("cnf", "")),
    )


def _context(asked: CliRequest) -> LoginContext:
    """Back to this page after the login; the application narrows the login methods."""
    path = f"{reverse('public_cli')}?{urlencode(asked.as_query())}"
    return LoginContext(application_id=str(asked.application.id), redirect_path=path)


def _is_same_address(request: PublicRequest, client: WaitingClient | None) -> bool:
    """Skipping the click is for a client beside the browser: a link mailed by somebody else still shows the page."""
    return client is not None and client.ip_address == request.client_ip


def _answer(
    request: PublicRequest, asked: CliRequest, session: AccessSession, *, lifetime_seconds: int, now: datetime
) -> HttpResponse:
    if request.POST.get("decision") == "approve":
        return _approve(request, asked, session, lifetime_seconds=lifetime_seconds, now=now)
    deny_transfer(
        asked.application,
        session=session,
        public_key=asked.public_key,
        now=now,
        actor=identity_actor(session, request.client_ip),
    )
    return show(request, "cli_done.html", {"application": asked.application, "approved": False})


def _approve(
    request: PublicRequest, asked: CliRequest, session: AccessSession, *, lifetime_seconds: int, now: datetime
) -> HttpResponse:
    approve_transfer(
        asked.application,
        session=session,
        public_key=asked.public_key,
        with_organization_token=asked.with_organization_token,
        device=asked.device,
        lifetime_seconds=lifetime_seconds,
        now=now,
        actor=identity_actor(session, request.client_ip),
    )
    page = {"application": asked.application, "approved": True, "code": confirmation_code(asked.public_key)}
    return show(request, "cli_done.html", page)


def _approve_page(
    request: PublicRequest, asked: CliRequest, session: AccessSession, client: WaitingClient | None
) -> HttpResponse:
    page = {
        "application": asked.application,
        "hostname": asked.hostname,
        "identity": session.identity,
        "code": confirmation_code(asked.public_key),
        "client": client,
        "own_address": request.client_ip,
        "is_other_address": client is not None and client.ip_address != request.client_ip,
        "fields": asked.as_query(),
    }
    return show(request, "cli.html", page)
