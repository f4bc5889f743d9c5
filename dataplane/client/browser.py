"""Showing a URL to the person: always printed, and opened when there is something to open it with."""

import os
import shlex
import shutil
import subprocess
import sys

_OPENERS = ("open",) if sys.platform == "darwin" else ("xdg-open",)


def open_browser(url: str) -> bool:
    """True when an opener was started. It never waits, and it gets no terminal and no token: the URL holds none."""
    command = _opener(url)
    if command is None:
        return False
    try:
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError:
        return False
    return True


def _opener(url: str) -> list[str] | None:
    if os.environ.get("SALLYPORT_NO_BROWSER") == "1":
        return None
    chosen = os.environ.get("BROWSER", "")
    if chosen:
        # One command with arguments, or a colon-separated list of commands: the first that exists.
        commands = (_command(text, url) for text in (chosen, *chosen.split(os.pathsep)))
        return next((command for command in commands if command), None)
    if sys.platform != "darwin" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return None
    return next(([path, url] for name in _OPENERS if (path := shutil.which(name))), None)


def _command(text: str, url: str) -> list[str] | None:
    """Relative paths are refused: the working directory must not decide what runs (security.md AC-42)."""
    try:
        words = shlex.split(text)
    except ValueError:
        return None
    program = shutil.which(words[0]) if words else None
    if program is None or not os.path.isabs(program):
        return None
    arguments = [word.replace("%s", url) for word in words[1:]]
    return [program, *arguments] if "%s" in text else [program, *arguments, url]
