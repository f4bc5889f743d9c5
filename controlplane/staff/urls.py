"""Pages below /staff/."""

from __future__ import annotations

from django.contrib import admin
from django.urls import path

from controlplane.staff import views

_ORGANIZATION = "organizations/<slug:organization_id>"

urlpatterns = [
    path("", views.home, name="staff_home"),
    path(f"{_ORGANIZATION}/", views.organization, name="staff_organization"),
    path(f"{_ORGANIZATION}/tools/", views.tools, name="staff_tools"),
    path(f"{_ORGANIZATION}/tools/<slug:subject>/<slug:operation>/<slug:key>/", views.tool, name="staff_tool"),
    path("sessions/<uuid:session_id>/extend/", views.session_extend, name="staff_session_extend"),
    path("sessions/<uuid:session_id>/end/", views.session_end, name="staff_session_end"),
    path("jobs/", views.job_health, name="staff_jobs"),
    path("jobs/<uuid:failure_id>/requeue/", views.job_requeue, name="staff_job_requeue"),
    # The dashboard's own page counts wrong tries and mails what was changed.
    path("data/password_change/", views.password_change, name="staff_password_change"),
    path("data/", admin.site.urls),
]
