"""One Chromium per test process: starting it, and the driver beside it, costs more than most tests do with it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from tools.chromium import chromium

# For what has to come, on a machine full of tests; only a failure takes that long.
PATIENCE_MS = 30_000
expect.set_options(timeout=PATIENCE_MS)

_open = contextlib.ExitStack()
_running: list[Browser] = []


@contextlib.contextmanager
def shared_chromium() -> Iterator[Browser]:
    """The process's browser; what was opened inside is closed at the end. Needs `browser_of_the_package`."""
    if not _running:
        _running.append(_open.enter_context(chromium()))
    (browser,) = _running
    before = list(browser.contexts)
    try:
        yield browser
    finally:
        for context in browser.contexts:
            if context not in before:
                context.close()


@pytest.fixture(scope="package")
def browser_of_the_package() -> Iterator[None]:
    """Closes it. Its event loop counts as running in this thread all the while, though nothing of ours runs in it:
    Django is told so, and packages with tests of their own loops keep away."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "yes")
        yield
        _running.clear()
        _open.close()
