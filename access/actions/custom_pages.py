"""Pages shown to people who are refused: create, change, delete, and choose one for the whole organization."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID, uuid4

from django.db import IntegrityError, transaction

from access import events
from access.actions.groups import checked_name
from access.models import Application, CustomPage
from access.safe_html import MAX_HTML_CHARACTERS
from accounts import audit
from accounts.actions.deletions import keep_deleted
from accounts.actions.organizations import update_organization
from accounts.actor import Actor
from accounts.errors import Conflict, InvalidInput
from accounts.models import DeletedObject, Organization

MAX_PAGES = 100
# Where the organization's settings and an application's name their pages, as the public API has it.
SETTING = "custom_pages"
_AWAY = {"custom_deny_url": "people", "custom_non_identity_deny_url": "requests without a login"}


@transaction.atomic
def create_custom_page(
    organization: Organization,
    *,
    actor: Actor,
    name: str,
    type: str,  # noqa: A002 - the field's name
    custom_html: str,
    contract_version: int | None = None,
    key: UUID | None = None,
) -> CustomPage:
    """`key`: the id it had, when its deletion is undone."""
    if CustomPage.objects.for_organization(organization).count() >= MAX_PAGES:
        raise Conflict(f"An organization has at most {MAX_PAGES} custom pages.", code="too_many_custom_pages")
    page = CustomPage(pk=key or uuid4(), organization=organization, name=checked_name(name), type=_checked_type(type))
    page.custom_html, page.contract_version = _checked_html(custom_html), contract_version
    _save(page)
    audit.record(events.CUSTOM_PAGE_CREATED, organization=organization, actor=actor, target=page, new=_facts(page))
    return page


@transaction.atomic
def update_custom_page(
    page: CustomPage,
    *,
    actor: Actor,
    name: str | None = None,
    type: str | None = None,  # noqa: A002
    custom_html: str | None = None,
    contract_version: int | None = None,
) -> CustomPage:
    """None keeps a value. A page in use keeps its type: elsewhere it would not be found where it was put."""
    organization = page.organization
    page = CustomPage.objects.for_organization(organization).select_for_update(no_key=True).get(pk=page.pk)
    old = _facts(page)
    page.name = page.name if name is None else checked_name(name)
    if type is not None and _checked_type(type) != page.type:
        _refuse_used(page, "Its type can only be changed while it is not used.")
        page.type = type
    page.custom_html = page.custom_html if custom_html is None else _checked_html(custom_html)
    page.contract_version = page.contract_version if contract_version is None else contract_version
    _save(page)
    new = _facts(page)
    audit.record(events.CUSTOM_PAGE_UPDATED, organization=organization, actor=actor, target=page, old=old, new=new)
    return page


@transaction.atomic
def delete_custom_page(page: CustomPage, *, actor: Actor) -> DeletedObject:
    """Refused while an application or the organization shows it."""
    organization = Organization.objects.select_for_update(no_key=True).get(pk=page.organization_id)
    page = CustomPage.objects.for_organization(organization).get(pk=page.pk)
    _refuse_used(page, "Choose another page there first.")
    document = {**_facts(page), "contract_version": page.contract_version}
    kept = keep_deleted("custom_page", organization, key=page.pk, name=page.name, document=document, actor=actor)
    audit.delete(page)
    audit.record(events.CUSTOM_PAGE_DELETED, organization=organization, actor=actor, target=page, old=_facts(page))
    return kept


def choose_custom_page(organization: Organization, kind: str, page: CustomPage | None, *, actor: Actor) -> None:
    """The page of this type for every application that has none of its own; None: the built-in page."""
    chosen = {**organization_pages(organization), _checked_type(kind): "" if page is None else str(page.pk)}
    if page is not None and (page.type != kind or page.organization_id != organization.pk):
        raise InvalidInput("This page is made for another kind of refusal.", code="wrong_page_type")
    settings = {**organization.settings, SETTING: {key: value for key, value in chosen.items() if value}}
    update_organization(organization, actor=actor, settings=settings)


def organization_pages(organization: Organization) -> dict[str, str]:
    """Type of refusal -> page id, as the organization's settings say; whatever else was sent there is ignored."""
    stored = organization.settings.get(SETTING)
    if not isinstance(stored, dict):
        return {}
    return {kind: stored[kind] for kind in CustomPage.Type.values if isinstance(stored.get(kind), str) and stored[kind]}


def users_of(organization: Organization, pages: Iterable[CustomPage]) -> dict[UUID, list[str]]:
    """What shows each of the pages, for people."""
    of_all = set(organization_pages(organization).values())
    found = {str(page.pk): ["the whole organization"] if str(page.pk) in of_all else [] for page in pages}
    rows = Application.objects.for_organization(organization).filter(settings__has_key=SETTING).order_by("name")
    for name, chosen in rows.values_list("name", f"settings__{SETTING}"):
        for key in chosen or []:
            if key in found:
                found[key].append(f'"{name}"')
    return {UUID(key): users for key, users in found.items()}


def check_denial(organization: Organization, settings: Mapping[str, Any]) -> None:
    """What an application's settings say about refusals. Raises InvalidInput."""
    for field, who in _AWAY.items():
        url = settings.get(field) or ""
        if url and (not url.startswith("https://") or len(url) < 10 or not url.isprintable() or " " in url):
            text = f"The address that refused {who} are sent to starts with https://."
            raise InvalidInput(text, fields={field: text})
    wanted = settings.get(SETTING) or []
    rows = {str(page.pk): page for page in CustomPage.objects.for_organization(organization)} if wanted else {}
    missing = [key for key in wanted if _canonical(key) not in rows]
    if missing:
        text = f"There is no custom page {str(missing[0])[:60]!r}."
        raise InvalidInput(text, code="reference_not_found", fields={SETTING: text})
    kinds = [rows[_canonical(key)].type for key in wanted]
    if len(set(kinds)) != len(kinds):
        text = "An application shows at most one custom page of each type."
        raise InvalidInput(text, fields={SETTING: text})


def _canonical(key: object) -> str:
    try:
        return str(UUID(str(key)))
    except ValueError:
        return ""


def _refuse_used(page: CustomPage, advice: str) -> None:
    users = users_of(page.organization, [page])[page.pk]
    if users:
        raise Conflict(f"The page is shown by {', '.join(users[:5])}. {advice}", code="custom_page_in_use")


def _checked_type(kind: str) -> str:
    if kind not in CustomPage.Type.values:
        message = f"A custom page is of type {' or '.join(CustomPage.Type.values)}; {kind[:20]!r} is not available."
        raise InvalidInput(message, code="invalid_page_type", fields={"type": message})
    return kind


def _checked_html(source: str) -> str:
    if not source.strip() or len(source) > MAX_HTML_CHARACTERS:
        message = f"The page needs text, at most {MAX_HTML_CHARACTERS // 1024} Ki characters of HTML."
        raise InvalidInput(message, fields={"custom_html": message})
    return source


def _save(page: CustomPage) -> None:
    try:
        with transaction.atomic():
            page.save()
    except IntegrityError as error:
        message = f'There is already a custom page named "{page.name}".'
        raise Conflict(message, code="custom_page_name_taken", fields={"name": message}) from error


def _facts(page: CustomPage) -> dict[str, Any]:
    return {"name": page.name, "type": page.type, "custom_html": page.custom_html}
