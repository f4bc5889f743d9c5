"""Turning a refusal of the edge or the control plane into one line a person can act on."""

import json
from typing import Any
from urllib.parse import urljoin, urlsplit

from dataplane.errors import printable
from dataplane.https import Response

MAX_MESSAGE_CHARS = 400
LOGIN_PATH = "/cdn-cgi/access/login"

_HINTS = {
    401: "log in again: sallyport access login {host}",
    404: "check the host name; the application, its DNS record or its tunnel may be gone",
    429: "wait a moment and try again",
    502: "the server behind the tunnel could not be reached; ask its administrator",
    503: "no connector is online for this host, or the control plane is down; try again shortly",
}


def describe_answer(response: Response) -> str:
    """ "403 policy_denied: text": status, reason code and message as far as the answer has them, safe to print."""
    document = read_object(response)
    reason = str(document.get("reason") or response.header("sallyport-error") or "")
    message = str(document.get("message") or document.get("error") or "")
    if not document and "html" not in (response.header("content-type") or ""):
        message = response.body.decode("utf-8", "replace")
    reference = printable(str(document.get("reference") or ""), limit=80)
    status = " ".join(filter(None, (str(response.status), printable(reason, limit=200))))
    text = ": ".join(filter(None, (status, printable(message, limit=MAX_MESSAGE_CHARS))))
    return f"{text} (reference {reference})" if reference else text


def is_login_redirect(response: Response, url: str) -> bool:
    """Only this answer means "please authenticate" (access-client.md 8.2)."""
    location = urlsplit(urljoin(url, response.header("location") or "/"))
    return response.status == 302 and location.path.startswith(LOGIN_PATH)


def with_hint(text: str, status: int, host: str) -> str:
    hint = _HINTS.get(status)
    return f"{text}\n  What to do: {hint.format(host=host)}" if hint else text


def read_object(response: Response) -> dict[str, Any]:
    """The JSON object in the body, or an empty one."""
    try:
        document = json.loads(response.body)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}
