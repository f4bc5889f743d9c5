"""The step between a login and its application when a second factor is wanted, and the way back from there.

The page decides nothing: it looks at what the policies miss (`decide`), lets the person prove or enroll it, and sends
the login on its way again, where the policies are asked anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.http import HttpResponse
from django.urls import reverse
from django.utils import timezone

from access.actions.logins import identity_actor
from access.decisions import decide
from access.facts import Asker
from access.login_links import LoginContext, read_signed
from access.models import Application
from access.stylesheet import script_url
from access.views.arrival import application_of, login_page
from access.views.consent_pages import second_factor_link
from access.views.public import PublicRequest, public_page, redirect_to, show, team_session
from accounts.actions.second_factor import authenticators_of, check_code, is_fresh
from accounts.errors import AuthenticationFailed, InvalidInput
from accounts.mfa_models import IdentityAuthenticator, RecoveryCode
from accounts.models import AccessSession
from accounts.ratelimits import (
    FACTOR_TRY_BY_ADDRESS,
    FACTOR_TRY_BY_IDENTITY,
    FACTOR_WRONG_BY_IDENTITY,
    refuse_if_spent,
    spend,
)
from accounts.second_factor import BIOMETRICS, SECURITY_KEY, TOTP, MfaRule, Moment


@dataclass(frozen=True, slots=True)
class Step:
    """What is missing on the way to `context`, and what the person could show or add for it."""

    context: LoginContext
    session: AccessSession
    application: Application | None
    rule: MfaRule
    rows: list[IdentityAuthenticator]
    is_fresh: bool

    @property
    def shown(self) -> list[IdentityAuthenticator]:
        """Those that do; or, before a first one of a wanted kind is added, any that tells it is the same person."""
        usable = [row for row in self.rows if row.kind in self.rule.kinds]
        return usable or ([] if self.is_fresh else self.rows)

    @property
    def may_add(self) -> bool:
        return not self.rows or self.is_fresh


@public_page("GET", "HEAD", "POST")
def second_factor(request: PublicRequest) -> HttpResponse:
    """POST takes a code of an authenticator app, or a recovery code; passkeys go another way (views/passkeys.py)."""
    given = request.POST if request.method == "POST" else request.GET
    context = context_of(given.get("ctx", ""))
    session = team_session(request, timezone.now())
    if session is None:
        return login_page(request, context)
    step = missing(request, session, context)
    if step is None:
        return redirect_to(onward(context), status=303)
    if request.method != "POST":
        return step_page(request, step)
    spend_try(request, session)
    text, now = request.POST.get("code", ""), timezone.now()
    if check_code(session, text=text, now=now, actor=identity_actor(session, request.client_ip)):
        return redirect_to(onward(context), status=303)
    spend_wrong(session)
    notice = "That code is not right, or was used already. Wait for the next one: each code is good once."
    return step_page(request, step, notice=notice, status=403)


def context_of(signed: str) -> LoginContext:
    context = read_signed(signed)
    if context is None:
        raise InvalidInput("This page is too old. Start again at the application.", code="link_expired")
    return context


def arrived(request: PublicRequest, signed: str) -> tuple[LoginContext, AccessSession]:
    """For answers to the step's page: where the login is going, and who is logged in."""
    context = context_of(signed)
    session = team_session(request, timezone.now())
    if session is None:
        raise AuthenticationFailed("Your session has ended. Log in again.", code="not_logged_in")
    return context, session


def onward(context: LoginContext) -> str:
    """Where a login for an application goes on, asking its policies again; otherwise our own page."""
    if context.application_id:
        return f"{reverse('public_resume')}?ctx={context.sign()}"
    return context.redirect_path


def missing(request: PublicRequest, session: AccessSession, context: LoginContext) -> Step | None:
    """None when nothing is missing (any more). Pages of the team domain itself ask for any authenticator, freshly."""
    now, rows = timezone.now(), authenticators_of(session)
    fresh = is_fresh(session, now, rows)
    application = application_of(request, context)
    rule = MfaRule() if application is None else _missing_rule(request, session, application, now)
    if rule is None or (application is None and (fresh or not rows)):
        return None
    return Step(context, session, application, rule, rows, fresh)


def _missing_rule(
    request: PublicRequest, session: AccessSession, application: Application, now: datetime
) -> MfaRule | None:
    decision = decide(application, Asker(request.client_ip, now, session, moment=Moment.LOGIN))
    return decision.missing_factor


def step_page(request: PublicRequest, step: Step, *, notice: str = "", status: int = 200) -> HttpResponse:
    shown = step.shown
    unused = RecoveryCode.objects.filter(identity_id=step.session.identity_id, used_at__isnull=True)
    has_app = any(row.kind == TOTP for row in shown)
    has_recovery = bool(shown) and unused.exists()
    page = {
        "application": step.application,
        "identity": step.session.identity,
        "context": step.context.sign(),
        "notice": notice,
        "has_passkey": any(row.kind != TOTP for row in shown),
        "has_app": has_app,
        "has_recovery": has_recovery,
        "is_confirming": bool(shown) and not any(row.kind in step.rule.kinds for row in shown),
        "adding": _addable(step) if step.may_add else [],
        "script": script_url(),
    }
    return shown_page(request, "second_factor.html", page, status=status)


def _addable(step: Step) -> list[str]:
    return [kind for kind in (BIOMETRICS, SECURITY_KEY, TOTP) if kind in step.rule.kinds]


def shown_page(request: PublicRequest, template: str, page: dict[str, Any], *, status: int = 200) -> HttpResponse:
    response = show(request, template, page, status=status)
    # The form ends, after redirects, at the application, which may send the browser on to anywhere of its own.
    response.csp_form_action = "https:"  # type: ignore[attr-defined]
    return response


def spend_try(request: PublicRequest, session: AccessSession) -> None:
    identity = str(session.identity_id)
    refuse_if_spent(FACTOR_WRONG_BY_IDENTITY, identity)
    spend(FACTOR_TRY_BY_ADDRESS, request.client_ip)
    spend(FACTOR_TRY_BY_IDENTITY, identity)


def spend_wrong(session: AccessSession) -> None:
    spend(FACTOR_WRONG_BY_IDENTITY, str(session.identity_id))


def back_to_step(context: LoginContext) -> str:
    return second_factor_link(context)
