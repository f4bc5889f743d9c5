"""Settings, Login page: texts, colours and logo of the pages on the team domain, with a preview of them."""

from __future__ import annotations

from typing import Any

from django import forms
from django.http import Http404, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts.actions.login_page import remove_logo, update_login_page
from accounts.colours import LIGHT_SURFACE, parse_colour, readable_against
from accounts.http import OrganizationRequest, requires
from accounts.login_design import MAX_LOGO_BYTES, MAX_TEXT, LoginDesign, design_of
from accounts.models import IdentityProvider, OrganizationLogo
from accounts.pages import at, confirmed, done, refusals, show
from accounts.permissions import Permission

_FIELDS = ("header_text", "footer_text", "background_color", "button_color")


class LoginPageForm(forms.Form):
    header_text = forms.CharField(required=False, max_length=MAX_TEXT, label="Text above the login methods")
    footer_text = forms.CharField(required=False, max_length=MAX_TEXT, label="Text at the foot of the page")
    button_color = forms.CharField(
        required=False,
        max_length=7,
        label="Colour of buttons and links",
        help_text="As #rrggbb. Made darker or lighter where text would not be readable.",
        widget=forms.TextInput(attrs={"class": "mono short", "placeholder": "#1d4ed8", "spellcheck": "false"}),
    )
    background_color = forms.CharField(
        required=False,
        max_length=7,
        label="Background",
        help_text="As #rrggbb, in light and dark alike. Empty: as the reader's system says.",
        widget=forms.TextInput(attrs={"class": "mono short", "placeholder": "#f3f5f8", "spellcheck": "false"}),
    )
    logo = forms.FileField(
        required=False,
        label="Logo",
        help_text=f"PNG or JPEG, at most {MAX_LOGO_BYTES // 1024} kB. Shown 48 pixels high.",
        widget=forms.FileInput(attrs={"accept": "image/png,image/jpeg"}),
    )


@requires(Permission.ORGANIZATION_READ)
@require_GET
def login_page(request: OrganizationRequest) -> HttpResponse:
    design = design_of(request.organization.settings)
    return _page(request, LoginPageForm(initial={name: getattr(design, name) for name in _FIELDS}), design)


@requires(Permission.ORGANIZATION_EDIT)
@require_POST
def login_page_edit(request: OrganizationRequest) -> HttpResponse:
    form = LoginPageForm(request.POST, request.FILES)
    if form.is_valid():
        upload = form.cleaned_data["logo"]
        with refusals(form):
            update_login_page(
                request.organization,
                design={name: form.cleaned_data[name] for name in _FIELDS},
                # One byte too many is enough to know that it is too large.
                logo=upload.read(MAX_LOGO_BYTES + 1) if upload else None,
                actor=request.actor,
            )
            return done(request, "The login page is saved.", "login_page")
    return _page(request, form, design_of(request.organization.settings))


@requires(Permission.ORGANIZATION_READ)
@require_GET
def login_page_preview(request: OrganizationRequest) -> HttpResponse:
    """The preview of what stands in the form, for htmx."""
    return render(request, "accounts/_login_preview.html", _preview(request, _typed(request)))


@requires(Permission.ORGANIZATION_READ)
@require_GET
def login_page_style(request: OrganizationRequest) -> HttpResponse:
    """Colours of the preview: pages have no inline styles."""
    css = _typed(request).stylesheet(root=".login-preview")
    return HttpResponse(css, content_type="text/css; charset=utf-8")


@requires(Permission.ORGANIZATION_READ)
@require_GET
def login_page_logo(request: OrganizationRequest) -> HttpResponse:
    logo = OrganizationLogo.objects.for_organization(request.organization).first()
    if logo is None:
        raise Http404
    return logo.response()


@requires(Permission.ORGANIZATION_EDIT)
@require_http_methods(["GET", "POST"])
def login_page_remove_logo(request: OrganizationRequest) -> HttpResponse:
    return confirmed(
        request,
        lambda: remove_logo(request.organization, actor=request.actor),
        said="The logo is removed.",
        question="Remove the logo?",
        consequences=["Login pages show the organization's name only."],
        button="Remove logo",
        can_undo=True,
        crumbs=[("Login page", at(request, "login_page"))],
    )


def _page(request: OrganizationRequest, form: LoginPageForm, design: LoginDesign) -> HttpResponse:
    shown = design if not form.is_bound else _typed(request)
    page = _preview(request, shown)
    return show(request, "accounts/login_page.html", title="Login page", form=form, live=True, **page)


def _preview(request: OrganizationRequest, design: LoginDesign) -> dict[str, Any]:
    providers = list(IdentityProvider.objects.for_organization(request.organization))
    pin = IdentityProvider.Type.ONE_TIME_PIN
    accent = design.button_color
    return {
        "design": design,
        "methods": [provider for provider in providers if provider.type != pin],
        "has_pin": any(provider.type == pin for provider in providers),
        "adjusted": readable_against(accent, LIGHT_SURFACE) if accent else "",
        "organization": request.organization,
    }


def _typed(request: OrganizationRequest) -> LoginDesign:
    """What stands in the form, cleaned as far as it goes."""
    data = request.POST if request.method == "POST" else request.GET
    texts = {name: data.get(name, "")[:MAX_TEXT] for name in ("header_text", "footer_text")}
    colours = {name: parse_colour(data.get(name, "")) or "" for name in ("background_color", "button_color")}
    return LoginDesign(**texts, **colours, logo=design_of(request.organization.settings).logo)
