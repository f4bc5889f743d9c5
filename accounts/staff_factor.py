"""Staff of the installation see every organization's data: without a second factor of their own they see none.

A factor that is set up is not enough: this very session has to have shown it, so that one opened with the password
before does not count.
"""

from __future__ import annotations

from functools import wraps
from typing import Any
from urllib.parse import urlencode

from allauth.account.internal.flows.login import get_authentication_records
from allauth.mfa.models import Authenticator
from allauth.mfa.utils import is_mfa_enabled
from django.conf import settings
from django.contrib import admin
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse

# Recovery codes come with one of these and stand in for it; alone they are no factor.
_KINDS = [Authenticator.Type.TOTP, Authenticator.Type.WEBAUTHN]


def second_factor_first(request: HttpRequest) -> HttpResponse | None:
    """What a staff member gets instead of the page; None when nothing is missing (STAFF_REQUIRES_MFA)."""
    user = request.user
    if not settings.STAFF_REQUIRES_MFA or not (user.is_authenticated and user.is_staff):
        return None
    if not is_mfa_enabled(user, _KINDS):
        return render(request, "staff/second_factor.html", status=403)
    if any(record.get("method") == "mfa" for record in get_authentication_records(request, user)):
        return None
    back = request.get_full_path() if request.method in {"GET", "HEAD"} else reverse("staff_home")
    return HttpResponseRedirect(f"{reverse('mfa_reauthenticate')}?{urlencode({'next': back})}")


def guard_admin() -> None:
    """Every page of Django admin asks too; its own login form would not."""
    usual = admin.site.admin_view

    def admin_view(view: Any, cacheable: bool = False) -> Any:
        inner = usual(view, cacheable)

        @wraps(inner)
        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            return second_factor_first(request) or inner(request, *args, **kwargs)

        return guarded

    admin.site.admin_view = admin_view  # type: ignore[method-assign]
