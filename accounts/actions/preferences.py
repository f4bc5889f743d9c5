"""What a member chooses for themselves, in every organization."""

from __future__ import annotations

from django.db import transaction

from accounts import audit, events
from accounts.actor import Actor
from accounts.errors import InvalidInput
from accounts.models import User
from accounts.zones import zone_named


@transaction.atomic
def set_time_zone(user: User, *, name: str, actor: Actor) -> None:
    """An IANA name; "" for whatever the browser says."""
    if name and zone_named(name) is None:
        raise InvalidInput(f"There is no time zone {name[:64]}.", fields={"time_zone": "Choose one of the list."})
    old = user.time_zone
    user.time_zone = name
    user.save(update_fields=["time_zone"])
    audit.record(
        events.PREFERENCES_CHANGED,
        organization=None,
        actor=actor,
        target=user,
        old={"time_zone": old},
        new={"time_zone": name},
    )
