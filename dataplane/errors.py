"""The one error the command line shows: its text is for people, never a secret and never a traceback."""


class CommandError(Exception):
    """Ends the command with `exit_code` after printing the message on stderr."""

    def __init__(self, message: str, *, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def printable(text: str, *, limit: int = 600) -> str:
    """Server text made safe for a terminal: no control characters (escape sequences), bounded length."""
    cleaned = "".join(ch if ch.isprintable() else " " for ch in text[: limit * 2])
    return " ".join(cleaned.split())[:limit]
