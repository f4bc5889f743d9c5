"""My Team, Users: what an administrator does about a person's second factors."""

from __future__ import annotations

from uuid import UUID

from django.http import HttpResponse
from django.views.decorators.http import require_http_methods

from accounts.actions.authenticators import reset_authenticators
from accounts.http import OrganizationRequest, requires
from accounts.models import Identity
from accounts.pages import at, confirmed, find
from accounts.permissions import Permission


@requires(Permission.IDENTITY_EDIT)
@require_http_methods(["GET", "POST"])
def user_reset_authenticators(request: OrganizationRequest, identity_id: UUID) -> HttpResponse:
    rows = Identity.objects.for_organization(request.organization).select_related("organization")
    identity = find(rows, pk=identity_id)
    return confirmed(
        request,
        lambda: reset_authenticators(identity, actor=request.actor),
        said=f"The authenticators of {identity} are reset.",
        question=f"Reset the authenticators of {identity}?",
        consequences=[
            "All of them and all recovery codes are gone: at the next application that asks for a second factor, this "
            "person adds a new one on the strength of the login alone. Make sure that it is them who asked you.",
            "Sessions in which a second factor was given end now, with their connections.",
        ],
        button="Reset authenticators",
        crumbs=[("Users", at(request, "users")), (str(identity), at(request, "user_detail", identity.pk))],
    )
