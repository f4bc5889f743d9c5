"""The look of an organization's login page: texts, colours, logo."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from typing import Any

from django.db import transaction

from accounts import audit, events
from accounts.actions.deletions import keep_deleted
from accounts.actor import Actor
from accounts.colours import parse_colour
from accounts.errors import InvalidInput
from accounts.login_design import MAX_LOGO_BYTES, MAX_LOGO_PIXELS, MAX_TEXT, logo_type
from accounts.models import DeletedObject, Organization, OrganizationLogo

_TEXTS = ("header_text", "footer_text")
_COLOURS = ("background_color", "button_color")


@transaction.atomic
def update_login_page(
    organization: Organization, *, design: Mapping[str, str], logo: bytes | None, actor: Actor
) -> Organization:
    """`design`: the texts and colours; what the public API keeps beside them stays. `logo` None leaves the logo."""
    clean = {name: _clean_text(name, design.get(name, "")) for name in _TEXTS}
    clean |= {name: _clean_colour(name, design.get(name, "")) for name in _COLOURS}
    mark = _store_logo(organization, logo) if logo is not None else None
    return _save(organization, clean, mark, actor)


@transaction.atomic
def set_logo(organization: Organization, logo: bytes, *, actor: Actor) -> Organization:
    return _save(organization, {}, _store_logo(organization, logo), actor)


@transaction.atomic
def remove_logo(organization: Organization, *, actor: Actor) -> DeletedObject | None:
    """None when there was none."""
    logo = OrganizationLogo.objects.for_organization(organization).first()
    kept = None
    if logo is not None:
        document = {"content": base64.b64encode(bytes(logo.content)).decode()}
        kept = keep_deleted("logo", organization, key=organization.pk, name="Logo", document=document, actor=actor)
        logo.delete()
    _save(organization, {}, "", actor)
    return kept


def _save(organization: Organization, design: dict[str, str], logo: str | None, actor: Actor) -> Organization:
    current = Organization.objects.select_for_update(no_key=True).get(pk=organization.pk)
    kept = current.settings.get("login_design")
    before: dict[str, Any] = dict(kept) if isinstance(kept, dict) else {}
    old = {name: before.get(name, "") for name in design}
    new: dict[str, Any] = dict(design)
    settings = {**current.settings, "login_design": {**before, **design}}
    if logo is not None:
        old["logo"], new["logo"] = current.settings.get("login_logo", ""), logo
        settings["login_logo"] = logo
    current.settings = settings
    current.save(update_fields=["settings"])
    audit.record(events.LOGIN_PAGE_CHANGED, organization=current, actor=actor, target=current, old=old, new=new)
    return current


def _store_logo(organization: Organization, content: bytes) -> str:
    media_type = logo_type(content) if len(content) <= MAX_LOGO_BYTES else None
    if media_type is None:
        limits = f"{MAX_LOGO_BYTES // 1024} kB and {MAX_LOGO_PIXELS} pixels a side"
        message = f"The logo must be a PNG or JPEG of at most {limits}."
        raise InvalidInput(message, fields={"logo": message})
    values = {"content": content, "media_type": media_type}
    OrganizationLogo.objects.update_or_create(organization=organization, defaults=values)
    return hashlib.sha256(content).hexdigest()[:16]


def _clean_text(name: str, text: str) -> str:
    clean = " ".join(text.split())
    if len(clean) > MAX_TEXT or not clean.isprintable():
        message = f"At most {MAX_TEXT} printable characters."
        raise InvalidInput(message, fields={name: message})
    return clean


def _clean_colour(name: str, text: str) -> str:
    colour = parse_colour(text) if text.strip() else ""
    if colour is None:
        message = "Write the colour as #rrggbb, for example #0d5c52."
        raise InvalidInput(message, fields={name: message})
    return colour
