"""Buttons that cut people or programs off ask first, without scripts (components/post.html)."""

from __future__ import annotations

import re

import pytest

from tests.factories import Cast
from tests.pages_kit import login, shown
from tests.world import make_world


@pytest.mark.parametrize(
    ("path", "action", "says"),
    [
        ("tunnels/{tunnel}/", "/disconnect/", "Yes, disconnect all"),
        ("access/service-auth/ssh/{application}/", "/release/", "Yes, release"),
        ("access/service-auth/", "/disable/", "Yes, disable"),
    ],
)
def test_the_form_is_behind_a_question(cast: Cast, path: str, action: str, says: str) -> None:
    world = make_world(cast.widgetcorp, domain="widgetcorp.tech")
    page = shown(
        login(cast.alice), "/o/widgetcorp/" + path.format(tunnel=world.tunnel.pk, application=world.application.pk)
    )
    asked = re.findall(r'<details class="ask">.*?</details>', page, re.S)
    assert any(action in part and says in part for part in asked)
