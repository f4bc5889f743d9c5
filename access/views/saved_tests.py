"""An application's saved tests."""

from __future__ import annotations

import uuid
from uuid import UUID

from django.http import HttpResponse
from django.views.decorators.http import require_GET, require_http_methods

from access.actions.saved_tests import create_saved_test, delete_saved_test, update_saved_test
from access.country_names import COUNTRIES, country_name
from access.models import Application, SavedTest, ServiceToken
from access.question_forms import SavedTestForm
from access.questions import IDENTITY, MACHINE, NOBODY, Question
from access.saved_tests import run_application
from access.views.applications import crumbs, own_application, tab
from accounts.http import OrganizationRequest, requires
from accounts.models import Identity
from accounts.pages import at, confirmed, done, find, posted, refusals, show
from accounts.permissions import Permission


@requires(Permission.ACCESS_READ)
@require_GET
def application_tests(request: OrganizationRequest, application_id: UUID) -> HttpResponse:
    """All tests with their results against what is saved now."""
    application = own_application(request, application_id)
    runs = run_application(application)
    rows = [(run, _sentence(application, run.test)) for run in runs]
    failed = sum(not run.passed for run in runs)
    return tab(request, application, "tests", rows=rows, failed=failed)


@requires(Permission.ACCESS_EDIT)
@require_http_methods(["GET", "POST"])
def application_test_add(request: OrganizationRequest, application_id: UUID) -> HttpResponse:
    application = own_application(request, application_id)
    form = SavedTestForm(posted(request), organization=request.organization)
    if request.method == "POST" and form.is_valid():
        with refusals(form):
            test = create_saved_test(
                application,
                actor=request.actor,
                name=form.cleaned_data["name"],
                question=form.question(),
                expected=form.cleaned_data["expected"],
            )
            return done(request, f"The test {test.name} is saved.", "application_tests", application.pk)
    return _page(request, application, form, title="Add a test")


@requires(Permission.ACCESS_EDIT)
@require_http_methods(["GET", "POST"])
def application_test_edit(request: OrganizationRequest, application_id: UUID, test_id: UUID) -> HttpResponse:
    application = own_application(request, application_id)
    test = _own_test(application, test_id)
    initial = SavedTestForm.initial_of(test, _shown_identity(application, test))
    form = SavedTestForm(posted(request), initial=initial, organization=request.organization)
    if request.method == "POST" and form.is_valid():
        with refusals(form):
            update_saved_test(
                test,
                actor=request.actor,
                name=form.cleaned_data["name"],
                question=form.question(),
                expected=form.cleaned_data["expected"],
            )
            return done(request, "The test is saved.", "application_tests", application.pk)
    return _page(request, application, form, title=f"Edit {test.name}")


@requires(Permission.ACCESS_EDIT)
@require_http_methods(["GET", "POST"])
def application_test_delete(request: OrganizationRequest, application_id: UUID, test_id: UUID) -> HttpResponse:
    application = own_application(request, application_id)
    test = _own_test(application, test_id)
    return confirmed(
        request,
        lambda: delete_saved_test(test, actor=request.actor),
        said=f"The test {test.name} is deleted.",
        question=f"Delete the test {test.name}?",
        consequences=["Changes of policies and groups are no longer held back by it."],
        button="Delete test",
        can_undo=True,
        crumbs=crumbs(request, application),
        back=at(request, "application_tests", application.pk),
    )


def _page(request: OrganizationRequest, application: Application, form: SavedTestForm, *, title: str) -> HttpResponse:
    people = Identity.objects.for_organization(request.organization).exclude(email="").order_by("email")
    return show(
        request,
        "access/saved_test_form.html",
        title=title,
        crumbs=[*crumbs(request, application), ("Tests", at(request, "application_tests", application.pk))],
        application=application,
        form=form,
        people=list(people.values_list("email", flat=True).distinct()[:200]),
        countries=sorted(COUNTRIES.items(), key=lambda item: item[1]),
        back=at(request, "application_tests", application.pk),
    )


def _own_test(application: Application, test_id: UUID) -> SavedTest:
    return find(SavedTest.objects.filter(application=application).select_related("organization"), pk=test_id)


def _shown_identity(application: Application, test: SavedTest) -> str:
    """The address when it names one person, otherwise the id."""
    question = Question.stored(test.question)
    if question.who != IDENTITY:
        return ""
    rows = Identity.objects.for_organization(application.organization)
    known = rows.filter(pk=uuid.UUID(question.identity)).first()
    if known is None:
        return question.identity
    unique = rows.filter(email__iexact=known.email).count() == 1
    return known.email if known.email and unique else question.identity


def _sentence(application: Application, test: SavedTest) -> str:
    """The question as one line."""
    question = Question.stored(test.question)
    if question.who == IDENTITY:
        who = _shown_identity(application, test)
    elif question.who == MACHINE:
        token = ServiceToken.objects.for_organization(application.organization).filter(pk=question.service_token)
        who = f"service token {token.values_list('name', flat=True).first() or '(deleted)'}"
    else:
        who = "nobody" if question.who == NOBODY else question.email or "somebody"
    parts = [who]
    if question.groups:
        parts.append(f"in {', '.join(question.groups[:5])}")
    if question.claims:
        parts.append("with " + ", ".join(f"{name} = {value}" for name, value in list(question.claims.items())[:5]))
    if question.ip:
        parts.append(f"at {question.ip}")
    if question.country:
        parts.append(f"from {country_name(question.country)}")
    if question.external:
        parts.append(f"(external evaluation answers {question.external})")
    return " ".join(parts)
