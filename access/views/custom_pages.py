"""Settings, Custom pages: what refused people are shown, for the whole organization or single applications."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.http import HttpResponse
from django.utils.safestring import mark_safe
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from access.actions.applications import update_application
from access.actions.custom_pages import (
    choose_custom_page,
    create_custom_page,
    delete_custom_page,
    organization_pages,
    update_custom_page,
    users_of,
)
from access.denial_forms import CustomPageForm, DefaultPagesForm, DenialForm
from access.models import CustomPage
from access.safe_html import sanitized
from access.views.applications import own_application, tab
from accounts.api_requests import asks_for_request
from accounts.http import OrganizationRequest, requires
from accounts.pages import at, confirmed, done, find, list_page, posted, refusals, show
from accounts.permissions import Permission


@requires(Permission.ACCESS_READ)
@require_GET
def custom_pages(request: OrganizationRequest) -> HttpResponse:
    return _list(request, _defaults_form(request))


@requires(Permission.ORGANIZATION_EDIT)
@require_POST
def custom_pages_choose(request: OrganizationRequest) -> HttpResponse:
    """Which pages every application shows that has none of its own."""
    form = _defaults_form(request, posted(request))
    if form.is_valid():
        pages = {str(page.pk): page for page in _own_pages(request)}
        before = organization_pages(request.organization)
        with refusals(form):
            for kind in CustomPage.Type.values:
                chosen = form.cleaned_data[kind]
                if chosen != before.get(kind, "") or asks_for_request(request):
                    choose_custom_page(request.organization, kind, pages.get(chosen), actor=request.actor)
            return done(request, "Refused people see these pages from now on.", "custom_pages")
    return _list(request, form)


@requires(Permission.ACCESS_EDIT)
@require_http_methods(["GET", "POST"])
def custom_page_add(request: OrganizationRequest) -> HttpResponse:
    form = CustomPageForm(posted(request))
    if request.method == "POST" and form.is_valid():
        with refusals(form):
            page = create_custom_page(request.organization, actor=request.actor, **form.cleaned_data)
            return done(request, f"The page {page.name} is added.", "custom_page_edit", page.pk)
    return _form_page(request, form, title="Add a custom page")


@requires(Permission.ACCESS_EDIT)
@require_http_methods(["GET", "POST"])
def custom_page_edit(request: OrganizationRequest, page_id: UUID) -> HttpResponse:
    page = _own(request, page_id)
    initial = {name: getattr(page, name) for name in CustomPageForm.base_fields}
    form = CustomPageForm(posted(request), initial=initial)
    if request.method == "POST" and form.is_valid():
        with refusals(form):
            saved = update_custom_page(page, actor=request.actor, **form.cleaned_data)
            return done(request, f"The page {saved.name} is saved.", "custom_page_edit", page.pk)
    shown, left_out = sanitized(page.custom_html)
    # Built from an allow-list of elements and attributes (access/safe_html.py).
    preview = mark_safe(shown)  # noqa: S308
    return _form_page(request, form, title=f"Edit {page.name}", preview=preview, left_out=left_out, page=page)


@requires(Permission.ACCESS_EDIT)
@require_http_methods(["GET", "POST"])
def custom_page_delete(request: OrganizationRequest, page_id: UUID) -> HttpResponse:
    page = _own(request, page_id)
    return confirmed(
        request,
        lambda: delete_custom_page(page, actor=request.actor),
        said=f"The page {page.name} is deleted.",
        question=f"Delete the page {page.name}?",
        consequences=["It can only be deleted while no application and not the whole organization shows it."],
        button="Delete page",
        can_undo=True,
        title="Delete custom page",
        crumbs=[("Custom pages", at(request, "custom_pages"))],
    )


# --- one application --------------------------------------------------------------------------------------------
@requires(Permission.ACCESS_READ)
@require_GET
def application_denial(request: OrganizationRequest, application_id: UUID) -> HttpResponse:
    application = own_application(request, application_id)
    pages = _own_pages(request)
    form = DenialForm(initial=DenialForm.initial_of(application, pages), pages=pages)
    return tab(request, application, "denial", form=form, live=True)


@requires(Permission.ACCESS_EDIT)
@require_POST
def application_denial_edit(request: OrganizationRequest, application_id: UUID) -> HttpResponse:
    application = own_application(request, application_id)
    form = DenialForm(posted(request), pages=_own_pages(request))
    if form.is_valid():
        with refusals(form):
            update_application(application, actor=request.actor, settings_changes=form.settings_changes())
            return done(request, "What refused people see is saved.", "application_denial", application.pk)
    return tab(request, application, "denial", form=form)


def _own(request: OrganizationRequest, page_id: UUID) -> CustomPage:
    rows = CustomPage.objects.for_organization(request.organization).select_related("organization")
    return find(rows, pk=page_id)


def _own_pages(request: OrganizationRequest) -> list[CustomPage]:
    return list(CustomPage.objects.for_organization(request.organization))


def _defaults_form(request: OrganizationRequest, data: Any = None) -> DefaultPagesForm:
    return DefaultPagesForm(data, initial=organization_pages(request.organization), pages=_own_pages(request))


def _list(request: OrganizationRequest, form: DefaultPagesForm) -> HttpResponse:
    rows = CustomPage.objects.for_organization(request.organization).select_related("organization")
    listing = list_page(request, rows, search=("name",))
    users = users_of(request.organization, listing)
    entries = [(page, users[page.pk]) for page in listing]
    page: dict[str, Any] = {"listing": listing, "entries": entries, "form": form}
    return show(request, "access/custom_pages.html", title="Custom pages", live=True, **page)


def _form_page(request: OrganizationRequest, form: CustomPageForm, *, title: str, **context: Any) -> HttpResponse:
    back = at(request, "custom_pages")
    return show(
        request,
        "access/custom_page_form.html",
        title=title,
        crumbs=[("Custom pages", back)],
        form=form,
        back=back,
        **context,
    )
