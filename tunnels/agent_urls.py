from __future__ import annotations

from django.urls import path

from tunnels import agent_api

urlpatterns = [
    path("snapshot", agent_api.snapshot, name="agent_snapshot"),
    path("report", agent_api.report, name="agent_report"),
    path("transfers/<str:public_key>", agent_api.transfer, name="agent_transfer"),
]
