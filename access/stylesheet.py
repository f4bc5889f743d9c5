"""The stylesheet of the pages for end users, and the address under which every host of ours serves it."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

from django.contrib.staticfiles import finders

STYLESHEET_PATH = "/cdn-cgi/access/public.css"
SCRIPT_PATH = "/cdn-cgi/access/passkeys.js"
PAGE_SCRIPT_PATH = "/cdn-cgi/access/public.js"


def stylesheet_url() -> str:
    return f"{STYLESHEET_PATH}?v={public_stylesheet()[1]}"


def script_url() -> str:
    return f"{SCRIPT_PATH}?v={public_script()[1]}"


def public_stylesheet() -> tuple[bytes, str]:
    """The content and its digest."""
    return _static("public.css")


def public_script() -> tuple[bytes, str]:
    return _static("passkeys.js")


def page_script() -> tuple[bytes, str]:
    """Of the start page and the account page."""
    return _static("public.js")


def page_script_url() -> str:
    return f"{PAGE_SCRIPT_PATH}?v={page_script()[1]}"


@lru_cache(maxsize=3)
def _static(name: str) -> tuple[bytes, str]:
    found = finders.find(name)
    if not isinstance(found, str):
        raise FileNotFoundError(f"controlplane/static/{name}")
    content = Path(found).read_bytes()
    return content, hashlib.sha256(content).hexdigest()[:12]
