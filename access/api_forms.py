"""Forms of the Access pages as API requests ("Copy as API request"), made by the shapes the API answers with."""

from __future__ import annotations

from typing import Any

from access.api_application_shapes import ApplicationBody, shape_application
from access.api_certificates import CertificateBody, CertificateChanges, shape_client_authority
from access.api_custom_pages import CustomPageBody
from access.api_lists import ListBody, ListReplacement, shape_full_list
from access.api_shapes import (
    GroupBody,
    PolicyBody,
    ServiceTokenBody,
    ServiceTokenChanges,
    shape_group,
    shape_policy,
    shape_service_token,
)
from access.api_tags import TagBody
from access.models import (
    AccessList,
    Application,
    ApplicationPolicy,
    ClientAuthority,
    CustomPage,
    Group,
    Policy,
    ServiceToken,
    SshAuthority,
    Tag,
)
from accounts import api_requests
from accounts.api_requests import ApiCall, body_of

_ALWAYS_ED25519 = "The API makes Ed25519 keys; another algorithm is chosen here only."
_SHOWN_ONCE = "The answer holds the client secret, once."


def application_request(application: Application, is_new: bool) -> ApiCall:
    """A new one with its policies; a changed one without them: PUT leaves them alone."""
    application = Application.objects.for_organization(application.organization).get(pk=application.pk)
    shaped = shape_application(application)
    keep = ("domain", "session_duration", "app_launcher_visible", "ssh_profile")
    values: dict[str, Any] = {"policies": _policies(application) if is_new else None}
    body = body_of(shaped, ApplicationBody, keep=keep, **values)
    base = f"/accounts/{application.organization_id}/access/apps"
    return ApiCall("POST", base, body) if is_new else ApiCall("PUT", f"{base}/{application.pk}", body)


def policy_request(policy: Policy, is_new: bool) -> ApiCall:
    link = ApplicationPolicy.objects.filter(policy=policy).first() if not policy.reusable else None
    base = f"/accounts/{policy.organization_id}/access"
    if link is not None:
        base = f"{base}/apps/{link.application_id}"
    # A new policy goes last by itself, wherever that is by then.
    precedence = link.precedence if link is not None and not is_new else None
    body = _policy(policy, precedence)
    path = f"{base}/policies"
    return ApiCall("POST", path, body) if is_new else ApiCall("PUT", f"{path}/{policy.pk}", body)


def group_request(group: Group, is_new: bool) -> ApiCall:
    body = body_of(shape_group(group), GroupBody)
    base = f"/accounts/{group.organization_id}/access/groups"
    return ApiCall("POST", base, body) if is_new else ApiCall("PUT", f"{base}/{group.pk}", body)


def list_request(row: AccessList, is_new: bool) -> ApiCall:
    shaped = shape_full_list(row)
    base = f"/accounts/{row.organization_id}/gateway/lists"
    items = [
        {"value": item.value, **({"description": item.description} if item.description else {})}
        for item in shaped.items
    ]
    if is_new:
        return ApiCall("POST", base, body_of(shaped, ListBody, keep=("items",), items=items))
    return ApiCall("PUT", f"{base}/{row.pk}", body_of(shaped, ListReplacement, keep=("items",), items=items))


def service_token_request(token: ServiceToken, is_new: bool) -> ApiCall:
    shaped = shape_service_token(token)
    base = f"/accounts/{token.organization_id}/access/service_tokens"
    if is_new:
        body = body_of(shaped, ServiceTokenBody, keep=("duration",), client_secret_version=None)
        return ApiCall("POST", base, body, (_SHOWN_ONCE,))
    kept: dict[str, Any] = {"client_secret_version": None, "previous_client_secret_expires_at": None}
    return ApiCall("PUT", f"{base}/{token.pk}", body_of(shaped, ServiceTokenChanges, **kept))


def client_authority_request(root: ClientAuthority, is_new: bool) -> ApiCall:
    shaped = shape_client_authority(root)
    base = f"/accounts/{root.organization_id}/access/certificates"
    if is_new:
        return ApiCall("POST", base, body_of(shaped, CertificateBody, certificate=root.certificate))
    return ApiCall("PUT", f"{base}/{root.pk}", body_of(shaped, CertificateChanges, keep=("associated_hostnames",)))


def tag_request(tag: Tag, is_new: bool) -> ApiCall:
    return ApiCall("POST", f"/accounts/{tag.organization_id}/access/tags", TagBody(name=tag.name).model_dump())


def custom_page_request(page: CustomPage, is_new: bool) -> ApiCall:
    values = {name: getattr(page, name) for name in CustomPageBody.model_fields}
    body = CustomPageBody(**values).model_dump(exclude_none=True)
    base = f"/accounts/{page.organization_id}/access/custom_pages"
    return ApiCall("POST", base, body) if is_new else ApiCall("PUT", f"{base}/{page.pk}", body)


def ssh_authority_request(authority: SshAuthority, is_new: bool) -> ApiCall:
    path = f"/accounts/{authority.organization_id}/access/apps/{authority.application_id}/ca"
    is_usual = authority.algorithm == SshAuthority.Algorithm.ED25519
    return ApiCall("POST", path, {}, () if is_usual else (_ALWAYS_ED25519,))


def _policies(application: Application) -> list[dict[str, Any]]:
    """Reusable ones by id, own ones whole."""
    found = []
    for link in application.policy_links.select_related("policy").order_by("precedence"):
        named = {"id": str(link.policy_id), "precedence": link.precedence}
        found.append(named if link.policy.reusable else _policy(link.policy, link.precedence))
    return found


def _policy(policy: Policy, precedence: int | None) -> dict[str, Any]:
    shaped = shape_policy(policy, precedence=precedence)
    body: dict[str, Any] = _dense(
        body_of(shaped, PolicyBody, require=policy.require or None, exclude=policy.exclude or None)
    )
    return body


def _dense(value: Any) -> Any:
    """Without nulls inside: approvals and connection rules have many fields that are mostly absent."""
    if isinstance(value, dict):
        return {name: _dense(item) for name, item in value.items() if item is not None}
    return [_dense(item) for item in value] if isinstance(value, list) else value


def register() -> None:
    for name, is_new in (
        ("application_draft_setup", True),
        ("application_duplicate", True),
        ("application_settings_edit", False),
        ("application_authentication_edit", False),
        ("application_ssh_edit", False),
        ("application_denial_edit", False),
    ):
        api_requests.register(name, Application, application_request, is_new=is_new)
    for name, is_new in (
        ("policy_add", True),
        ("policy_edit", False),
        ("application_policy_add", True),
        ("application_policy_edit", False),
    ):
        api_requests.register(name, Policy, policy_request, is_new=is_new)
    api_requests.register("group_add", Group, group_request, is_new=True)
    api_requests.register("group_edit", Group, group_request, is_new=False)
    api_requests.register("list_add", AccessList, list_request, is_new=True)
    api_requests.register("list_edit", AccessList, list_request, is_new=False)
    api_requests.register("service_token_create", ServiceToken, service_token_request, is_new=True)
    api_requests.register("service_token_edit", ServiceToken, service_token_request, is_new=False)
    api_requests.register("client_authority_add", ClientAuthority, client_authority_request, is_new=True)
    api_requests.register("client_authority_edit", ClientAuthority, client_authority_request, is_new=False)
    api_requests.register("tag_add", Tag, tag_request, is_new=True)
    api_requests.register("custom_page_add", CustomPage, custom_page_request, is_new=True)
    api_requests.register("custom_page_edit", CustomPage, custom_page_request, is_new=False)
    api_requests.register("ssh_authority_generate", SshAuthority, ssh_authority_request, is_new=True)
