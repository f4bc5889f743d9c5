"""How durations and times read on pages."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from django.conf import settings

from accounts.templatetags.pages import duration


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, "no limit"),
        (0, "0 seconds"),
        (60, "1 minute"),
        (5400, "1 hour 30 minutes"),
        (86400, "1 day"),
        (7 * 86400, "1 week"),
        (14 * 86400, "2 weeks"),
        (30 * 86400, "30 days"),
        (8 * 86400 + 3600, "1 week 1 day"),
    ],
)
def test_durations_read_as_people_say_them(seconds: int | None, words: str) -> None:
    assert duration(seconds) == words


def test_no_page_calls_a_local_time_utc() -> None:
    """Times are shown in the viewer's zone; a "UTC" written beside them would be false for everybody else."""
    local = re.compile(r'(\|instant|\|date:"[^"]*"|% now "[^"]*") *[%}]}\)? UTC')
    pages = (Path(settings.BASE_DIR) / "templates").rglob("*.html")
    assert [str(page) for page in pages if local.search(page.read_text(encoding="utf-8"))] == []
