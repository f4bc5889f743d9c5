"""Debian's Chromium under Playwright, closed off from the network but for this machine."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from playwright.sync_api import Browser, Playwright, sync_playwright

_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
]


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """A headless browser. Names below .localhost reach loopback by Chromium's own rule."""
    with sync_playwright() as playwright:
        browser = launch(playwright)
        try:
            yield browser
        finally:
            browser.close()


def launch(playwright: Playwright, *, trusting: str = "") -> Browser:
    """`trusting`: base64 SHA-256 of an authority's public key, whose certificates count as good."""
    flags = [*_FLAGS, *([f"--ignore-certificate-errors-spki-list={trusting}"] if trusting else [])]
    return playwright.chromium.launch(executable_path="/usr/bin/chromium", args=flags, timeout=30_000)
