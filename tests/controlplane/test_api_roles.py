"""The limits of roles hold for API tokens: every operation that changes something refuses tokens that only look."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from accounts.actions.api_tokens import create_api_token
from accounts.actions.members import change_role
from accounts.models import Membership, Organization, User
from accounts.permissions import ROLE_PERMISSIONS, SCOPES, Permission, Role
from controlplane.api import ApiOperation, api
from tests.controlplane.api_kit import ACTOR, Api, Tenant, make_api
from tests.controlplane.test_api_tenancy import body_of, ids_for
from tests.factories import PASSWORD, Cast
from tests.pages_kit import rows_of


def changing() -> list[ApiOperation]:
    found = [operation for operation in api.operations() if operation.method not in {"GET", "HEAD", "OPTIONS"}]
    assert len(found) > 80
    return found


def member(organization: Organization, role: Role) -> tuple[User, Membership]:
    user = User.objects.create_user(f"{role.value}@token.test", PASSWORD)
    return user, Membership.objects.create(organization=organization, user=user, role=role)


def token_of(organization: Organization, user: User, role: Role) -> Api:
    """With all that the role allows a token to hold."""
    scopes = [scope.value for scope in SCOPES if scope in ROLE_PERMISSIONS[role]]
    _, value = create_api_token(organization, name=role.value, scopes=scopes, expires_at=None, user=user, actor=ACTOR)
    return Api(organization, value)


def _of_role(role: Role) -> Callable[[Organization], Api]:
    return lambda organization: token_of(organization, member(organization, role)[0], role)


def _read_only(organization: Organization) -> Api:
    return make_api(organization, [scope.value for scope in SCOPES if not scope.value.endswith(".edit")])


TOKENS = {"viewer": _of_role(Role.VIEWER), "auditor": _of_role(Role.AUDITOR), "read-only scopes": _read_only}


def test_every_operation_that_changes_something_asks_for_an_edit_scope() -> None:
    wrong = [operation for operation in changing() if not operation.permission.value.endswith(".edit")]
    assert wrong == []


@pytest.mark.parametrize("kind", list(TOKENS))
def test_tokens_that_only_look_change_nothing(widgetcorp: Tenant, kind: str) -> None:
    organization = widgetcorp.api.organization
    looks = TOKENS[kind](organization)
    looks.ok("GET", f"{looks.account}/access/apps")  # also notes that the token is used, once a minute
    before = rows_of(organization)
    for operation in changing():
        path = operation.path.format(**ids_for(operation, widgetcorp))
        answer = looks.send(operation.method, path, body_of(operation))
        assert answer.status_code == 403, (operation, answer.content)
        assert operation.permission.value.encode() in answer.content, operation
    assert rows_of(organization) == before
    assert Organization.objects.filter(pk=organization.pk, name=organization.name).exists()


@pytest.mark.parametrize("role", [Role.VIEWER, Role.AUDITOR])
def test_a_token_made_before_the_role_shrank_changes_nothing(widgetcorp: Tenant, cast: Cast, role: Role) -> None:
    organization = widgetcorp.api.organization
    user, membership = member(organization, Role.ADMIN)
    edits = token_of(organization, user, Role.ADMIN)
    edits.ok("GET", f"{edits.account}/access/apps")
    change_role(membership, role=role, actor=ACTOR)
    before = rows_of(organization)
    for operation in changing():
        path = operation.path.format(**ids_for(operation, widgetcorp))
        assert edits.send(operation.method, path, body_of(operation)).status_code in {401, 403}, operation
    assert rows_of(organization) == before


@pytest.mark.parametrize("role", [Role.VIEWER, Role.AUDITOR])
def test_no_role_that_only_looks_holds_an_edit_scope(role: Role) -> None:
    held: frozenset[Permission] = ROLE_PERMISSIONS[role]
    assert [permission for permission in held if permission.value.endswith(".edit")] == []
