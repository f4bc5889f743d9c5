"""Users and groups as SCIM clients send them: checked, and reduced to the attributes of our schema."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from accounts.scim.errors import invalid_value
from accounts.scim.patch import unique_values
from accounts.text import ascii_lower

MAX_TEXT = 255
MAX_EMAILS = 20
MAX_MEMBERS = 20_000
_NAME_PARTS = ("formatted", "familyName", "givenName", "middleName", "honorificPrefix", "honorificSuffix")
_EMAIL_PARTS = ("value", "display", "type")


@dataclass(frozen=True, slots=True)
class UserValues:
    """`resource` holds what is given back as it came; the other fields are what we act upon."""

    user_name: str
    external_id: str
    display_name: str
    email: str  # primary, lower case
    active: bool
    resource: dict[str, Any]


@dataclass(frozen=True, slots=True)
class GroupValues:
    display_name: str
    external_id: str
    members: list[str]  # ids as sent


def read_user(document: Mapping[str, Any]) -> UserValues:
    """Unknown attributes are ignored, a password among them. Raises ScimError invalidValue."""
    values = {str(key).lower(): value for key, value in document.items()}
    user_name = _text(values, "userName")
    if not user_name:
        raise invalid_value("userName is required.")
    emails = _emails(values.get("emails"))
    name = _name(values.get("name"))
    display_name = _text(values, "displayName", 350)
    resource: dict[str, Any] = {}
    if display_name:
        resource["displayName"] = display_name
    if name:
        resource["name"] = name
    if emails:
        resource["emails"] = emails
    return UserValues(
        user_name=user_name,
        external_id=_text(values, "externalId"),
        display_name=display_name or _full_name(name),
        email=_primary(emails) or (ascii_lower(user_name) if "@" in user_name else ""),
        active=_flag(values.get("active", True), "active"),
        resource=resource,
    )


def read_group(document: Mapping[str, Any]) -> GroupValues:
    values = {str(key).lower(): value for key, value in document.items()}
    display_name = _text(values, "displayName")
    if not display_name:
        raise invalid_value("displayName is required.")
    return GroupValues(display_name, _text(values, "externalId"), read_members(values.get("members")))


def read_members(value: Any) -> list[str]:
    if value is None:
        return []
    if isinstance(value, Mapping):
        value = [value]
    if not isinstance(value, list) or len(value) > MAX_MEMBERS:
        raise invalid_value(f"members is a list of at most {MAX_MEMBERS}.")
    return unique_values(value)


def _text(values: Mapping[str, Any], name: str, limit: int = MAX_TEXT) -> str:
    value = values.get(name.lower())
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > limit or "\0" in value:
        raise invalid_value(f"{name} is a text of at most {limit} characters.")
    return value.strip()


def _flag(value: Any, name: str) -> bool:
    """Booleans come as texts from some providers; anything else is refused, never taken for true."""
    if value is None:
        return True
    if isinstance(value, str) and value.lower() in {"true", "false"}:
        return value.lower() == "true"
    if not isinstance(value, bool):
        raise invalid_value(f"{name} is true or false.")
    return value


def _name(value: Any) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise invalid_value("name is an object.")
    values = {str(key).lower(): part for key, part in value.items()}
    parts = {part: _text(values, part) for part in _NAME_PARTS}
    return {part: text for part, text in parts.items() if text}


def _full_name(name: Mapping[str, str]) -> str:
    return name.get("formatted") or " ".join(filter(None, (name.get("givenName"), name.get("familyName"))))


def _emails(value: Any) -> list[dict[str, Any]]:
    if value is None:
        return []
    if isinstance(value, Mapping | str):
        value = [value]
    if not isinstance(value, list) or len(value) > MAX_EMAILS:
        raise invalid_value(f"emails is a list of at most {MAX_EMAILS}.")
    return [_email(item) for item in value]


def _email(item: Any) -> dict[str, Any]:
    if isinstance(item, str):
        item = {"value": item}
    if not isinstance(item, Mapping):
        raise invalid_value("An e-mail is an object.")
    values = {str(key).lower(): part for key, part in item.items()}
    found: dict[str, Any] = {part: text for part in _EMAIL_PARTS if (text := _text(values, part, 254))}
    if "primary" in values:
        found["primary"] = _flag(values["primary"], "primary")
    return found


def _primary(emails: list[dict[str, Any]]) -> str:
    chosen = next((email for email in emails if email.get("primary")), emails[0] if emails else {})
    value = chosen.get("value", "")
    return ascii_lower(value) if "@" in value else ""
