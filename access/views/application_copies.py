"""An application made again, and taken away: duplicate, delete with everything that goes with it."""

from __future__ import annotations

from uuid import UUID

from django.http import HttpResponse
from django.utils import timezone
from django.views.decorators.http import require_http_methods

from access.actions.applications import delete_application, duplicate_application
from access.application_forms import RENAMED, DuplicateForm
from access.models import Application, Certificate, SshAuthority
from access.views.applications import crumbs, own_application
from accounts.errors import PermissionDenied
from accounts.forms import TypedNameForm
from accounts.http import OrganizationRequest, requires
from accounts.pages import at, confirmed, done, posted, refusals, show
from accounts.permissions import Permission

_MAX_NAMED = 8


@requires(Permission.ACCESS_EDIT)
@require_http_methods(["GET", "POST"])
def application_duplicate(request: OrganizationRequest, application_id: UUID) -> HttpResponse:
    """Asks for what cannot be the same: name and domain."""
    application = own_application(request, application_id)
    initial = {"name": f"{application.name} (copy)"[:350], "path": application.path}
    form = DuplicateForm(posted(request), initial=initial, organization=request.organization)
    if request.method == "POST" and form.is_valid():
        with refusals(form, **RENAMED):
            try:
                name, domain = form.cleaned_data["name"], form.full_domain()
                copy = duplicate_application(application, actor=request.actor, name=name, domain=domain)
                return done(
                    request, f"{copy.name} is added, with an audience tag of its own.", "application_way_in", copy.pk
                )
            except PermissionDenied as error:
                form.add_error("subdomain", error.message)
    own, shared = _policies(application)
    return show(
        request,
        "access/application_duplicate.html",
        title="Duplicate application",
        crumb="Duplicate",
        crumbs=crumbs(request, application),
        application=application,
        form=form,
        own=own,
        shared=shared,
        back=at(request, "application_detail", application.pk),
    )


@requires(Permission.ACCESS_EDIT)
@require_http_methods(["GET", "POST"])
def application_delete(request: OrganizationRequest, application_id: UUID) -> HttpResponse:
    application = own_application(request, application_id)
    name = application.name
    return confirmed(
        request,
        lambda: delete_application(application, actor=request.actor),
        form=TypedNameForm(posted(request), name=name),
        said=f"{name} is deleted.",
        to=at(request, "applications"),
        question=f"Delete {name}?",
        consequences=_consequences(application),
        button="Delete application",
        can_undo=True,
        crumbs=crumbs(request, application),
    )


def _consequences(application: Application) -> list[str]:
    own, shared = _policies(application)
    lines = [
        f"{application.domain} is no longer behind Access: nothing is served under that name, and every connection "
        "that runs over it is cut within seconds.",
        "Tokens and login cookies of this application stop being accepted. People stay logged in elsewhere.",
    ]
    if own:
        lines.append(f"Its own {'policy goes' if len(own) == 1 else 'policies go'} with it: {_named(own)}.")
    if shared:
        lines.append(f"Reusable policies stay: {_named(shared)}.")
    lines += _ssh(application)
    lines.append(
        "Undone, it comes back with its settings, policies, tests and audience tag. Keys are never kept: it needs a "
        "new SSH authority, and hosts have to trust that one."
    )
    return lines


def _ssh(application: Application) -> list[str]:
    rows = application.ssh_authorities.filter(state__in=[SshAuthority.State.ACTIVE, SshAuthority.State.NEXT])
    authority = rows.order_by("state").first()
    if authority is None:
        return []
    valid = Certificate.objects.filter(
        application=application, status=Certificate.Status.ISSUED, revoked_at=None, valid_before__gt=timezone.now()
    ).count()
    lines = [
        f"Its SSH certificate authority ({authority.fingerprint}) and the list of its certificates go with it. Hosts "
        "that trust this authority get no more logins through Sallyport; take it out of their TrustedUserCAKeys."
    ]
    if valid:
        lines.append(
            f"{_count(valid, 'certificate is', 'certificates are')} still valid, for minutes: a host that is reachable "
            "another way accepts it until then."
        )
    return lines


def _policies(application: Application) -> tuple[list[str], list[str]]:
    """Names of its own ones and of attached reusable ones."""
    links = list(application.policy_links.select_related("policy").order_by("precedence"))
    own = [link.policy.name for link in links if not link.policy.reusable]
    return own, [link.policy.name for link in links if link.policy.reusable]


def _named(names: list[str]) -> str:
    more = len(names) - _MAX_NAMED
    return ", ".join(names[:_MAX_NAMED]) + (f" and {more} more" if more > 0 else "")


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
