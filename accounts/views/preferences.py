"""A member's own preferences, outside any organization."""

from __future__ import annotations

from typing import cast

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from accounts.actions.preferences import set_time_zone
from accounts.actor import Actor, ActorKind
from accounts.http import signed_in
from accounts.models import User
from accounts.pages import posted, refusals, sent_once
from accounts.zones import common_zones, zone_label


class PreferencesForm(forms.Form):
    time_zone = forms.ChoiceField(
        required=False,
        label="Time zone",
        help_text="Times in the dashboard are shown in it. The exact UTC instant is always on hover.",
    )

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        choices = [("", "As my browser says"), *((name, name.replace("_", " ")) for name in common_zones())]
        self.fields["time_zone"].choices = choices  # type: ignore[attr-defined]


@signed_in
@require_http_methods(["GET", "POST"])
@sent_once
def preferences(request: HttpRequest) -> HttpResponse:
    user = cast(User, request.user)
    form = PreferencesForm(posted(request), initial={"time_zone": user.time_zone})
    if request.method == "POST" and form.is_valid():
        with refusals(form):
            actor = Actor(ActorKind.USER, str(user.pk), user.email, getattr(request, "client_ip", None))
            set_time_zone(user, name=form.cleaned_data["time_zone"], actor=actor)
            messages.success(request, "Your preferences are saved.")
            return redirect("preferences")
    page = {"form": form, "zone_now": zone_label()}
    return render(request, "accounts/preferences.html", page, status=422 if form.errors else 200)
