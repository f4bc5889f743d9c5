"""What a refused person gets to see: the organization's or application's own words, page or address.

The first of these that is there: an address to go to, the application's page, the organization's page, the built-in
page. The sentence of the refusal and its reference stand on each page of ours; an address gets reason and reference as
parameters.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlencode

from django.template.loader import render_to_string
from django.utils.safestring import SafeString, mark_safe

from access.actions.custom_pages import SETTING, organization_pages
from access.evaluation import Decision
from access.models import Application, CustomPage
from access.safe_html import sanitized
from access.stylesheet import stylesheet_url
from accounts.login_design import design_of
from accounts.models import Identity

_PAGE_TYPES = {True: CustomPage.Type.IDENTITY_DENIED, False: CustomPage.Type.FORBIDDEN}
_URL_SETTINGS = {True: "custom_deny_url", False: "custom_non_identity_deny_url"}


@dataclass(frozen=True, slots=True)
class Denial:
    location: str
    message: str
    html: SafeString


def denial_of(application: Application, decision: Decision, *, has_identity: bool, reference: str) -> Denial:
    """`has_identity`: whether somebody is logged in. `location` is empty where a page is shown."""
    message = str(application.settings.get("custom_deny_message") or "")
    url = str(application.settings.get(_URL_SETTINGS[has_identity]) or "")
    if url.startswith("https://"):
        # Public clients of this setting expect the bare address; two more parameters do not disturb them.
        mark = "&" if "?" in url.partition("#")[0] else "?"
        address, _, fragment = url.partition("#")
        location = f"{address}{mark}{urlencode({'reason': decision.reason, 'reference': reference})}"
        return Denial(location + (f"#{fragment}" if fragment else ""), message, SafeString())
    page = _page(application, _PAGE_TYPES[has_identity])
    # Built from an allow-list of elements and attributes (access/safe_html.py).
    html = mark_safe(sanitized(page.custom_html)[0]) if page is not None else SafeString()  # noqa: S308
    return Denial("", message, html)


def refusal_page(
    application: Application,
    decision: Decision,
    denial: Denial,
    *,
    hostname: str,
    identity: Identity | None,
    reference: str,
) -> str:
    """The page an edge shows at the application's own hostname."""
    context = {
        "organization": application.organization,
        "stylesheet": stylesheet_url(),
        "look": design_of(application.organization.settings),
        "application": application,
        "hostname": hostname,
        "identity": identity,
        "decision": decision,
        "denial": denial,
        "reference": reference,
    }
    return render_to_string("access/public/denied.html", context)


def _page(application: Application, kind: str) -> CustomPage | None:
    own = application.settings.get(SETTING) or []
    common = organization_pages(application.organization).get(kind)
    wanted = [*own, *([common] if common else [])]
    if not wanted:
        return None
    rows = CustomPage.objects.for_organization(application.organization).filter(type=kind)
    found = {str(page.pk): page for page in rows}
    return next((found[str(key)] for key in wanted if str(key) in found), None)
