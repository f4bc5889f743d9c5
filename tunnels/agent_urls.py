from __future__ import annotations

from django.urls import path

from tunnels import agent_api

urlpatterns = [
    path("snapshot", agent_api.snapshot, name="agent_snapshot"),
    path("authorize", agent_api.authorize, name="agent_authorize"),
    path("recheck", agent_api.recheck, name="agent_recheck"),
    path("report", agent_api.report, name="agent_report"),
    path("transfers/<str:public_key>", agent_api.transfer, name="agent_transfer"),
]
