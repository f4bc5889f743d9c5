"""Pages below /o/<team>/access/."""

from __future__ import annotations

from django.urls import path

from access.views import (
    application_copies,
    application_list,
    application_policies,
    applications,
    client_authorities,
    groups,
    lists,
    logs,
    policies,
    saved_tests,
    simulator,
    tags,
)
from access.views import application_wizard as wizard
from access.views import service_tokens as tokens
from access.views import ssh_authorities as ssh

_APP = "applications/<uuid:application_id>"
_DRAFT = "applications/drafts/<uuid:draft_id>"

urlpatterns = [
    path("applications/", application_list.applications, name="applications"),
    path("applications/add/", wizard.application_add, name="application_add"),
    path("applications/check/", wizard.application_check, name="application_check"),
    path("applications/drafts/", wizard.application_drafts, name="application_drafts"),
    path(f"{_DRAFT}/", wizard.application_draft, name="application_draft"),
    path(f"{_DRAFT}/policies/", wizard.application_draft_policies, name="application_draft_policies"),
    path(f"{_DRAFT}/attach/", wizard.application_draft_attach, name="application_draft_attach"),
    path(f"{_DRAFT}/arrange/", wizard.application_draft_arrange, name="application_draft_arrange"),
    path(f"{_DRAFT}/setup/", wizard.application_draft_setup, name="application_draft_setup"),
    path(f"{_DRAFT}/discard/", wizard.application_draft_discard, name="application_draft_discard"),
    path(f"{_APP}/", applications.application_detail, name="application_detail"),
    path(f"{_APP}/revoke-tokens/", applications.application_revoke_tokens, name="application_revoke_tokens"),
    path(f"{_APP}/ssh/", applications.application_ssh, name="application_ssh"),
    path(f"{_APP}/ssh/edit/", applications.application_ssh_edit, name="application_ssh_edit"),
    path(f"{_APP}/settings/", applications.application_settings, name="application_settings"),
    path(f"{_APP}/settings/edit/", applications.application_settings_edit, name="application_settings_edit"),
    path(f"{_APP}/authentication/", applications.application_authentication, name="application_authentication"),
    path(
        f"{_APP}/authentication/edit/",
        applications.application_authentication_edit,
        name="application_authentication_edit",
    ),
    path(f"{_APP}/tags/", applications.application_tags_edit, name="application_tags_edit"),
    path(f"{_APP}/duplicate/", application_copies.application_duplicate, name="application_duplicate"),
    path(f"{_APP}/delete/", application_copies.application_delete, name="application_delete"),
    path(f"{_APP}/policies/", application_policies.application_policies, name="application_policies"),
    path(f"{_APP}/policies/order/", application_policies.application_policies_order, name="application_policies_order"),
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
        f"{_APP}/policies/<uuid:policy_id>/make-reusable/",
        application_policies.application_policy_make_reusable,
        name="application_policy_make_reusable",
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
    path("tags/", tags.tags, name="tags"),
    path("tags/add/", tags.tag_add, name="tag_add"),
    path("tags/<uuid:tag_id>/edit/", tags.tag_edit, name="tag_edit"),
    path("tags/<uuid:tag_id>/delete/", tags.tag_delete, name="tag_delete"),
    path("policies/", policies.policies, name="policies"),
    path("policies/add/", policies.policy_add, name="policy_add"),
    path("policies/<uuid:policy_id>/edit/", policies.policy_edit, name="policy_edit"),
    path("policies/<uuid:policy_id>/delete/", policies.policy_delete, name="policy_delete"),
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
