"""Autocomplete of the rule builder: <option>s for a <datalist>, a few at a time."""

from __future__ import annotations

from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from access.known_values import Wanted, known_values
from accounts.http import OrganizationRequest, requires
from accounts.permissions import Permission


@requires(Permission.IDENTITY_READ)
@require_GET
def policy_rule_values(request: OrganizationRequest) -> HttpResponse:
    """`field` names the parameter that holds what was typed: a row's field sends itself under its own name."""
    wanted = Wanted(*(request.GET.get(name, "")[:500] for name in ("kind", "provider", "claim")))
    typed = request.GET.get(request.GET.get("field", ""), "")
    known = known_values(request.organization, wanted, typed)
    return render(request, "access/_known_values.html", {"known": known})
