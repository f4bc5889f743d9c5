"""Settings, Recently deleted: what can be undone, and undoing it."""

from __future__ import annotations

from uuid import UUID

from django.contrib import messages
from django.db.models import Q
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from accounts.actions.deletions import KEPT, restore_deleted
from accounts.errors import PermissionDenied
from accounts.http import OrganizationRequest, requires
from accounts.models import DeletedObject
from accounts.pages import Filter, at, done, find, list_page, show, telling
from accounts.permissions import Permission
from accounts.restoring import kinds
from accounts.tenancy import TenantQuerySet


@requires(Permission.ACCESS_READ)
@require_GET
def deleted(request: OrganizationRequest) -> HttpResponse:
    known = sorted(((kind.name, kind.label) for kind in kinds().values()), key=lambda item: item[1])
    kind = Filter("kind", "Kind", known, {name: Q(kind=name) for name, _ in known})
    listing = list_page(request, _rows(request), search=("name", "deleted_by"), filters=[kind])
    entries = [(row, kinds()[row.kind].label, request.can(kinds()[row.kind].permission)) for row in listing]
    return show(
        request,
        "accounts/deleted.html",
        title="Recently deleted",
        listing=listing,
        entries=entries,
        days=KEPT.days,
    )


@requires(Permission.ACCESS_EDIT)
@require_POST
def deleted_restore(request: OrganizationRequest, deleted_id: UUID) -> HttpResponse:
    """Who may edit anything gets here; the kind says who may make such an object."""
    kept = find(_rows(request), pk=deleted_id)
    kind = kinds()[kept.kind]
    if not request.can(kind.permission):
        raise PermissionDenied(f"Your role lacks {kind.permission.value}.", code="missing_permission")
    with telling(request):
        target = restore_deleted(kept, actor=request.actor)
        page, arguments = kind.place(target)
        return done(request, f"{kept.name} is back.", page, *arguments)
    # The cause may be the next to be restored.
    messages.info(request, "Nothing was changed.")
    return redirect(at(request, "deleted"))


def _rows(request: OrganizationRequest) -> TenantQuerySet[DeletedObject]:
    rows = DeletedObject.objects.for_organization(request.organization).select_related("organization")
    return rows.filter(kind__in=list(kinds()), expires_at__gt=timezone.now())
