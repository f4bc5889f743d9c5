"""Our URLs on application hosts (HostGuard chooses this urlconf); everything else there is the application's own."""

from __future__ import annotations

from django.urls import path

from access.views import authorized, certs, cli, identity, look, public

urlpatterns = [
    path("cdn-cgi/access/authorized", authorized.authorized, name="public_authorized"),
    path("cdn-cgi/access/cli", cli.cli_on_application_host, name="public_cli_start"),
    path("cdn-cgi/access/certs", certs.certs, name="public_certs"),
    path("cdn-cgi/access/get-identity", identity.get_identity_on_application_host, name="public_identity"),
    path("cdn-cgi/access/logout", identity.logout_on_application_host, name="public_logout"),
    path("cdn-cgi/access/metadata", authorized.metadata, name="public_metadata"),
    path("cdn-cgi/access/public.css", public.stylesheet, name="public_stylesheet"),
    path("cdn-cgi/access/team.css", look.team_stylesheet, name="public_team_stylesheet"),
    path("cdn-cgi/access/logo", look.logo, name="public_logo"),
]
handler404 = public.not_found
