"""The stylesheet of the pages for end users, and the address under which every host of ours serves it."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

from django.contrib.staticfiles import finders

STYLESHEET_PATH = "/cdn-cgi/access/public.css"


def stylesheet_url() -> str:
    return f"{STYLESHEET_PATH}?v={public_stylesheet()[1]}"


@lru_cache(maxsize=1)
def public_stylesheet() -> tuple[bytes, str]:
    """The content and its digest."""
    found = finders.find("public.css")
    if not isinstance(found, str):
        raise FileNotFoundError("controlplane/static/public.css")
    content = Path(found).read_bytes()
    return content, hashlib.sha256(content).hexdigest()[:12]
