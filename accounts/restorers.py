"""Undoing deletions of accounts: login methods, the logo, saved log views."""

from __future__ import annotations

import base64
from uuid import UUID

from accounts.actions.identity_providers import restore_provider
from accounts.actions.log_views import save_log_view
from accounts.actions.login_page import set_logo
from accounts.actor import Actor
from accounts.errors import Conflict
from accounts.models import DeletedObject, IdentityProvider, Organization, OrganizationLogo, SavedLogView
from accounts.permissions import Permission
from accounts.restoring import Kind, Place, register

_LOG_PAGES = {"access": "access_log", "certificates": "certificates", "audit": "audit_log"}


def _provider(kept: DeletedObject, actor: Actor) -> IdentityProvider:
    return restore_provider(kept, actor=actor)


def _logo(kept: DeletedObject, actor: Actor) -> Organization:
    if OrganizationLogo.objects.for_organization(kept.organization).exists():
        raise Conflict("There is another logo now. Remove it first.", code="logo_exists")
    return set_logo(kept.organization, base64.b64decode(kept.document["content"]), actor=actor)


def _log_view(kept: DeletedObject, actor: Actor) -> SavedLogView:
    return save_log_view(kept.organization, actor=actor, key=UUID(kept.object_id), **kept.document)


def _log_page(view: SavedLogView) -> Place:
    return _LOG_PAGES[view.log], ()


def register_kinds() -> None:
    edit = Permission.IDENTITY_EDIT
    register(Kind("login_method", "Login method", edit, _provider, lambda row: ("login_methods", ())))
    register(Kind("logo", "Logo", Permission.ORGANIZATION_EDIT, _logo, lambda row: ("login_page", ())))
    register(Kind("log_view", "Saved log view", Permission.ACCESS_EDIT, _log_view, _log_page))
