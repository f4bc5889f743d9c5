"""Buttons that cut people or programs off ask first, without scripts (components/post.html)."""

from __future__ import annotations

import re

import pytest

from access.models import SshAuthority
from tests.factories import Cast
from tests.pages_kit import login, shown
from tests.world import make_world


@pytest.mark.parametrize(
    ("path", "action", "says"),
    [
        ("tunnels/{tunnel}/", "/disconnect/", "Yes, disconnect all"),
        ("access/service-auth/ssh/{application}/", "/release/", "Yes, release"),
        ("access/service-auth/", "/disable/", "Yes, disable"),
        ("access/service-auth/ssh/{application}/", "/rotate/", "Yes, make the next key"),
        ("tunnels/{tunnel}/", 'name="client_id"', "Yes, disconnect<"),
        ("tunnels/{tunnel}/connectors/{connector}/", 'name="client_id"', "Yes, disconnect<"),
    ],
)
def test_the_form_is_behind_a_question(cast: Cast, path: str, action: str, says: str) -> None:
    world = make_world(cast.widgetcorp, domain="widgetcorp.tech")
    address = path.format(tunnel=world.tunnel.pk, application=world.application.pk, connector=world.connector.client_id)
    assert_asks(shown(login(cast.alice), "/o/widgetcorp/" + address), action, says)


def test_using_the_next_key_now_asks_first(cast: Cast) -> None:
    world = make_world(cast.widgetcorp, domain="widgetcorp.tech")
    SshAuthority.objects.create(
        organization=cast.widgetcorp,
        application=world.application,
        state=SshAuthority.State.NEXT,
        public_key="ssh-ed25519 AAAA next",
    )
    page = shown(login(cast.alice), f"/o/widgetcorp/access/service-auth/ssh/{world.application.pk}/")
    assert_asks(page, "/activate/", "Yes, use the next key")


def assert_asks(page: str, action: str, says: str) -> None:
    asked = re.findall(r'<details class="ask">.*?</details>', page, re.S)
    assert any(action in part and says in part for part in asked)
    rest = re.sub(r'<details class="ask">.*?</details>', "", page, flags=re.S)
    assert action not in rest
