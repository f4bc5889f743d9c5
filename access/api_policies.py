"""/client/v4 …/access/policies (reusable, of the account) and …/access/apps/{id}/policies (of one application)."""

from __future__ import annotations

from ninja import Query

from access.actions.policies import create_policy, delete_policy, detach_policy, make_policy_reusable, update_policy
from access.api_shapes import PolicyBody, PolicyResult, override_reason, policy_values, shape_link, shape_policy
from access.models import Application, ApplicationPolicy, Policy
from accounts.api_base import ApiRequest, ApiRouter, Deleted, Page, Paging, find, page_of
from accounts.errors import InvalidInput, NotFound
from accounts.permissions import Permission
from accounts.tenancy import TenantQuerySet

router = ApiRouter(tags=["Policies"])
account_router = ApiRouter(tags=["Policies"])
MISSING_APPLICATION = "No such application."
_MISSING = "No such policy."


# --- Reusable policies of the account -------------------------------------------------------------------------
@account_router.route("GET", "/policies", Permission.ACCESS_READ, PolicyResult, paged=True)
def list_reusable_policies(request: ApiRequest, paging: Query[Paging]) -> Page:
    return page_of(_reusable(request).order_by("name", "id"), paging, _shape_reusable)


@account_router.route("POST", "/policies", Permission.ACCESS_EDIT, PolicyResult)
def create_reusable_policy(request: ApiRequest, body: PolicyBody) -> PolicyResult:
    policy = create_policy(request.organization, actor=request.actor, **policy_values(body))
    return shape_policy(policy, app_count=0)


@account_router.route("GET", "/policies/{policy_id}", Permission.ACCESS_READ, PolicyResult)
def get_reusable_policy(request: ApiRequest, policy_id: str) -> PolicyResult:
    return _shape_reusable(find(_reusable(request), policy_id, _MISSING))


@account_router.route("PUT", "/policies/{policy_id}", Permission.ACCESS_EDIT, PolicyResult)
def update_reusable_policy(request: ApiRequest, policy_id: str, body: PolicyBody) -> PolicyResult:
    """Takes effect in every application the policy is attached to."""
    policy = find(_reusable(request), policy_id, _MISSING)
    update_policy(policy, actor=request.actor, override_reason=override_reason(request), **policy_values(body))
    return _shape_reusable(find(_reusable(request), policy_id, _MISSING))


@account_router.route("DELETE", "/policies/{policy_id}", Permission.ACCESS_EDIT, Deleted)
def delete_reusable_policy(request: ApiRequest, policy_id: str) -> Deleted:
    """Refused while it is attached to an application."""
    policy = find(_reusable(request), policy_id, _MISSING)
    identifier = str(policy.pk)
    delete_policy(policy, actor=request.actor)
    return Deleted(id=identifier)


def _reusable(request: ApiRequest) -> TenantQuerySet[Policy]:
    return (
        Policy.objects.for_organization(request.organization)
        .filter(reusable=True)
        .prefetch_related("application_links")
    )


def _shape_reusable(policy: Policy) -> PolicyResult:
    return shape_policy(policy, app_count=len(policy.application_links.all()))


# --- Policies of one application ------------------------------------------------------------------------------
@router.route("GET", "/apps/{app_id}/policies", Permission.ACCESS_READ, PolicyResult, paged=True)
def list_application_policies(request: ApiRequest, app_id: str, paging: Query[Paging]) -> Page:
    return page_of(_links(own_application(request, app_id)), paging, shape_link)


@router.route("POST", "/apps/{app_id}/policies", Permission.ACCESS_EDIT, PolicyResult)
def create_application_policy(request: ApiRequest, app_id: str, body: PolicyBody) -> PolicyResult:
    """Without `precedence` the policy goes to the end."""
    application = own_application(request, app_id)
    policy = create_policy(
        request.organization,
        actor=request.actor,
        application=application,
        precedence=body.precedence,
        override_reason=override_reason(request),
        **policy_values(body),
    )
    return shape_link(_link(application, str(policy.pk)))


@router.route("GET", "/apps/{app_id}/policies/{policy_id}", Permission.ACCESS_READ, PolicyResult)
def get_application_policy(request: ApiRequest, app_id: str, policy_id: str) -> PolicyResult:
    return shape_link(_link(own_application(request, app_id), policy_id))


@router.route("PUT", "/apps/{app_id}/policies/{policy_id}", Permission.ACCESS_EDIT, PolicyResult)
def update_application_policy(request: ApiRequest, app_id: str, policy_id: str, body: PolicyBody) -> PolicyResult:
    application = own_application(request, app_id)
    link = _link(application, policy_id)
    if link.policy.reusable:
        raise InvalidInput("This policy is reusable: change it below /access/policies, for all its applications.")
    update_policy(
        link.policy,
        actor=request.actor,
        precedence=body.precedence,
        override_reason=override_reason(request),
        **policy_values(body),
    )
    return shape_link(_link(application, policy_id))


@router.route("PUT", "/apps/{app_id}/policies/{policy_id}/make_reusable", Permission.ACCESS_EDIT, PolicyResult)
def make_application_policy_reusable(request: ApiRequest, app_id: str, policy_id: str) -> PolicyResult:
    """Needs no body. The policy keeps its place here and can be attached to other applications."""
    link = _link(own_application(request, app_id), policy_id)
    make_policy_reusable(link.policy, actor=request.actor)
    return _shape_reusable(find(_reusable(request), policy_id, _MISSING))


@router.route("DELETE", "/apps/{app_id}/policies/{policy_id}", Permission.ACCESS_EDIT, Deleted)
def delete_application_policy(request: ApiRequest, app_id: str, policy_id: str) -> Deleted:
    """Deletes the application's own policy; a reusable one is only detached."""
    application = own_application(request, app_id)
    link = _link(application, policy_id)
    identifier = str(link.policy_id)
    if link.policy.reusable:
        detach_policy(application, link.policy, actor=request.actor, override_reason=override_reason(request))
    else:
        delete_policy(link.policy, actor=request.actor, override_reason=override_reason(request))
    return Deleted(id=identifier)


def own_application(request: ApiRequest, app_id: str) -> Application:
    return find(Application.objects.for_organization(request.organization), app_id, MISSING_APPLICATION)


def _links(application: Application) -> TenantQuerySet[ApplicationPolicy]:
    return application.policy_links.select_related("policy").order_by("precedence")  # type: ignore[return-value]


def _link(application: Application, policy_id: str) -> ApplicationPolicy:
    policy = find(Policy.objects.for_organization(application.organization), policy_id, _MISSING)
    link = _links(application).filter(policy=policy).first()
    if link is None:
        raise NotFound(_MISSING)
    return link
