"""Pages below /o/<team>/access/."""

from __future__ import annotations

from django.urls import path

from access.views import (
    application_policies,
    application_wizard,
    applications,
    approvals,
    client_authorities,
    groups,
    lists,
    logs,
    policies,
    saved_tests,
    simulator,
)
from access.views import service_tokens as tokens
from access.views import ssh_authorities as ssh

_APP = "applications/<uuid:application_id>"

urlpatterns = [
    path("applications/", applications.applications, name="applications"),
    path("applications/add/", application_wizard.application_add, name="application_add"),
    path("applications/add/policies/", application_wizard.application_add_policies, name="application_add_policies"),
    path("applications/add/attach/", application_wizard.application_add_attach, name="application_add_attach"),
    path("applications/add/drop/", application_wizard.application_add_drop, name="application_add_drop"),
    path("applications/add/setup/", application_wizard.application_add_setup, name="application_add_setup"),
    path("applications/add/cancel/", application_wizard.application_add_cancel, name="application_add_cancel"),
    path(f"{_APP}/", applications.application_detail, name="application_detail"),
    path(f"{_APP}/revoke-tokens/", applications.application_revoke_tokens, name="application_revoke_tokens"),
    path(f"{_APP}/ssh/", applications.application_ssh, name="application_ssh"),
    path(f"{_APP}/ssh/edit/", applications.application_ssh_edit, name="application_ssh_edit"),
    path(f"{_APP}/settings/", applications.application_settings, name="application_settings"),
    path(f"{_APP}/settings/edit/", applications.application_settings_edit, name="application_settings_edit"),
    path(f"{_APP}/delete/", applications.application_delete, name="application_delete"),
    path(f"{_APP}/policies/", application_policies.application_policies, name="application_policies"),
    path(f"{_APP}/policies/add/", application_policies.application_policy_add, name="application_policy_add"),
    path(f"{_APP}/policies/attach/", application_policies.application_policy_attach, name="application_policy_attach"),
    path(
        f"{_APP}/policies/<uuid:policy_id>/edit/",
        application_policies.application_policy_edit,
        name="application_policy_edit",
    ),
    path(
        f"{_APP}/policies/<uuid:policy_id>/move/",
        application_policies.application_policy_move,
        name="application_policy_move",
    ),
    path(
        f"{_APP}/policies/<uuid:policy_id>/delete/",
        application_policies.application_policy_delete,
        name="application_policy_delete",
    ),
    path(f"{_APP}/simulator/", simulator.application_simulator, name="application_simulator"),
    path(f"{_APP}/simulate/", simulator.application_simulate, name="application_simulate"),
    path(f"{_APP}/tests/", saved_tests.application_tests, name="application_tests"),
    path(f"{_APP}/tests/add/", saved_tests.application_test_add, name="application_test_add"),
    path(f"{_APP}/tests/<uuid:test_id>/edit/", saved_tests.application_test_edit, name="application_test_edit"),
    path(f"{_APP}/tests/<uuid:test_id>/delete/", saved_tests.application_test_delete, name="application_test_delete"),
    path("simulator/", simulator.simulator, name="simulator"),
    path("simulations/<uuid:simulation_id>/", simulator.simulation, name="simulation"),
    path("groups/", groups.groups, name="groups"),
    path("groups/add/", groups.group_add, name="group_add"),
    path("groups/<uuid:group_id>/edit/", groups.group_edit, name="group_edit"),
    path("groups/<uuid:group_id>/delete/", groups.group_delete, name="group_delete"),
    path("lists/", lists.lists, name="lists"),
    path("lists/add/", lists.list_add, name="list_add"),
    path("lists/<uuid:list_id>/edit/", lists.list_edit, name="list_edit"),
    path("lists/<uuid:list_id>/delete/", lists.list_delete, name="list_delete"),
    path("policies/", policies.policies, name="policies"),
    path("policies/add/", policies.policy_add, name="policy_add"),
    path("policies/<uuid:policy_id>/edit/", policies.policy_edit, name="policy_edit"),
    path("policies/<uuid:policy_id>/delete/", policies.policy_delete, name="policy_delete"),
    path("approvals/", approvals.approvals, name="approvals"),
    path("approvals/<uuid:approval_id>/answer/", approvals.approval_answer, name="approval_answer"),
    path("approvals/<uuid:approval_id>/end/", approvals.approval_end, name="approval_end"),
    path("service-auth/", tokens.service_tokens, name="service_tokens"),
    path("service-auth/create/", tokens.service_token_create, name="service_token_create"),
    path("service-auth/<uuid:token_id>/edit/", tokens.service_token_edit, name="service_token_edit"),
    path("service-auth/<uuid:token_id>/refresh/", tokens.service_token_refresh, name="service_token_refresh"),
    path("service-auth/<uuid:token_id>/rotate/", tokens.service_token_rotate, name="service_token_rotate"),
    path("service-auth/<uuid:token_id>/disable/", tokens.service_token_disable, name="service_token_disable"),
    path("service-auth/<uuid:token_id>/enable/", tokens.service_token_enable, name="service_token_enable"),
    path("service-auth/<uuid:token_id>/delete/", tokens.service_token_delete, name="service_token_delete"),
    path("service-auth/mtls/", client_authorities.client_authorities, name="client_authorities"),
    path("service-auth/mtls/add/", client_authorities.client_authority_add, name="client_authority_add"),
    path(
        "service-auth/mtls/<uuid:root_id>/edit/", client_authorities.client_authority_edit, name="client_authority_edit"
    ),
    path(
        "service-auth/mtls/<uuid:root_id>/delete/",
        client_authorities.client_authority_delete,
        name="client_authority_delete",
    ),
    path("service-auth/ssh/", ssh.ssh_authorities, name="ssh_authorities"),
    path("service-auth/ssh/generate/", ssh.ssh_authority_generate, name="ssh_authority_generate"),
    path("service-auth/ssh/<uuid:application_id>/", ssh.ssh_authority_detail, name="ssh_authority_detail"),
    path("service-auth/ssh/<uuid:application_id>/ca.pub", ssh.ssh_authority_file, name="ssh_authority_file"),
    path("service-auth/ssh/<uuid:application_id>/rotate/", ssh.ssh_authority_rotate, name="ssh_authority_rotate"),
    path("service-auth/ssh/<uuid:application_id>/activate/", ssh.ssh_authority_activate, name="ssh_authority_activate"),
    path("service-auth/ssh/<uuid:application_id>/delete/", ssh.ssh_authority_delete, name="ssh_authority_delete"),
    path(
        "service-auth/ssh/principals/<int:claim_id>/release/", ssh.ssh_principal_release, name="ssh_principal_release"
    ),
    path("log/", logs.access_log, name="access_log"),
    path("log/<uuid:request_id>/", logs.access_log_entry, name="access_log_entry"),
    path("certificates/", logs.certificates, name="certificates"),
    path("certificates/<uuid:certificate_id>/", logs.certificate_detail, name="certificate_detail"),
    path("certificates/<uuid:certificate_id>/revoke/", logs.certificate_revoke, name="certificate_revoke"),
    path("keys/", logs.token_keys, name="token_keys"),
]
