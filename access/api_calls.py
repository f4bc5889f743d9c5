"""Buttons and questions of the Access pages as API requests ("Copy as API request")."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from access.api_saved_tests import SavedTestBody, shape_saved_test
from access.models import Application, ApplicationPolicy, Certificate, PrincipalClaim, SavedTest, Tag
from access.questions import Question
from accounts.api_base import rfc3339
from accounts.api_requests import ApiCall, Asked, register, register_build, register_call
from accounts.models import AuditEvent

_APP = "{account}/access/apps/{application_id}"
_TOKEN = "{account}/access/service_tokens/{token_id}"  # noqa: S105 - an address
_SHOWN_ONCE = "The answer holds the client secret, once."
_REASON = "Refused while saved tests fail; a header Sallyport-Override-Reason with a reason goes on."


def saved_test_request(test: SavedTest, is_new: bool) -> ApiCall:
    shaped = shape_saved_test(test).model_dump()
    usual = Question().as_json()
    asked = {name: value for name, value in shaped["question"].items() if name == "who" or value != usual[name]}
    body = {"name": test.name, "question": asked, "expected": test.expected}
    SavedTestBody.model_validate(body)
    base = f"/accounts/{test.organization_id}/access/apps/{test.application_id}/saved_tests"
    return ApiCall("POST", base, body) if is_new else ApiCall("PUT", f"{base}/{test.pk}", body)


def application_tags(application: Application, is_new: bool) -> ApiCall:
    names = sorted(application.tags.values_list("name", flat=True))
    path = f"/accounts/{application.organization_id}/access/apps/{application.pk}"
    return ApiCall("PATCH", path, {"tags": names}, ("Tags have to exist: POST them to access/tags first.",))


def _order(asked: Asked) -> Mapping[str, Any]:
    """All policies of the application, in the order the form gives them."""
    links = ApplicationPolicy.objects.filter(
        application_id=asked.arguments["application_id"], application__organization=asked.organization
    )
    return {"policies": [str(link.policy_id) for link in links.order_by("precedence")]}


def _renamed_tag(asked: Asked) -> ApiCall | None:
    """Addressed by the name it had."""
    tag = asked.target(Tag)
    event = AuditEvent.objects.for_organization(asked.organization).order_by("-id").first()
    if tag is None or event is None or not event.old:
        return None
    path = f"/accounts/{asked.organization.pk}/access/tags/{quote(event.old['name'])}"
    return ApiCall("PUT", path, {"name": tag.name})


def _deleted_tag(asked: Asked) -> ApiCall | None:
    tag = asked.target(Tag)
    path = f"/accounts/{asked.organization.pk}/access/tags/{quote(tag.name)}" if tag is not None else ""
    return ApiCall("DELETE", path, None) if tag is not None else None


def _rotation(asked: Asked) -> Mapping[str, Any] | None:
    seconds = asked.data.get("overlap_seconds", "")
    if not seconds.isdigit() or not int(seconds):
        return None
    # The last written row says until when.
    token = asked.targets[-1]
    token.refresh_from_db()
    return {"previous_client_secret_expires_at": rfc3339(getattr(token, "previous_secret_expires_at", None))}


def _denied(asked: Asked) -> ApiCall | None:
    """A token is nobody whom a policy names, so it denies and never approves."""
    if asked.data.get("decision") == "approve":
        return None
    path = f"/accounts/{asked.organization.pk}/access/approvals/{asked.arguments['approval_id']}/deny"
    return ApiCall("POST", path, None)


def _released(asked: Asked) -> ApiCall | None:
    claim = asked.target(PrincipalClaim)
    if claim is None:
        return None
    app = f"/accounts/{asked.organization.pk}/access/apps/{claim.application_id}"
    return ApiCall("DELETE", f"{app}/ca/principals/{asked.arguments['claim_id']}", None)


def _revoked(asked: Asked) -> ApiCall | None:
    certificate = asked.target(Certificate)
    if certificate is None:
        return None
    return ApiCall("POST", f"/accounts/{asked.organization.pk}/access/ssh_certificates/{certificate.pk}/revoke", None)


def register_calls() -> None:
    _register_applications()
    register_call("group_delete", "DELETE", "{account}/access/groups/{group_id}")
    register_call("policy_delete", "DELETE", "{account}/access/policies/{policy_id}")
    register_call("list_delete", "DELETE", "{account}/gateway/lists/{list_id}")
    register_call("custom_page_delete", "DELETE", "{account}/access/custom_pages/{page_id}")
    register_build("tag_edit", _renamed_tag)
    register_build("tag_delete", _deleted_tag)
    root = "{account}/access/certificates/{root_id}"
    register_call("client_authority_delete", "DELETE", root)
    register_call(
        "client_authority_revocations",
        "PUT",
        f"{root}/revocation_lists",
        body=lambda asked: {"crl": asked.data.get("lists", "")},
    )
    register_call("service_token_refresh", "POST", f"{_TOKEN}/refresh")
    register_call("service_token_rotate", "POST", f"{_TOKEN}/rotate", body=_rotation, notes=(_SHOWN_ONCE,))
    register_call("service_token_disable", "PUT", _TOKEN, body=lambda asked: {"enabled": False})
    register_call("service_token_enable", "PUT", _TOKEN, body=lambda asked: {"enabled": True})
    register_call("service_token_delete", "DELETE", _TOKEN)
    register_build("approval_answer", _denied)
    register_call("approval_end", "POST", "{account}/access/approvals/{approval_id}/end")
    register_call("ssh_authority_rotate", "POST", f"{_APP}/ca/rotate")
    register_call("ssh_authority_activate", "POST", f"{_APP}/ca/activate")
    register_call("ssh_authority_delete", "DELETE", f"{_APP}/ca")
    register_build("ssh_principal_release", _released)
    register_build("certificate_revoke", _revoked)


def _register_applications() -> None:
    for name in ("application_policies_order", "application_policy_move", "application_policy_attach"):
        register_call(name, "PATCH", _APP, body=_order, notes=(_REASON,))
    policy = f"{_APP}/policies/{{policy_id}}"
    register_call("application_policy_make_reusable", "PUT", f"{policy}/make_reusable")
    register_call("application_policy_delete", "DELETE", policy)
    register_call("application_revoke_tokens", "POST", f"{_APP}/revoke_tokens")
    register_call("application_delete", "DELETE", _APP)
    register("application_tags_edit", Application, application_tags, is_new=False)
    register("application_test_add", SavedTest, saved_test_request, is_new=True)
    register("application_test_edit", SavedTest, saved_test_request, is_new=False)
    register_call("application_test_delete", "DELETE", f"{_APP}/saved_tests/{{test_id}}")
