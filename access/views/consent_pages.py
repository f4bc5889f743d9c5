"""The pages that stand between a login and its application when a policy asks for a purpose or an approval."""

from __future__ import annotations

from urllib.parse import urlencode

from django.http import HttpResponse
from django.urls import reverse

from access.actions.consent import latest_request
from access.evaluation import APPROVAL_REQUIRED, MFA_REQUIRED, PURPOSE_REQUIRED, Decision
from access.login_links import LoginContext
from access.models import Application, ApprovalRequest
from access.views.public import PublicRequest, redirect_to, show
from accounts.models import AccessSession
from accounts.templatetags.pages import duration

DURATIONS = (1800, 3600, 4 * 3600, 8 * 3600, 24 * 3600)
QUESTION = "What do you need access for?"


def consent_page(
    request: PublicRequest,
    session: AccessSession,
    application: Application,
    decision: Decision,
    context: LoginContext,
) -> HttpResponse | None:
    """None when the decision is not about consent."""
    if decision.reason == MFA_REQUIRED:
        return redirect_to(second_factor_link(context))
    if decision.reason == PURPOSE_REQUIRED:
        question = decision.terms.purpose_prompt
        return purpose_page(request, session, application, context, question=question)
    if decision.reason == APPROVAL_REQUIRED:
        last = latest_request(application, decision.policy_id, session.identity)
        return ask_approval_page(request, session, application, context, last, status=403)
    return None


def second_factor_link(context: LoginContext) -> str:
    """Where a second factor is asked for; from there back on the way."""
    return f"{reverse('public_second_factor')}?{urlencode({'ctx': context.sign()})}"


def purpose_page(
    request: PublicRequest,
    session: AccessSession,
    application: Application,
    context: LoginContext,
    *,
    question: str = "",
    notice: str = "",
    reason: str = "",
    status: int = 200,
) -> HttpResponse:
    page = {
        "application": application,
        "identity": session.identity,
        "context": context.sign(),
        "question": question or QUESTION,
        "notice": notice,
        "reason": reason,
    }
    return _shown(request, "purpose.html", page, status)


def ask_approval_page(
    request: PublicRequest,
    session: AccessSession,
    application: Application,
    context: LoginContext,
    last: ApprovalRequest | None,
    *,
    notice: str = "",
    reason: str = "",
    status: int = 200,
) -> HttpResponse:
    is_waiting = last is not None and last.status == ApprovalRequest.Status.PENDING
    page = {
        "application": application,
        "identity": session.identity,
        "context": context.sign(),
        "waiting": last if is_waiting else None,
        "approvals": last.votes.filter(approves=True).count() if last is not None and is_waiting else 0,
        "last": last,
        "durations": [(value, duration(value)) for value in DURATIONS],
        "notice": notice,
        "reason": reason,
        "reference": request.ray_id,
    }
    return _shown(request, "approval.html", page, status)


def _shown(request: PublicRequest, template: str, page: dict[str, object], status: int) -> HttpResponse:
    response = show(request, template, page, status=status)
    # The form ends, after redirects, at the application, which may send the browser on to anywhere of its own.
    response.csp_form_action = "https:"  # type: ignore[attr-defined]
    return response
