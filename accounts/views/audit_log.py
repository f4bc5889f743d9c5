"""Logs, Audit: what was done, by whom, to what, with old and new values. And the saved views of all logs."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.db.models import Q
from django.http import Http404, HttpResponse, HttpResponseRedirect
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts.actions.log_views import delete_log_view, save_log_view
from accounts.actor import ActorKind
from accounts.audit import registered_events
from accounts.http import OrganizationRequest, requires
from accounts.log_pages import LogBook, show_log
from accounts.logbook import Condition, LogFilter, LogShape
from accounts.models import AuditChain, AuditEvent, SavedLogView
from accounts.pages import at, confirmed, find, show, telling
from accounts.permissions import Permission
from accounts.templatetags.pages import words

_PAGES = {"access": "access_log", "certificates": "certificates", "audit": "audit_log"}
_COLUMNS = (
    "time", "event", "what", "actor", "actor_kind", "address", "target", "target_type", "target_id", "old", "new"
)  # fmt: skip


@requires(Permission.LOGS_READ)
@require_GET
def audit_log(request: OrganizationRequest) -> HttpResponse:
    texts = {name: event.text for name, event in registered_events().items()}
    rows = AuditEvent.objects.for_organization(request.organization)
    chain = AuditChain.objects.filter(pk=request.organization.pk).first()
    return show_log(request, _book(texts), rows, {"texts": texts, "chain": chain})


@requires(Permission.LOGS_READ)
@require_GET
def audit_log_event(request: OrganizationRequest, event_id: int) -> HttpResponse:
    event = find(AuditEvent.objects.for_organization(request.organization), pk=event_id)
    known = registered_events().get(event.name)
    return show(
        request,
        "accounts/audit_log_event.html",
        title=known.text if known else event.name,
        crumbs=[("Audit log", at(request, "audit_log"))],
        event=event,
        changes=changes(event),
    )


def changes(event: AuditEvent) -> list[tuple[str, object, object]]:
    """Key, old and new value; what stayed the same is left out."""
    old, new = event.old or {}, event.new or {}
    keys = sorted(old.keys() | new.keys())
    return [(key, old.get(key), new.get(key)) for key in keys if old.get(key) != new.get(key)]


@requires(Permission.ACCESS_EDIT)
@require_POST
def log_view_save(request: OrganizationRequest, log: str) -> HttpResponse:
    if log not in _PAGES:
        raise Http404
    query = request.POST.get("query", "")
    with telling(request):
        view = save_log_view(
            request.organization, log=log, name=request.POST.get("name", ""), query=query, actor=request.actor
        )
        messages.success(request, f"The view {view.name} is saved for everybody who may read logs.")
        query = view.query
    return HttpResponseRedirect(f"{at(request, _PAGES[log])}?{query}")


@requires(Permission.ACCESS_EDIT)
@require_http_methods(["GET", "POST"])
def log_view_delete(request: OrganizationRequest, view_id: UUID) -> HttpResponse:
    rows = SavedLogView.objects.for_organization(request.organization).select_related("organization")
    view = find(rows, pk=view_id)
    return confirmed(
        request,
        lambda: delete_log_view(view, actor=request.actor),
        said=f"The view {view.name} is deleted.",
        question=f"Delete the saved view {view.name}?",
        consequences=[
            "It disappears for everybody. No log entry is touched; links with the same filters keep working."
        ],
        button="Delete view",
        can_undo=True,
        title="Delete saved view",
        crumbs=[(f"{view.get_log_display()} log", at(request, _PAGES[view.log]))],
    )


def _book(texts: dict[str, str]) -> LogBook[AuditEvent]:
    kinds = [(kind.value, words(kind.value)) for kind in ActorKind]
    filters = [
        LogFilter("event", "Event", lambda name: Condition(Q(name=name)), sorted(texts.items(), key=_by_text)),
        LogFilter("actor", "Who", lambda text: Condition(Q(actor_label__icontains=text))),
        LogFilter("kind", "Kind of actor", lambda kind: Condition(Q(actor_kind=kind)), kinds),
    ]
    search = ("target_label", "target_id", "actor_label", "name", "ip_address")
    shape: LogShape[AuditEvent] = LogShape(filters, search)

    def cells(event: AuditEvent) -> list[Any]:
        what = texts.get(event.name, event.name)
        who = [event.actor_label, event.actor_kind, event.ip_address]
        target = [event.target_label, event.target_type, event.target_id]
        return [event.created_at, event.name, what, *who, *target, event.old, event.new]

    log = SavedLogView.Log.AUDIT
    return LogBook(log, "Audit log", "accounts/audit_log.html", "events", shape, _COLUMNS, cells)


def _by_text(item: tuple[str, str]) -> str:
    return item[1]
