"""A form is acted upon once, however often it is sent: double clicks, reloads of the answer, a proxy that tries again.

Every form carries a random form_id (template tag form_head). The first request that brings it claims it; another one
with the same id is told so and changes nothing. The claim is given back when the request did nothing: it was refused,
it failed, or it only changed what the form shows. Forms without an id, from scripts, are not held back.

A part of a page that follows what is typed sends the whole form with its id. Such a step claims nothing: else sending
the form while the step's answer is under way would be taken for the second time, and what was typed be lost.
"""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

from django.contrib import messages
from django.core.cache import cache
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect

from accounts.audit import events_written

SENT_FORM_SECONDS = 3600
_MAX_ID = 64


def answer_once(request: HttpRequest, answer: Callable[[], HttpResponse]) -> HttpResponse:
    """`answer()`, or word that this form had been sent before."""
    key = _key(request)
    if key is None:
        return answer()
    request.claimed_form = key  # type: ignore[attr-defined]
    if not cache.add(key, 1, SENT_FORM_SECONDS):
        messages.info(request, "This form had been sent before. It was acted upon once; look at the list.")
        return HttpResponseRedirect(_way_back(request))
    before = events_written()
    try:
        response = answer()
    except BaseException:
        cache.delete(key)
        raise
    # No change is made without an event of the audit log.
    if response.status_code >= 400 or events_written() == before:
        cache.delete(key)
    return response


def never_claim(request: HttpRequest) -> None:
    """For a request that is acted upon and taken back: the form is still to be sent in earnest."""
    request.claimed_form = None  # type: ignore[attr-defined]


def _key(request: HttpRequest) -> str | None:
    """None when there is nothing to claim, or the request has claimed it already (nested decorators)."""
    form_id = request.POST.get("form_id", "")[:_MAX_ID] if request.method == "POST" else ""
    is_step = request.headers.get("HX-Request") == "true" and "step" in request.POST
    if not form_id or is_step or hasattr(request, "claimed_form"):
        return None
    # With the path: a preview of a form elsewhere is not the form sent.
    return f"sent:{request.user.pk}:{request.path}:{form_id}"


def _way_back(request: HttpRequest) -> str:
    """The page the form was on, if it is one of this host; else the parent of the form's own address."""
    referrer = urlsplit(request.headers.get("Referer", ""))
    if referrer.netloc == request.get_host() and referrer.path.startswith("/") and referrer.path != request.path:
        return referrer.path
    organization = getattr(request, "organization", None)
    return f"/o/{organization.team_name}/" if organization is not None else "/"
