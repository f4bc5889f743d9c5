"""A user agent in words. Guesswork by nature: the text is the browser's own claim and decides nothing. Pure."""

from __future__ import annotations

# In this order: most browsers name their ancestors too.
_PROGRAMS = (
    ("sallyport", "Sallyport client"),
    ("cloudflared", "cloudflared"),
    ("edg/", "Edge"),
    ("opr/", "Opera"),
    ("firefox/", "Firefox"),
    ("fxios/", "Firefox"),
    ("chromium/", "Chromium"),
    ("crios/", "Chrome"),
    ("chrome/", "Chrome"),
    ("safari/", "Safari"),
    ("curl/", "curl"),
    ("python", "Python"),
)
_SYSTEMS = (
    ("iphone", "iPhone"),
    ("ipad", "iPad"),
    ("android", "Android"),
    ("cros", "ChromeOS"),
    ("windows", "Windows"),
    ("mac os", "macOS"),
    ("darwin", "macOS"),
    ("linux", "Linux"),
    ("bsd", "BSD"),
)


def device_of(user_agent: str) -> str:
    """ "Firefox on Linux"; "unknown device" when it says nothing we know."""
    text = user_agent.lower()
    program = next((name for part, name in _PROGRAMS if part in text), "")
    system = next((name for part, name in _SYSTEMS if part in text), "")
    return f"{program} on {system}" if program and system else program or system or "unknown device"
