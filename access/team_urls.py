"""URLs of team domains (HostGuard chooses this urlconf): login, tokens, certificates, App Launcher."""

from __future__ import annotations

from django.urls import path

from access.views import (
    authenticators,
    callback,
    certs,
    cli,
    consent,
    host_files,
    identity,
    launcher,
    login,
    look,
    my_account,
    passkeys,
    provider_test,
    public,
    second_factor,
)
from access.views.cert_sign import cert_sign
from accounts.views.scim import scim

urlpatterns = [
    path("", launcher.launcher, name="public_launcher"),
    path("account", my_account.account, name="public_my_account"),
    path("cdn-cgi/access/login", login.login, name="public_login"),
    path("cdn-cgi/access/login/<path:host>", login.login, name="public_login_for"),
    path("cdn-cgi/access/start", login.start, name="public_start"),
    path("cdn-cgi/access/pin", login.request_pin, name="public_request_pin"),
    path("cdn-cgi/access/pin/<str:state>", login.enter_pin, name="public_pin"),
    path("cdn-cgi/access/callback", callback.callback, name="public_callback"),
    path("cdn-cgi/access/callback/<slug:slug>", callback.callback_of, name="public_callback_of"),
    path("cdn-cgi/access/saml-metadata/<uuid:provider_id>", callback.saml_metadata, name="saml_metadata"),
    path("cdn-cgi/access/test/<str:ticket>", provider_test.begin_test, name="public_provider_test"),
    path("cdn-cgi/access/purpose", consent.purpose, name="public_purpose"),
    path("cdn-cgi/access/resume", consent.resume, name="public_resume"),
    path("cdn-cgi/access/approval", consent.ask_approval, name="public_approval"),
    path("cdn-cgi/access/approvals/<uuid:request_id>", consent.answer, name="public_approval_answer"),
    path("cdn-cgi/access/second-factor", second_factor.second_factor, name="public_second_factor"),
    path("cdn-cgi/access/passkeys/options", passkeys.options, name="public_passkey_options"),
    path("cdn-cgi/access/passkeys/check", passkeys.check, name="public_passkey_check"),
    path("cdn-cgi/access/passkeys/add", passkeys.add, name="public_passkey_add"),
    path("cdn-cgi/access/passkeys.js", public.script, name="public_script"),
    path("cdn-cgi/access/account", authenticators.account, name="public_account"),
    path("cdn-cgi/access/account/app", authenticators.start_app, name="public_app_start"),
    path("cdn-cgi/access/account/app/<uuid:challenge_id>", authenticators.set_up_app, name="public_app"),
    path("cdn-cgi/access/account/recovery-codes", authenticators.recovery_codes, name="public_recovery_codes"),
    path(
        "cdn-cgi/access/account/<uuid:authenticator_id>/rename",
        authenticators.rename,
        name="public_rename",
    ),
    path(
        "cdn-cgi/access/account/<uuid:authenticator_id>/remove",
        authenticators.remove,
        name="public_remove",
    ),
    path("cdn-cgi/access/cli", cli.cli, name="public_cli"),
    path("cdn-cgi/access/certs", certs.certs, name="public_certs"),
    path("cdn-cgi/access/cert_sign", cert_sign, name="cert_sign"),
    path("cdn-cgi/access/scim/v2/<uuid:provider_id>", scim, name="scim_root"),
    path("cdn-cgi/access/scim/v2/<uuid:provider_id>/<path:path>", scim, name="scim"),
    path("cdn-cgi/access/ssh/<str:aud>/ca.pub", host_files.ca_pub, name="public_ca_file"),
    path("cdn-cgi/access/ssh/<str:aud>/host-setup.sh", host_files.host_setup, name="public_host_setup"),
    path("cdn-cgi/access/ssh/<str:aud>/revoked.krl", host_files.revoked_krl, name="public_revocation_list"),
    path("cdn-cgi/access/get-identity", identity.get_identity, name="public_identity"),
    path("cdn-cgi/access/logout", identity.logout, name="public_logout"),
    path("cdn-cgi/access/sessions/end", my_account.end_session, name="public_end_session"),
    path("cdn-cgi/access/sessions/end-all", my_account.end_all_sessions, name="public_end_all_sessions"),
    path("cdn-cgi/access/public.css", public.stylesheet, name="public_stylesheet"),
    path("cdn-cgi/access/team.css", look.team_stylesheet, name="public_team_stylesheet"),
    path("cdn-cgi/access/logo", look.logo, name="public_logo"),
    path("cdn-cgi/access/public.js", look.script, name="public_page_script"),
]
handler404 = public.not_found
