"""Settings, API tokens: created (shown once), listed, revoked."""

from __future__ import annotations

from django.http import HttpResponse
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods

from accounts.actions.api_tokens import create_api_token, revoke_api_token
from accounts.forms import ApiTokenForm
from accounts.http import OrganizationRequest, requires
from accounts.models import ApiToken
from accounts.pages import at, confirmed, find, list_page, posted, refusals, show
from accounts.permissions import Permission


@requires(Permission.TOKENS_READ)
@require_GET
def api_tokens(request: OrganizationRequest) -> HttpResponse:
    rows = ApiToken.objects.for_organization(request.organization).select_related("created_by").order_by("-created_at")
    listing = list_page(request, rows, search=("name", "prefix"))
    return show(request, "accounts/api_tokens.html", title="API tokens", listing=listing, now=timezone.now())


@requires(Permission.TOKENS_EDIT)
@require_http_methods(["GET", "POST"])
def api_token_create(request: OrganizationRequest) -> HttpResponse:
    allowed = [permission for permission in Permission if request.can(permission)]
    form = ApiTokenForm(posted(request), allowed=allowed)
    crumbs = [("API tokens", at(request, "api_tokens"))]
    if request.method == "POST" and form.is_valid():
        with refusals(form):
            token, secret = create_api_token(
                request.organization,
                name=form.cleaned_data["name"],
                scopes=form.cleaned_data["scopes"],
                expires_at=form.expires_at(),
                user=request.user,
                actor=request.actor,
            )
            base = request.build_absolute_uri("/client/v4")
            return show(
                request,
                "accounts/api_token_created.html",
                title="API token created",
                crumbs=crumbs,
                token=token,
                secret=secret,
                check_command=f'curl -H "Authorization: Bearer {secret}" {base}/user/tokens/verify',
            )
    return show(
        request,
        "form.html",
        title="Create an API token",
        crumbs=crumbs,
        lead="For programs: Terraform, scripts, the command line. The token is shown once, on the next page.",
        form=form,
        button="Create token",
        back=at(request, "api_tokens"),
    )


@requires(Permission.TOKENS_EDIT)
@require_http_methods(["GET", "POST"])
def api_token_revoke(request: OrganizationRequest, token_id: str) -> HttpResponse:
    token = find(ApiToken.objects.for_organization(request.organization).select_related("organization"), pk=token_id)
    return confirmed(
        request,
        lambda: revoke_api_token(token, actor=request.actor),
        said=f"The API token {token.name} is revoked.",
        question=f"Revoke the API token {token.name}?",
        consequences=[
            "Programs that use it are refused from now on. This cannot be undone; create a new token instead.",
            *(["Tokens that were made with it through the API are revoked too."] if token.made.exists() else []),
        ],
        button="Revoke token",
        title="Revoke API token",
        crumbs=[("API tokens", at(request, "api_tokens"))],
    )
