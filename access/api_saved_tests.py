"""/client/v4 …/access/apps/{id}/saved_tests (ours): questions with the answer an application's policies must give."""

from __future__ import annotations

from typing import Any, Literal

from ninja import Field, Query, Schema

from access.actions.saved_tests import create_saved_test, delete_saved_test, update_saved_test
from access.api_policies import own_application
from access.models import SavedTest
from access.questions import Question
from accounts.api_base import ApiRequest, ApiRouter, Deleted, Page, Paging, find, page_of
from accounts.permissions import Permission

router = ApiRouter(tags=["Saved tests"])
_MISSING = "No such test."
_PATH = "/apps/{app_id}/saved_tests"


class QuestionBody(Schema):
    """Who asks and from where: `who` is identity, typed, service_token or nobody; the rest says more."""

    who: str = "identity"
    identity: str = ""
    email: str = Field("", max_length=254)
    email_verified: bool = True
    provider: str = ""
    groups: list[str] = []
    claims: dict[str, str] = {}
    amr: list[str] = []
    service_token: str = ""
    ip: str = Field("", max_length=64)
    country: str = Field("", max_length=100)
    external: str = Field("", max_length=16)


class SavedTestBody(Schema):
    name: str = Field(min_length=1, max_length=350)
    question: QuestionBody
    expected: Literal["allow", "deny"]


class SavedTestResult(Schema):
    id: str
    name: str
    question: dict[str, Any]
    expected: str


@router.route("GET", _PATH, Permission.ACCESS_READ, SavedTestResult, paged=True)
def list_saved_tests(request: ApiRequest, app_id: str, paging: Query[Paging]) -> Page:
    rows = own_application(request, app_id).saved_tests.order_by("name", "pk")
    return page_of(rows, paging, shape_saved_test)


@router.route("POST", _PATH, Permission.ACCESS_EDIT, SavedTestResult)
def create_access_saved_test(request: ApiRequest, app_id: str, body: SavedTestBody) -> SavedTestResult:
    application = own_application(request, app_id)
    return shape_saved_test(create_saved_test(application, actor=request.actor, **_values(body)))


@router.route("GET", f"{_PATH}/{{test_id}}", Permission.ACCESS_READ, SavedTestResult)
def get_saved_test(request: ApiRequest, app_id: str, test_id: str) -> SavedTestResult:
    return shape_saved_test(_own(request, app_id, test_id))


@router.route("PUT", f"{_PATH}/{{test_id}}", Permission.ACCESS_EDIT, SavedTestResult)
def update_access_saved_test(request: ApiRequest, app_id: str, test_id: str, body: SavedTestBody) -> SavedTestResult:
    test = _own(request, app_id, test_id)
    return shape_saved_test(update_saved_test(test, actor=request.actor, **_values(body)))


@router.route("DELETE", f"{_PATH}/{{test_id}}", Permission.ACCESS_EDIT, Deleted)
def delete_access_saved_test(request: ApiRequest, app_id: str, test_id: str) -> Deleted:
    test = _own(request, app_id, test_id)
    identifier = str(test.pk)
    delete_saved_test(test, actor=request.actor)
    return Deleted(id=identifier)


def shape_saved_test(test: SavedTest) -> SavedTestResult:
    return SavedTestResult(id=str(test.pk), name=test.name, question=test.question, expected=test.expected)


def _values(body: SavedTestBody) -> dict[str, Any]:
    return {"name": body.name, "question": Question(**body.question.model_dump()), "expected": body.expected}


def _own(request: ApiRequest, app_id: str, test_id: str) -> SavedTest:
    application = own_application(request, app_id)
    rows = SavedTest.objects.for_organization(request.organization).select_related("organization")
    return find(rows, test_id, _MISSING, application=application)
