"""Team-domain pages before a policy's yes: the purpose, the request for temporary access, and its approvers' answer."""

from __future__ import annotations

from uuid import UUID

from django.http import Http404, HttpResponse
from django.urls import reverse
from django.utils import timezone

from access.actions.consent import (
    Approver,
    check_approver,
    is_over,
    latest_request,
    request_approval,
    state_purpose,
    vote,
    with_present_approvers,
)
from access.actions.logins import identity_actor
from access.decisions import decide
from access.evaluation import APPROVAL_REQUIRED
from access.facts import Asker
from access.login_links import LoginContext, read_signed
from access.models import Application, ApprovalRequest
from access.views.arrival import application_of, login_page, proceed, why_login_again
from access.views.consent_pages import ask_approval_page, purpose_page
from access.views.public import PublicRequest, public_page, redirect_to, show, team_session
from accounts.errors import Conflict, InvalidInput
from accounts.models import AccessSession
from accounts.ratelimits import HAND_OVER_BY_SESSION, spend
from accounts.second_factor import Moment


@public_page("POST")
def purpose(request: PublicRequest) -> HttpResponse:
    """Takes the answer, then goes on to where the login was for."""
    context, session, application = _arrived(request, request.POST.get("ctx", ""))
    if session is None:
        return login_page(request, context)
    text = request.POST.get("reason", "")
    spend(HAND_OVER_BY_SESSION, str(session.id))
    try:
        state_purpose(application, session=session, text=text, actor=identity_actor(session, request.client_ip))
    except InvalidInput as error:
        # The same question once more, in the policy's own words.
        asked = decide(application, Asker(request.client_ip, timezone.now(), session, moment=Moment.LOGIN)).terms
        page = {"question": asked.purpose_prompt, "notice": error.message, "reason": text}
        return purpose_page(request, session, application, context, **page, status=422)
    return redirect_to(_resume(context), status=303)


@public_page("GET", "HEAD")
def resume(request: PublicRequest) -> HttpResponse:
    """Back on the way: the policy is asked again."""
    context, session, _ = _arrived(request, request.GET.get("ctx", ""))
    if session is None:
        return login_page(request, context)
    return proceed(request, session, context)


@public_page("POST")
def ask_approval(request: PublicRequest) -> HttpResponse:
    """Only a policy that matches and wants approval right now can be asked about."""
    context, session, application = _arrived(request, request.POST.get("ctx", ""))
    if session is None or why_login_again(request, session, application, now=timezone.now()):
        return login_page(request, context)
    spend(HAND_OVER_BY_SESSION, str(session.id))
    decision = decide(application, Asker(request.client_ip, timezone.now(), session, moment=Moment.LOGIN))
    if decision.reason != APPROVAL_REQUIRED or decision.policy_id is None:
        return redirect_to(_resume(context), status=303)
    reason, duration = request.POST.get("reason", ""), request.POST.get("duration", "")
    try:
        request_approval(
            application,
            policy_id=decision.policy_id,
            session=session,
            reason=reason,
            duration_seconds=int(duration) if duration.isascii() and duration.isdigit() and len(duration) < 7 else 0,
            ip=request.client_ip,
            actor=identity_actor(session, request.client_ip),
        )
    except InvalidInput as error:
        last = latest_request(application, decision.policy_id, session.identity)
        return ask_approval_page(
            request, session, application, context, last, notice=error.message, reason=reason, status=422
        )
    return redirect_to(_resume(context), status=303)


@public_page("GET", "HEAD", "POST")
def answer(request: PublicRequest, request_id: UUID) -> HttpResponse:
    """For approvers: the request, Approve and Deny. Anybody else learns only that it is not theirs to answer."""
    now = timezone.now()
    session = team_session(request, now)
    if session is None:
        path = reverse("public_approval_answer", args=[request_id])
        return login_page(request, LoginContext(redirect_path=path))
    rows = ApprovalRequest.objects.for_organization(request.organization).select_related(
        "application", "identity__provider", "policy", "organization"
    )
    asked = rows.filter(pk=request_id).first()
    if asked is None:
        raise Http404("No such request.")
    approver = Approver.person(session.identity)
    check_approver(with_present_approvers(asked), approver)
    notice = ""
    if request.method == "POST":
        approves = request.POST.get("decision") == "approve"
        try:
            asked = vote(
                asked,
                approver=approver,
                approves=approves,
                now=now,
                actor=identity_actor(session, request.client_ip),
            )
            notice = "Your answer is kept."
        except Conflict as error:
            notice = error.message
    votes = list(asked.votes.order_by("pk"))
    has_voted = any(item.approver_id == session.identity_id for item in votes)
    page = {
        "asked": asked,
        "votes": votes,
        "is_open": asked.status == ApprovalRequest.Status.PENDING and not has_voted and not is_over(asked, now),
        "identity": session.identity,
        "notice": notice,
    }
    return show(request, "approval_answer.html", page)


def _arrived(request: PublicRequest, signed: str) -> tuple[LoginContext, AccessSession | None, Application]:
    """Where the login is going (our own signed note), who is logged in, and the application it is for."""
    context = read_signed(signed)
    if context is None:
        raise InvalidInput("This page is too old. Start again at the application.", code="link_expired")
    application = application_of(request, context)
    if application is None:
        raise Http404("This page belongs to an application.")
    return context, team_session(request, timezone.now()), application


def _resume(context: LoginContext) -> str:
    return f"{reverse('public_resume')}?ctx={context.sign()}"
