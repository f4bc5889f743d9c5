"""Settings, Organization; and Logs, Audit."""

from __future__ import annotations

from django.db.models import Q
from django.http import HttpResponse
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from accounts.actions.organizations import update_organization
from accounts.actions.support import open_support_sessions
from accounts.audit import registered_events
from accounts.forms import OrganizationForm
from accounts.http import OrganizationRequest, requires
from accounts.models import AuditEvent
from accounts.pages import Filter, at, done, find, list_page, refusals, show
from accounts.permissions import Permission

_FIELDS = ("name", "session_duration_seconds", "auto_redirect_to_identity")


@requires(Permission.ORGANIZATION_READ)
@require_GET
def organization_settings(request: OrganizationRequest) -> HttpResponse:
    return _page(request, OrganizationForm(initial={name: getattr(request.organization, name) for name in _FIELDS}))


@requires(Permission.ORGANIZATION_EDIT)
@require_POST
def organization_settings_edit(request: OrganizationRequest) -> HttpResponse:
    current = {name: getattr(request.organization, name) for name in _FIELDS}
    form = OrganizationForm(request.POST, initial=current)
    if form.is_valid():
        with refusals(form):
            update_organization(request.organization, actor=request.actor, **form.cleaned_data)
            return done(request, "The organization's settings are saved.", "organization_settings")
    return _page(request, form)


def _page(request: OrganizationRequest, form: OrganizationForm) -> HttpResponse:
    support = open_support_sessions(request.organization, timezone.now())
    page = "accounts/organization_settings.html"
    return show(request, page, title="Organization", form=form, open_support_sessions=support)


@requires(Permission.LOGS_READ)
@require_GET
def audit_log(request: OrganizationRequest) -> HttpResponse:
    events = registered_events()
    areas = sorted({name.rsplit(".", 1)[0] for name in events})
    area = Filter(
        "area",
        "Area",
        [(name, name.replace(".", ": ").replace("_", " ")) for name in areas],
        {name: Q(name__startswith=f"{name}.") for name in areas},
    )
    rows = AuditEvent.objects.for_organization(request.organization).order_by("-id")
    listing = list_page(request, rows, search=("actor_label", "target_label", "name"), filters=[area], counted=False)
    texts = {name: event.text for name, event in events.items()}
    entries = [(event, texts.get(event.name, event.name)) for event in listing]
    return show(request, "accounts/audit_log.html", title="Audit log", listing=listing, entries=entries)


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
