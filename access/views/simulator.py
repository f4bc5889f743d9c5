"""Access, Simulator: one question to an application's policies, and simulations of all people or recorded decisions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC
from typing import Any
from uuid import UUID

from django.db.models import Q, QuerySet
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from access.actions.simulations import start_simulation
from access.country_names import COUNTRIES
from access.decisions import load_rules
from access.evaluation import Decision, rules_version
from access.facts import load_lists
from access.models import Application, Simulation, SimulationResult
from access.question_forms import AnyApplicationForm, SimulatorForm
from access.questions import Asked, answer, ask, check
from access.simulation import Proposal
from access.views.applications import own_application, tab
from access.views.logs import PolicyStep, trace_steps
from access.views.trials import REPLAY, REPLAY_DAYS
from accounts.http import OrganizationRequest, requires
from accounts.models import Identity
from accounts.pages import Filter, at, find, list_page, refusals, show, telling
from accounts.permissions import Permission

_OFFERED_PEOPLE = 200
_OFFERED_APPLICATIONS = 50
_FIND = "find"


@dataclass(frozen=True)
class Answer:
    """A simulated decision, for the page."""

    application: Application
    asked: Asked
    decision: Decision
    steps: list[PolicyStep]
    version: str
    notes: list[str]


@dataclass(frozen=True)
class Picker:
    """The applications to choose from: those that fit a search, few at a time, and the one chosen before."""

    query: str
    rows: list[Application]
    fitting: int
    has_more: bool
    chosen: str
    kept: list[tuple[str, str]]

    @property
    def is_shown(self) -> bool:
        return bool(self.query) or self.has_more


@requires(Permission.ACCESS_READ)
@require_GET
def simulator(request: OrganizationRequest) -> HttpResponse:
    picker = _picker(request)
    is_search = request.GET.get("step") == _FIND
    data = request.GET if "who" in request.GET and not is_search else None
    # What was typed stays while the application is looked for.
    initial = {**request.GET.dict(), "application": picker.chosen or request.GET.get("application", "")}
    form = AnyApplicationForm(data, initial=initial, organization=request.organization, applications=picker.rows)
    found = None
    if data is not None and form.is_valid():
        application = next(row for row in picker.rows if str(row.pk) == form.cleaned_data["application"])
        found = _answer(request, form, application)
    recent = Simulation.objects.for_organization(request.organization).order_by("-created_at")[:10]
    page = {"form": form, "answer": found, "recent": recent, "picker": picker, **_offered(request)}
    return show(request, "access/simulator.html", title="Simulator", **page)


@requires(Permission.ACCESS_READ)
@require_GET
def application_simulator(request: OrganizationRequest, application_id: UUID) -> HttpResponse:
    application = own_application(request, application_id)
    data = request.GET if "who" in request.GET else None
    form = SimulatorForm(data, organization=request.organization)
    found = _answer(request, form, application) if data is not None and form.is_valid() else None
    return tab(request, application, "simulator", form=form, answer=found, **_offered(request))


@requires(Permission.ACCESS_EDIT)
@require_POST
def application_simulate(request: OrganizationRequest, application_id: UUID) -> HttpResponse:
    """All known people, or with step=replay the recorded decisions, under the rules as they are saved."""
    application = own_application(request, application_id)
    days = request.POST.get("replay_days", "")
    replayed = request.POST.get("step") == REPLAY
    with telling(request):
        simulation = start_simulation(
            request.organization,
            actor=request.actor,
            title=f"Saved policies of {application.name}",
            proposal=Proposal([application]),
            replay_days=(int(days) if days.isdigit() and len(days) < 4 else 7) if replayed else None,
        )
        return redirect(at(request, "simulation", simulation.pk))
    return redirect(at(request, "application_simulator", application.pk))


@requires(Permission.ACCESS_READ)
@require_GET
def simulation(request: OrganizationRequest, simulation_id: UUID) -> HttpResponse:
    """Progress, then results: the changes first."""
    row = find(Simulation.objects.for_organization(request.organization), pk=simulation_id)
    change = SimulationResult.Change
    filters = [
        Filter("change", "Change", change.choices, {value: Q(change=value) for value in change.values}),
        Filter(
            "status",
            "Answer",
            SimulationResult.Status.choices,
            {value: Q(status=value) for value in SimulationResult.Status.values},
        ),
    ]
    results = SimulationResult.objects.filter(simulation=row).select_related("identity")
    # "gained" and "lost" come before "same" in the alphabet.
    results = results.order_by("change", "-happened_at", "who", "id")
    listing = list_page(request, results, search=("who", "application_label"), filters=filters)
    draft = row.draft.get("path", "")
    return show(
        request,
        "access/simulation.html",
        title=row.title,
        crumbs=[("Simulator", at(request, "simulator"))],
        simulation=row,
        compared=any(target["before"] is not None for target in row.rules["targets"]),
        is_replay=row.kind == Simulation.Kind.REPLAY,
        running=row.status == Simulation.Status.PROCESSING,
        listing=listing,
        back=f"{draft}?draft={row.pk}" if draft else "",
        live=True,
    )


def _picker(request: OrganizationRequest) -> Picker:
    query = request.GET.get("find", "").strip()[:200]
    everything = Application.objects.for_organization(request.organization).order_by("name", "hostname")
    fitting = everything.filter(Q(name__icontains=query) | Q(hostname__icontains=query)) if query else everything
    found = list(fitting[: _OFFERED_APPLICATIONS + 1])
    rows, has_more = found[:_OFFERED_APPLICATIONS], len(found) > _OFFERED_APPLICATIONS
    chosen = _chosen(everything, request.GET.get("application", ""))
    if chosen is not None and chosen not in rows:
        rows.insert(0, chosen)
    # A search that finds one has chosen it.
    fits = found[0] if query and len(found) == 1 else chosen
    kept = [(name, str(value)) for name, value in request.GET.items() if name not in {"find", "application", "step"}]
    return Picker(query, rows, len(found), has_more, str(fits.pk) if fits is not None else "", kept)


def _chosen(rows: QuerySet[Application], value: str) -> Application | None:
    try:
        return rows.filter(pk=UUID(value)).first()
    except ValueError:
        return None


def _answer(request: OrganizationRequest, form: SimulatorForm, application: Application) -> Answer | None:
    """None when the question cannot be asked; `form` then says why."""
    with refusals(form):
        asked = ask(request.organization, check(request.organization, form.question()))
        policies, groups = load_rules(application)
        moment = form.cleaned_data["at"]
        now = moment.replace(tzinfo=UTC) if moment is not None else timezone.now()
        lists = load_lists(request.organization.pk, policies, groups)
        decision = answer(policies, groups, asked, now=now, lists=lists)
        version = rules_version(policies, groups, lists)
        steps = trace_steps(decision.trace)
        return Answer(application, asked, decision, steps, version, _notes(application, asked))
    return None


def _notes(application: Application, asked: Asked) -> list[str]:
    """What a real request would meet besides the policies."""
    notes = []
    context = asked.context
    if not context.ip:
        notes.append("No address was given: a rule on addresses cannot be decided.")
    if context.country is None:
        notes.append("There is no country database: a rule on countries cannot be decided, and refuses.")
    allowed = set(map(str, application.allowed_providers.values_list("pk", flat=True)))
    if context.person is not None and allowed and context.person.provider_id not in allowed:
        notes.append("This application does not offer that login method, so the person could not log in with it.")
    return notes


def _offered(request: OrganizationRequest) -> dict[str, Any]:
    people = Identity.objects.for_organization(request.organization).exclude(email="").order_by("email")
    return {
        "people": list(people.values_list("email", flat=True).distinct()[:_OFFERED_PEOPLE]),
        "countries": sorted(COUNTRIES.items(), key=lambda item: item[1]),
        "replay_days": REPLAY_DAYS,
    }
