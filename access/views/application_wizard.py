"""Adding an application in three steps: Configure app, Add policies, Setup.

What is filled in lives in a draft (one row, its author's alone) until the last step, so no application exists without
the policies it was meant to have. A draft keeps what the forms held, right or wrong; step 1 checks the domain at once,
`application_check` a single field while somebody types, and the action checks everything again.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django import forms
from django.http import HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from access.actions.applications import create_application
from access.actions.drafts import discard_draft, save_draft
from access.actions.tags import ensure_tags
from access.application_forms import RENAMED, ConfigureForm, SetupForm, settings_from
from access.application_settings import check_settings
from access.forms import AttachForm
from access.hostnames import assert_owned, split_domain
from access.models import Application, ApplicationDraft, Group, Policy
from access.preview import Preview, preview
from access.rule_builder import RuleBuilder
from access.rule_text import RuleNames
from access.rules import check_rules
from access.selectors import GROUP
from access.views.policies import policy_page, policy_values, sent_policy
from access.views.trials import proposed_policy
from accounts.errors import Conflict, DomainError, PermissionDenied
from accounts.http import OrganizationRequest, requires
from accounts.pages import Crumbs, at, confirmed, done, find, list_page, refusals, show
from accounts.permissions import Permission
from accounts.tenancy import TenantQuerySet

MAX_DRAFT_POLICIES = 50
_SENT = frozenset({"csrfmiddlewaretoken", "form_id", "then", "step", "field"})
_PLACE = ("subdomain", "domain", "path")


@requires(Permission.ACCESS_EDIT)
@require_GET
def application_drafts(request: OrganizationRequest) -> HttpResponse:
    """One's own: nobody else sees them."""
    listing = list_page(request, _own_drafts(request), search=("name",))
    return show(request, "access/drafts.html", title="Drafts", crumbs=_crumbs(request), listing=listing)


@requires(Permission.ACCESS_EDIT)
@require_http_methods(["GET", "POST"])
def application_add(request: OrganizationRequest) -> HttpResponse:
    """Step 1 of a new application; its first save makes the draft."""
    return _configure(request, None)


@requires(Permission.ACCESS_EDIT)
@require_http_methods(["GET", "POST"])
def application_draft(request: OrganizationRequest, draft_id: UUID) -> HttpResponse:
    """Step 1: name, domain, session, login methods."""
    return _configure(request, _own_draft(request, draft_id))


@requires(Permission.ACCESS_EDIT)
@require_POST
def application_check(request: OrganizationRequest) -> HttpResponse:
    """What is to be said about one field (POST field=name) of a step, while the others are still being filled in."""
    name = request.POST.get("field", "")
    form: forms.Form
    if name in SetupForm.base_fields:
        form = SetupForm(request.POST)
    else:
        form = ConfigureForm(request.POST, organization=request.organization)
    errors: list[str] = []
    note = ""
    if name in form.fields:
        form.is_valid()
        with refusals(form, **RENAMED):
            if isinstance(form, ConfigureForm) and name in _PLACE and not _has_errors(form, _PLACE):
                _assert_domain_free(request, form.full_domain())
                note = f"{form.full_domain()} is free and yours."
            elif isinstance(form, ConfigureForm) and not form.errors.get(name):
                settings_of(form.cleaned_data)
        # The three boxes of the domain share one place for what is said.
        shown = _PLACE if name in _PLACE else (name,)
        errors = [str(text) for field in shown for text in form.errors.get(field, [])]
    return render(request, "access/_field_check.html", {"errors": errors, "note": "" if errors else note})


@requires(Permission.ACCESS_EDIT)
@require_http_methods(["GET", "POST"])
def application_draft_policies(request: OrganizationRequest, draft_id: UUID) -> HttpResponse:
    """Step 2: one policy form at a time; each is checked when it is added to the draft."""
    draft = _own_draft(request, draft_id)
    configured = _configured(request, draft)
    if not configured.is_valid():
        return redirect(at(request, "application_draft", draft.pk))
    form, builder, step = sent_policy(request)
    if request.method != "POST":
        builder = _suggested(request) if not _policies(draft) else builder
    values = policy_values(request, form, builder) if step == "save" else None
    tried: list[dict[str, Any]] = []
    if values is not None:
        with refusals(form):
            lists = (values["include"], values["require"], values["exclude"])
            check_rules(request.organization, *lists, decision=values["decision"])
            tried = [values]
            if request.POST.get("step") != "preview":
                if len(_policies(draft)) >= MAX_DRAFT_POLICIES:
                    raise Conflict(f"Add the application first: a draft holds {MAX_DRAFT_POLICIES} policies.")
                _keep(request, draft, policies=[*_policies(draft), values])
                after = "setup" if request.POST.get("then") == "next" else "policies"
                return redirect(at(request, f"application_draft_{after}", draft.pk))
    return policy_page(
        request,
        form,
        builder,
        title="Add an application",
        crumbs=_crumbs(request),
        back=at(request, "application_draft", draft.pk),
        template="access/wizard_policies.html",
        step_number=2,
        draft=draft,
        domain=configured.full_domain(),
        chosen=_chosen(request, draft),
        preview=_preview(request, draft, tried),
        is_tried=bool(tried),
        attach=AttachForm(policies=_attachable(request, draft)),
    )


@requires(Permission.ACCESS_EDIT)
@require_POST
def application_draft_attach(request: OrganizationRequest, draft_id: UUID) -> HttpResponse:
    """Step 2: a reusable policy joins the draft."""
    draft = _own_draft(request, draft_id)
    form = AttachForm(request.POST, policies=_attachable(request, draft))
    if form.is_valid():
        _keep(request, draft, policies=[*_policies(draft), {"id": form.cleaned_data["policy"]}])
    return redirect(at(request, "application_draft_policies", draft.pk))


@requires(Permission.ACCESS_EDIT)
@require_POST
def application_draft_arrange(request: OrganizationRequest, draft_id: UUID) -> HttpResponse:
    """Step 2: a policy of the draft goes up or leaves it (POST number=place in the list, do=up|remove)."""
    draft = _own_draft(request, draft_id)
    policies, number = _policies(draft), request.POST.get("number", "")
    if number.isascii() and number.isdigit() and len(number) < 4 and int(number) < len(policies):
        moved = policies.pop(int(number))
        if request.POST.get("do") == "up":
            policies.insert(max(0, int(number) - 1), moved)
        _keep(request, draft, policies=policies)
    return redirect(at(request, "application_draft_policies", draft.pk))


@requires(Permission.ACCESS_EDIT)
@require_http_methods(["GET", "POST"])
def application_draft_setup(request: OrganizationRequest, draft_id: UUID) -> HttpResponse:
    """Step 3: the SSH profile, cookies, other sites; then the application is made, with everything at once."""
    draft = _own_draft(request, draft_id)
    configured = _configured(request, draft)
    if not configured.is_valid():
        return redirect(at(request, "application_draft", draft.pk))
    kept = _fields(draft, "setup")
    form = SetupForm(request.POST if request.method == "POST" else None, initial=_initial(SetupForm, kept))
    if request.method == "POST":
        _keep(request, draft, setup=_sent(request.POST))
        if request.POST.get("then") == "later":
            return done(request, "The draft is saved.", "application_drafts")
        if form.is_valid():
            with refusals(form, **{**RENAMED, "domain": "domain"}):
                application = _add(request, draft, configured, form)
                message = f"{application.name} is added. Here is what comes next."
                return done(request, message, "application_way_in", application.pk)
    return _step(
        request,
        3,
        "access/wizard_setup.html",
        form=form,
        draft=draft,
        domain=configured.full_domain(),
        chosen=_chosen(request, draft),
    )


@requires(Permission.ACCESS_EDIT)
@require_http_methods(["GET", "POST"])
def application_draft_discard(request: OrganizationRequest, draft_id: UUID) -> HttpResponse:
    draft = _own_draft(request, draft_id)
    return confirmed(
        request,
        lambda: discard_draft(draft, actor=request.actor),
        said=f"The draft {draft} is discarded.",
        question=f"Discard the draft {draft}?",
        consequences=["What was filled in is gone for good. Applications that are already added are not touched."],
        button="Discard draft",
        crumbs=_crumbs(request),
        back=at(request, "application_drafts"),
    )


# --- steps ----------------------------------------------------------------------------------------------------
def _configure(request: OrganizationRequest, draft: ApplicationDraft | None) -> HttpResponse:
    kept = _fields(draft, "configure") if draft else None
    data = request.POST if request.method == "POST" else None
    form = ConfigureForm(data, initial=_initial(ConfigureForm, kept), organization=request.organization)
    if request.method == "POST" and request.POST.get("then") == "later":
        with refusals(form):
            _keep(request, draft, configure=_sent(request.POST))
            return done(request, "The draft is saved.", "application_drafts")
    elif request.method == "POST" and form.is_valid():
        with refusals(form, **RENAMED):
            _assert_domain_free(request, form.full_domain())
            settings_of(form.cleaned_data)
            saved = _keep(request, draft, configure=_sent(request.POST))
            return redirect(at(request, "application_draft_policies", saved.pk))
    drafts = _own_drafts(request)
    return _step(
        request,
        1,
        "access/wizard_configure.html",
        form=form,
        draft=draft,
        draft_count=0 if draft else drafts.count(),
        known_tags=form.known_tags(),
        check_url=at(request, "application_check"),
    )


def _add(
    request: OrganizationRequest, draft: ApplicationDraft, configured: ConfigureForm, setup: SetupForm
) -> Application:
    values = configured.cleaned_data
    settings = settings_from(setup.cleaned_data, settings_from(values, {}))
    ensure_tags(request.organization, values["tags"], actor=request.actor)
    profile = (
        *("certificate_lifetime_seconds", "certificate_extensions", "bastion_destinations", "principal_overrides"),
        "require_key_proof",
    )
    application = create_application(
        request.organization,
        actor=request.actor,
        domain=configured.full_domain(),
        policies=_policies(draft),
        settings=settings,
        skip_interstitial=setup.cleaned_data["skip_interstitial"],
        **{name: values[name] for name in _CONFIGURED},
        **{name: setup.cleaned_data[name] for name in profile},
    )
    draft.delete()
    return application


_CONFIGURED = (
    *("name", "session_duration_seconds", "allowed_provider_ids", "auto_redirect_to_identity"),
    *("app_launcher_visible", "tags"),
)


def settings_of(values: dict[str, Any]) -> dict[str, Any]:
    """Checked as the action will: raises InvalidInput."""
    return check_settings(settings_from(values, {}))


def _assert_domain_free(request: OrganizationRequest, domain: str) -> None:
    hostname, path = split_domain(domain)
    try:
        assert_owned(request.organization, hostname)
    except PermissionDenied as error:
        raise Conflict(error.message, fields={"subdomain": error.message}) from error
    taken = Application.objects.all_organizations(reason="domains are unique across tenants")
    owner = taken.filter(hostname=hostname, path=path, is_served=True).first()
    if owner is not None and owner.organization_id == request.organization.pk:
        raise Conflict(f"{owner.name} is at {domain} already. Choose another name.", fields={"subdomain": "taken"})
    if owner is not None:
        raise Conflict(f"{domain} cannot be used.", fields={"subdomain": "refused"})


def _suggested(request: OrganizationRequest) -> RuleBuilder:
    """The first policy of a new application starts with the default groups."""
    groups = Group.objects.for_organization(request.organization).filter(is_default=True)
    return RuleBuilder.stored(request.organization, {"include": [{GROUP: {"id": str(group.pk)}} for group in groups]})


# --- what a draft holds ---------------------------------------------------------------------------------------
def _own_drafts(request: OrganizationRequest) -> TenantQuerySet[ApplicationDraft]:
    rows = ApplicationDraft.objects.for_organization(request.organization)
    return rows.filter(user=request.user, expires_at__gt=timezone.now())


def _own_draft(request: OrganizationRequest, draft_id: UUID) -> ApplicationDraft:
    return find(_own_drafts(request).select_related("organization"), pk=draft_id)


def _keep(request: OrganizationRequest, draft: ApplicationDraft | None, **changed: Any) -> ApplicationDraft:
    data = {**(draft.data if draft else {}), **changed}
    name = (data.get("configure", {}).get("name") or [""])[0]
    return save_draft(request.organization, draft, actor=request.actor, user=request.user, name=name, data=data)


def _sent(data: QueryDict) -> dict[str, list[str]]:
    return {name: values for name, values in data.lists() if name not in _SENT}


def _fields(draft: ApplicationDraft, step: str) -> QueryDict | None:
    """What the form of a step held when it was left; None when it was not reached yet."""
    if step not in draft.data:
        return None
    fields = QueryDict(mutable=True)
    for name, values in draft.data[step].items():
        fields.setlist(name, values)
    return fields


def _initial(kind: type[forms.Form], kept: QueryDict | None) -> dict[str, Any] | None:
    """A draft's fields for a form that is not judged yet."""
    if kept is None:
        return None
    return {
        name: kept.getlist(name) if isinstance(field, forms.MultipleChoiceField) else kept.get(name, "")
        for name, field in kind.base_fields.items()
    }


def _configured(request: OrganizationRequest, draft: ApplicationDraft) -> ConfigureForm:
    kept = _fields(draft, "configure") or QueryDict()
    return ConfigureForm(kept, initial=_initial(ConfigureForm, kept), organization=request.organization)


def _policies(draft: ApplicationDraft) -> list[dict[str, Any]]:
    return list(draft.data.get("policies", []))


def _has_errors(form: forms.Form, names: tuple[str, ...]) -> bool:
    return any(form.errors.get(name) for name in names)


def _attachable(request: OrganizationRequest, draft: ApplicationDraft) -> list[Policy]:
    reusable = Policy.objects.for_organization(request.organization).filter(reusable=True)
    return list(reusable.exclude(pk__in=[item["id"] for item in _policies(draft) if "id" in item])[:500])


def _chosen(request: OrganizationRequest, draft: ApplicationDraft) -> list[dict[str, Any]]:
    """The draft's policies for display."""
    names = RuleNames(request.organization)
    known = _reusable_of(request, draft)
    shown = []
    for item in _policies(draft):
        policy = known.get(item.get("id", ""))
        if policy is not None:
            item = {"name": policy.name, "decision": policy.decision, "reusable": True, **_lists(policy)}
        elif "id" in item:
            item = {"name": "A policy that was deleted meanwhile", "decision": "deny"}
        lines = names.lines(item.get("include", []), item.get("require", []), item.get("exclude", []))
        shown.append({**item, "lines": lines, "label": Policy.Decision(item["decision"]).label})
    return shown


def _preview(request: OrganizationRequest, draft: ApplicationDraft, tried: list[dict[str, Any]]) -> Preview | None:
    """`tried`: a policy that is being written, after the draft's own."""
    known = _reusable_of(request, draft)
    rows = [
        known[item["id"]] if "id" in item else proposed_policy(request, None, item)
        for item in [*_policies(draft), *tried]
        if "id" not in item or item["id"] in known
    ]
    try:
        return preview(request.organization, rows, now=timezone.now()) if rows else None
    except DomainError:
        return None


def _reusable_of(request: OrganizationRequest, draft: ApplicationDraft) -> dict[str, Policy]:
    ids = [item["id"] for item in _policies(draft) if "id" in item]
    return {
        str(policy.pk): policy for policy in Policy.objects.for_organization(request.organization).filter(pk__in=ids)
    }


def _lists(policy: Policy) -> dict[str, Any]:
    return {"include": policy.include, "require": policy.require, "exclude": policy.exclude}


def _crumbs(request: OrganizationRequest) -> Crumbs:
    return [("Applications", at(request, "applications"))]


def _step(request: OrganizationRequest, number: int, template: str, **context: Any) -> HttpResponse:
    page = {"step_number": number, "live": True, **context}
    return show(request, template, title="Add an application", crumbs=_crumbs(request), **page)
