"""What the passkey script talks to: options for the browser, and its answers as ordinary form posts."""

from __future__ import annotations

from django.http import HttpResponse, JsonResponse
from django.utils import timezone

from access.actions.logins import identity_actor
from access.views.authenticators import enrolled_page
from access.views.public import PublicRequest, parse_id, public_page, redirect_to
from access.views.second_factor import arrived, missing, onward, spend_try, spend_wrong, step_page
from accounts.actions.authenticators import begin_passkey, finish_passkey
from accounts.actions.second_factor import begin_passkey_check, finish_passkey_check
from accounts.errors import DomainError, NotFound
from accounts.ratelimits import FACTOR_TRY_BY_ADDRESS, spend


@public_page("POST")
def options(request: PublicRequest) -> HttpResponse:
    """JSON for the script: {"id", "options"}, or {"message"} with the error's status."""
    try:
        spend(FACTOR_TRY_BY_ADDRESS, request.client_ip)
        context, session = arrived(request, request.POST.get("ctx", ""))
        purpose, now = request.POST.get("purpose", ""), timezone.now()
        if purpose == "check":
            step = missing(request, session, context)
            kinds = [row.kind for row in step.shown] if step is not None else []
            challenge = begin_passkey_check(session, kinds=kinds, now=now)
        else:
            challenge = begin_passkey(session, kind=purpose, now=now)
        if challenge is None:
            raise NotFound("You have no passkey that would do here.")
    except DomainError as error:
        return JsonResponse({"message": error.message}, status=error.status)
    return JsonResponse({"id": str(challenge.id), "options": challenge.options})


@public_page("POST")
def check(request: PublicRequest) -> HttpResponse:
    context, session = arrived(request, request.POST.get("ctx", ""))
    spend_try(request, session)
    is_good = finish_passkey_check(
        session,
        challenge_id=parse_id(request.POST.get("challenge", "")),
        answer=request.POST.get("answer", ""),
        now=timezone.now(),
        actor=identity_actor(session, request.client_ip),
    )
    step = missing(request, session, context)
    if is_good or step is None:
        return redirect_to(onward(context), status=303)
    spend_wrong(session)
    return step_page(request, step, notice="The passkey was not accepted. Try again, or use another way.", status=403)


@public_page("POST")
def add(request: PublicRequest) -> HttpResponse:
    context, session = arrived(request, request.POST.get("ctx", ""))
    spend_try(request, session)
    enrolled = finish_passkey(
        session,
        challenge_id=parse_id(request.POST.get("challenge", "")),
        answer=request.POST.get("answer", ""),
        name=request.POST.get("name", ""),
        now=timezone.now(),
        actor=identity_actor(session, request.client_ip),
    )
    return enrolled_page(request, context, enrolled)
