"""Pages below /o/<team>/: My Team, Settings, audit log."""

from __future__ import annotations

from django.urls import path

from accounts.views import (
    api_tokens,
    audit_log,
    authenticators,
    deleted,
    invitations,
    login_methods,
    login_page,
    members,
    organization,
    scim_settings,
    support_access,
    users,
)

urlpatterns = [
    path("team/users/", users.users, name="users"),
    path("team/users/<uuid:identity_id>/", users.user_detail, name="user_detail"),
    path("team/users/<uuid:identity_id>/disable/", users.user_disable, name="user_disable"),
    path("team/users/<uuid:identity_id>/enable/", users.user_enable, name="user_enable"),
    path("team/users/<uuid:identity_id>/revoke-sessions/", users.user_revoke_sessions, name="user_revoke_sessions"),
    path(
        "team/users/<uuid:identity_id>/reset-authenticators/",
        authenticators.user_reset_authenticators,
        name="user_reset_authenticators",
    ),
    path("team/sessions/<uuid:session_id>/revoke/", users.session_revoke, name="session_revoke"),
    path("team/members/", members.members, name="members"),
    path("team/members/invite/", invitations.member_invite, name="member_invite"),
    path(
        "team/members/invitations/<uuid:invitation_id>/resend/", invitations.invitation_resend, name="invitation_resend"
    ),
    path(
        "team/members/invitations/<uuid:invitation_id>/withdraw/",
        invitations.invitation_withdraw,
        name="invitation_withdraw",
    ),
    path("team/members/<int:membership_id>/change-role/", members.member_change_role, name="member_change_role"),
    path("team/members/<int:membership_id>/remove/", members.member_remove, name="member_remove"),
    path("settings/organization/", organization.organization_settings, name="organization_settings"),
    path("settings/organization/edit/", organization.organization_settings_edit, name="organization_settings_edit"),
    path("settings/login-page/", login_page.login_page, name="login_page"),
    path("settings/login-page/edit/", login_page.login_page_edit, name="login_page_edit"),
    path("settings/login-page/preview/", login_page.login_page_preview, name="login_page_preview"),
    path("settings/login-page/preview.css", login_page.login_page_style, name="login_page_style"),
    path("settings/login-page/logo/", login_page.login_page_logo, name="login_page_logo"),
    path("settings/login-page/logo/remove/", login_page.login_page_remove_logo, name="login_page_remove_logo"),
    path(
        "settings/organization/second-factors/",
        organization.organization_settings_mfa_edit,
        name="organization_settings_mfa_edit",
    ),
    path(
        "settings/organization/support/consent/",
        support_access.support_consent,
        name="organization_settings_support_consent",
    ),
    path(
        "settings/organization/support/<uuid:support_session_id>/allow/",
        support_access.support_allow,
        name="organization_settings_support_allow",
    ),
    path(
        "settings/organization/support/<uuid:support_session_id>/end/",
        support_access.support_end,
        name="organization_settings_support_end",
    ),
    path("settings/login-methods/", login_methods.login_methods, name="login_methods"),
    path("settings/login-methods/add/", login_methods.login_method_add, name="login_method_add"),
    path("settings/login-methods/add/<slug:kind>/", login_methods.login_method_create, name="login_method_create"),
    path("settings/login-methods/<uuid:provider_id>/scim/", scim_settings.login_method_scim, name="login_method_scim"),
    path(
        "settings/login-methods/<uuid:provider_id>/scim/secret/",
        scim_settings.login_method_scim_secret,
        name="login_method_scim_secret",
    ),
    path("settings/login-methods/<uuid:provider_id>/edit/", login_methods.login_method_edit, name="login_method_edit"),
    path(
        "settings/login-methods/<uuid:provider_id>/delete/",
        login_methods.login_method_delete,
        name="login_method_delete",
    ),
    path("settings/login-methods/<uuid:provider_id>/test/", login_methods.login_method_test, name="login_method_test"),
    path(
        "settings/login-methods/<uuid:provider_id>/tests/<uuid:provider_test_id>/",
        login_methods.login_method_test_result,
        name="login_method_test_result",
    ),
    path("settings/api-tokens/", api_tokens.api_tokens, name="api_tokens"),
    path("settings/api-tokens/create/", api_tokens.api_token_create, name="api_token_create"),
    path("settings/api-tokens/<slug:token_id>/revoke/", api_tokens.api_token_revoke, name="api_token_revoke"),
    path("settings/deleted/", deleted.deleted, name="deleted"),
    path("settings/deleted/<uuid:deleted_id>/restore/", deleted.deleted_restore, name="deleted_restore"),
    path("logs/<slug:log>/views/save/", audit_log.log_view_save, name="log_view_save"),
    path("logs/views/<uuid:view_id>/delete/", audit_log.log_view_delete, name="log_view_delete"),
    path("logs/audit/", audit_log.audit_log, name="audit_log"),
    path("logs/audit/<int:event_id>/", audit_log.audit_log_event, name="audit_log_event"),
]
