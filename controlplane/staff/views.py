"""Pages of the staff area: organizations, support sessions with their tools, health of background work."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import Http404, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts.actions.support import (
    active_support_session,
    end_support_session,
    extend_support_session,
    request_support_session,
)
from accounts.models import JobFailure, Organization, SupportSession
from accounts.pages import posted, refusals, sent_once, telling
from controlplane import jobs
from controlplane.celery import app
from controlplane.staff.door import StaffRequest, any_organization, in_support_session, now, staff_only, staff_page
from controlplane.staff.finding import MOST, find_organizations, metadata_of
from controlplane.staff.forms import ExtensionForm, SupportSessionForm
from controlplane.staff.operations import find_operation, listed

_FAILURES = 50
_SESSIONS = 20


@staff_only
@require_GET
def home(request: StaffRequest) -> HttpResponse:
    query = request.GET.get("q", "")[:253]
    found = find_organizations(query)
    sessions = SupportSession.objects.all_organizations(reason="a staff member's own").filter(
        staff=request.user, ended_at=None
    )
    mine = [row for row in sessions.select_related("organization") if row.is_active(now()) or row.is_waiting()]
    page: dict[str, Any] = {"query": query, "organizations": found[:MOST], "has_more": len(found) > MOST, "mine": mine}
    return staff_page(request, "organizations.html", title="Organizations", **page)


@staff_only
@require_http_methods(["GET", "POST"])
def organization(request: StaffRequest, organization_id: str) -> HttpResponse:
    """What is known without its data; and the form that starts a support session."""
    row = any_organization(organization_id)
    form = SupportSessionForm(posted(request))
    if request.method == "POST" and form.is_valid():
        with refusals(form, duration="minutes"):
            session = request_support_session(
                row,
                staff=request.user,
                reason=form.cleaned_data["reason"],
                duration=form.duration(),
                actor=request.actor,
            )
            started = session.started_at is not None
            messages.success(
                request,
                f"The support session runs. {row.name} sees it in its audit log."
                if started
                else f"{row.name} is asked for consent. The session starts when an owner or admin allows it.",
            )
            return _to(row)
    return _organization_page(request, row, form, ExtensionForm())


@staff_only
@require_POST
def session_extend(request: StaffRequest, session_id: UUID) -> HttpResponse:
    session = _own_session(request, session_id)
    form = ExtensionForm(request.POST)
    if form.is_valid():
        with refusals(form, duration="minutes"):
            reason, duration = form.cleaned_data["reason"], form.duration()
            extend_support_session(session, reason=reason, duration=duration, actor=request.actor)
            messages.success(
                request, "The support session lasts longer. The reason is in the organization's audit log."
            )
            return _to(session.organization)
    return _organization_page(request, session.organization, SupportSessionForm(), form)


@staff_only
@require_POST
def session_end(request: StaffRequest, session_id: UUID) -> HttpResponse:
    session = _own_session(request, session_id)
    end_support_session(session, actor=request.actor)
    messages.success(request, f"The support session in {session.organization.name} is over.")
    return _to(session.organization)


@staff_only
@require_GET
def password_change(request: StaffRequest) -> HttpResponse:
    return HttpResponseRedirect(reverse("account_change_password"))


@in_support_session
@require_GET
def tools(request: StaffRequest, session: SupportSession) -> HttpResponse:
    query = request.GET.get("q", "")[:200]
    found = listed(session.organization, query)
    page = {"organization": session.organization, "query": query, "found": found}
    return staff_page(request, "tools.html", title=f"Tools for {session.organization.name}", session=session, **page)


@in_support_session
@require_POST
@sent_once
def tool(request: StaffRequest, session: SupportSession, subject: str, operation: str, key: str) -> HttpResponse:
    """One of the dashboard's actions, on one row of this organization."""
    known = find_operation(subject, operation)
    if known is None:
        raise Http404
    kind, wanted = known
    try:
        row = get_object_or_404(kind.rows(session.organization), pk=key)
    except (ValueError, ValidationError) as error:
        raise Http404 from error
    label = kind.label(row)
    with telling(request):
        wanted.do(row, request.actor)
        messages.success(request, f"{label} {wanted.done}.")
    return HttpResponseRedirect(reverse("staff_tools", args=[session.organization_id]))


@staff_only
@require_GET
def job_health(request: StaffRequest) -> HttpResponse:
    moment = now()
    page: dict[str, Any] = {
        "queues": jobs.queue_states(app),
        "workers": jobs.worker_states(moment),
        "periodic": jobs.periodic_states(app, moment),
        "failures": JobFailure.objects.all()[:_FAILURES],
    }
    return staff_page(request, "jobs.html", title="Background jobs", **page)


@staff_only
@require_POST
def job_requeue(request: StaffRequest, failure_id: UUID) -> HttpResponse:
    failure = get_object_or_404(JobFailure, pk=failure_id)
    with transaction.atomic():
        sent = jobs.requeue(app, failure, by=request.user.email, now=now())
    if sent:
        messages.success(request, f"{failure.task} is sent again.")
    else:
        messages.error(
            request, f"{failure.task} was not sent: it was sent again before, or its arguments are not kept."
        )
    return HttpResponseRedirect(reverse("staff_jobs"))


def _organization_page(
    request: StaffRequest, row: Organization, form: SupportSessionForm, extension: ExtensionForm
) -> HttpResponse:
    moment = now()
    sessions = SupportSession.objects.for_organization(row)
    waiting = sessions.filter(staff=request.user, ended_at=None, started_at=None).first()
    sent = form if form.is_bound else extension
    return staff_page(
        request,
        "organization.html",
        title=row.name,
        session=active_support_session(request.user, row.team_name, moment),
        status=422 if sent.is_bound and sent.errors else 200,
        organization=row,
        metadata=metadata_of(row, moment),
        waiting=waiting,
        form=form,
        extension=extension,
        sessions=sessions[:_SESSIONS],
        now=moment,
    )


def _own_session(request: StaffRequest, session_id: UUID) -> SupportSession:
    rows = SupportSession.objects.all_organizations(reason="a staff member's own session").filter(staff=request.user)
    return get_object_or_404(rows.select_related("organization"), pk=session_id)


def _to(row: Organization) -> HttpResponseRedirect:
    return HttpResponseRedirect(reverse("staff_organization", args=[row.pk]))
