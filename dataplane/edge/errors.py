"""Refusals: every answer the edge gives instead of the origin's, with a reason code, and how it is shown."""

import json

from dataplane.edge.pages import page_of

STATUS_TEXT = {
    100: "Continue",
    101: "Switching Protocols",
    200: "OK",
    302: "Found",
    304: "Not Modified",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    410: "Gone",
    413: "Content Too Large",
    417: "Expectation Failed",
    421: "Misdirected Request",
    426: "Upgrade Required",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
    505: "HTTP Version Not Supported",
}


class Refusal(Exception):
    """The request ends here. `message` is for people and safe to show."""

    def __init__(
        self,
        status: int,
        reason: str,
        message: str,
        *,
        is_final: bool = False,
        reference: str = "",
        location: str = "",
        page: str = "",
    ) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.message = message
        # The rest of the connection cannot be trusted to start at a request: close it after the answer.
        self.is_final = is_final
        # Of the decision that is being passed on, if it was not made for this request.
        self.reference = reference
        # What the control plane has for a browser instead of the plain words: an address to go to, a page.
        self.location = location
        self.page = page


def render(refusal: Refusal, accept: str, reference: str) -> tuple[str, bytes]:
    """Content type and body in the form the client asked for: JSON, HTML or plain text."""
    reference = refusal.reference or reference
    if refusal.page:
        return "text/html; charset=utf-8", refusal.page.encode()
    if "application/json" in accept:
        document = {
            "status": refusal.status,
            "reason": refusal.reason,
            "message": refusal.message,
            "reference": reference,
        }
        return "application/json", json.dumps(document).encode()
    if "text/html" in accept:
        title = f"{refusal.status} {STATUS_TEXT.get(refusal.status, 'Error')}"
        return "text/html; charset=utf-8", page_of(
            title, refusal.status, refusal.reason, refusal.message, reference
        ).encode()
    text = f"{refusal.message}\nreason: {refusal.reason}\nreference: {reference}\n"
    return "text/plain; charset=utf-8", text.encode()
