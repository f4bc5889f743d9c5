"""/client/v4 …/access/policy-tests and …/apps/{id}/user_policy_checks: who would get in (product.md 1.11)."""

from __future__ import annotations

from typing import Any, Literal

from django.utils import timezone
from ninja import Query, Schema

from access.actions.policies import checked_decision
from access.actions.simulations import start_policy_test
from access.api_policies import own_application
from access.api_shapes import PolicyBody, policy_values
from access.decisions import load_rules
from access.evaluation import Decision, Outcome
from access.models import Application, Policy, Simulation, SimulationResult
from access.policy_terms import checked_terms
from access.questions import IDENTITY, Question, answer, ask, check
from access.rules import check_rules
from accounts.api_base import ApiRequest, ApiRouter, Page, Paging, find, page_of
from accounts.api_users import identity_document
from accounts.models import AccessSession, Identity
from accounts.permissions import Permission

router = ApiRouter(tags=["Policy tests"])
account_router = ApiRouter(tags=["Policy tests"])
_MISSING = "No such policy test."
_STATUSES = {"success": "approved", "fail": "blocked", "error": "error"}


class PolicyTestBody(Schema):
    """Ids of the organization's policies, or policies as they would be created."""

    policies: list[PolicyBody | str] = []


class PolicyTestStarted(Schema):
    id: str
    status: Literal["success"] = "success"


class PolicyTestResult(Schema):
    id: str
    status: str
    percent_approved: int
    percent_blocked: int
    percent_errored: int
    percent_users_processed: int
    total_users: int
    users_approved: int
    users_blocked: int
    users_errored: int


class PolicyTestUser(Schema):
    id: str | None
    email: str
    name: str
    # approved, blocked or error
    status: str


class UserFilters(Schema):
    status: Literal["success", "fail", "error"] | None = None


class CheckedUser(Schema):
    """Ours: the public operation has no way to name the person."""

    email: str | None = None
    user_id: str | None = None


class ApplicationState(Schema):
    app_uid: str
    aud: str
    hostname: str
    name: str
    policies: list[dict[str, Any]]
    # approved, blocked or error; null when no person was named.
    status: str | None


class UserPolicyCheckResult(Schema):
    app_state: ApplicationState
    user_identity: dict[str, Any] | None


@account_router.route("POST", "/policy-tests", Permission.ACCESS_EDIT, PolicyTestStarted)
def start_access_policy_test(request: ApiRequest, body: PolicyTestBody) -> PolicyTestStarted:
    """Tries policies, in the order given, on everybody who has logged in before. Poll the test for its progress."""
    policies = [_policy(request, item) for item in body.policies]
    simulation = start_policy_test(request.organization, actor=request.actor, policies=policies)
    return PolicyTestStarted(id=str(simulation.pk))


@account_router.route("GET", "/policy-tests/{policy_test_id}", Permission.ACCESS_READ, PolicyTestResult)
def get_policy_test(request: ApiRequest, policy_test_id: str) -> PolicyTestResult:
    row = _own(request, policy_test_id)
    return PolicyTestResult(
        id=str(row.pk),
        status=row.status,
        percent_approved=_percent(row.approved, row.processed),
        percent_blocked=_percent(row.blocked, row.processed),
        percent_errored=_percent(row.errored, row.processed),
        percent_users_processed=_percent(row.processed, row.total) if row.total else 100,
        total_users=row.total,
        users_approved=row.approved,
        users_blocked=row.blocked,
        users_errored=row.errored,
    )


@account_router.route(
    "GET", "/policy-tests/{policy_test_id}/users", Permission.IDENTITY_READ, PolicyTestUser, paged=True
)
def list_policy_test_users(
    request: ApiRequest, policy_test_id: str, paging: Query[Paging], filters: Query[UserFilters]
) -> Page:
    rows = SimulationResult.objects.filter(simulation=_own(request, policy_test_id)).select_related("identity")
    if filters.status is not None:
        rows = rows.filter(status=_STATUSES[filters.status])
    return page_of(rows.order_by("id"), paging, _shape_user)


@router.route("GET", "/apps/{app_id}/user_policy_checks", Permission.ACCESS_READ, UserPolicyCheckResult)
def list_user_policy_checks(request: ApiRequest, app_id: str, person: Query[CheckedUser]) -> UserPolicyCheckResult:
    """Whether a person (`email` or `user_id`) passes the application's saved policies, from the address of their
    last login. Without a person the application alone."""
    application = own_application(request, app_id)
    key = person.user_id or person.email
    if not key:
        return UserPolicyCheckResult(app_state=_state(application, None), user_identity=None)
    question = check(request.organization, Question(who=IDENTITY, identity=key))
    asked = ask(request.organization, question)
    decision = answer(*load_rules(application), asked, now=timezone.now(), organization=request.organization)
    document = _identity_document(asked.identity) if asked.identity is not None else None
    return UserPolicyCheckResult(app_state=_state(application, decision), user_identity=document)


def _policy(request: ApiRequest, item: PolicyBody | str) -> Policy:
    """The stored policy, or one that is only tested: checked as if it were saved."""
    if isinstance(item, str):
        return find(Policy.objects.for_organization(request.organization), item, "No such policy.")
    values = policy_values(item)
    values["decision"] = checked_decision(values["decision"])
    lists = check_rules(
        request.organization, values["include"], values["require"], values["exclude"], decision=values["decision"]
    )
    values["include"], values["require"], values["exclude"] = lists
    terms = checked_terms(request.organization, values["decision"], values.pop("terms"))
    return Policy(organization=request.organization, **values, **terms)


def _own(request: ApiRequest, policy_test_id: str) -> Simulation:
    return find(Simulation.objects.for_organization(request.organization), policy_test_id, _MISSING)


def _percent(part: int, whole: int) -> int:
    return round(100 * part / whole) if whole else 0


def _shape_user(row: SimulationResult) -> PolicyTestUser:
    identity = row.identity
    return PolicyTestUser(
        id=str(identity.pk) if identity else None,
        email=identity.email if identity else row.who,
        name=identity.name if identity else "",
        status=row.status,
    )


def _state(application: Application, decision: Decision | None) -> ApplicationState:
    links = application.policy_links.select_related("policy").order_by("precedence")
    heads = [entry for entry in decision.trace if "selector" not in entry] if decision is not None else []
    asked = {entry.get("policy_id"): entry["verdict"] for entry in heads}
    return ApplicationState(
        app_uid=str(application.pk),
        aud=application.aud,
        hostname=application.hostname,
        name=application.name,
        policies=[
            {
                "id": str(link.policy_id),
                "name": link.policy.name,
                "decision": link.policy.decision,
                "precedence": link.precedence,
                # match, no_match, error; null for a policy that was not asked.
                "verdict": asked.get(str(link.policy_id)),
            }
            for link in links
        ],
        status=None if decision is None else _status(decision),
    )


def _status(decision: Decision) -> str:
    if decision.outcome is Outcome.ERROR:
        return "error"
    return "approved" if decision.allowed else "blocked"


def _identity_document(identity: Identity) -> dict[str, Any]:
    rows = AccessSession.objects.filter(identity=identity).select_related("identity__provider")
    session = rows.order_by("-created_at").first()
    if session is None:
        return {"id": identity.subject, "email": identity.email, "name": identity.name, "user_uuid": str(identity.pk)}
    return identity_document(session)
