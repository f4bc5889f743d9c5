"""URLs of dashboard hosts. Team domains: access.team_urls; application hosts: access.app_urls (HostGuard chooses)."""

from __future__ import annotations

from django.urls import include, path

from accounts.views import invitations, preferences
from controlplane import search_views, views
from controlplane.api import api

urlpatterns = [
    path("", views.home, name="home"),
    path("healthz", views.healthz, name="healthz"),
    path("accounts/", include("allauth.urls")),
    path("account/preferences/", preferences.preferences, name="preferences"),
    path("invitations/<str:token>/", invitations.invitation, name="invitation"),
    path("staff/", include("controlplane.staff.urls")),
    path("client/v4/", api.urls),
    path("agent/v1/", include("tunnels.agent_urls")),
    path("o/<slug:team>/search/", search_views.search_everything, name="search"),
    path("o/<slug:team>/", include("accounts.urls")),
    path("o/<slug:team>/access/", include("access.urls")),
    path("o/<slug:team>/", include("tunnels.urls")),
]
