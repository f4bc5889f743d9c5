"""Adding an application in three steps: Configure app, Add policies, Setup.

The draft lives in the session until the last step, so no application exists without the policies it was meant to
have. Step 1 checks the domain at once; the action checks everything again.
"""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_http_methods, require_POST

from access.actions.applications import create_application
from access.forms import AttachForm, ConfigureForm, SetupForm
from access.hostnames import assert_owned, split_domain
from access.models import Application, Group, Policy
from access.rule_builder import RuleBuilder
from access.rule_text import RuleNames
from access.rules import check_rules
from access.selectors import GROUP
from access.views.policies import policy_page, policy_values, sent_policy
from accounts.errors import Conflict, PermissionDenied
from accounts.http import OrganizationRequest, requires
from accounts.pages import Crumbs, at, done, posted, refusals, sent_once, show
from accounts.permissions import Permission

MAX_DRAFT_POLICIES = 50


@requires(Permission.ACCESS_EDIT)
@require_http_methods(["GET", "POST"])
def application_add(request: OrganizationRequest) -> HttpResponse:
    """Step 1: name, domain, session, login methods."""
    draft = _draft(request)
    form = ConfigureForm(posted(request), initial=draft.get("configure"), organization=request.organization)
    if request.method == "POST" and form.is_valid():
        with refusals(form, domain="subdomain"):
            _assert_domain_free(request, form.full_domain())
            draft["configure"] = form.cleaned_data
            draft["domain"] = form.full_domain()
            _keep(request, draft)
            return redirect(at(request, "application_add_policies"))
    return _step(request, 1, "access/wizard_configure.html", form=form)


@requires(Permission.ACCESS_EDIT)
@require_http_methods(["GET", "POST"])
def application_add_policies(request: OrganizationRequest) -> HttpResponse:
    """Step 2: one policy form at a time; each is checked when it is added to the draft."""
    draft = _draft(request)
    if "domain" not in draft:
        return redirect(at(request, "application_add"))
    form, builder, step = sent_policy(request)
    if request.method != "POST":
        builder = _suggested(request) if not draft["policies"] else builder
    values = policy_values(request, form, builder) if step == "save" else None
    if values is not None:
        with refusals(form):
            lists = (values["include"], values["require"], values["exclude"])
            check_rules(request.organization, *lists, decision=values["decision"])
            if len(draft["policies"]) >= MAX_DRAFT_POLICIES:
                raise Conflict(f"Add the application first: a draft holds {MAX_DRAFT_POLICIES} policies.")
            draft["policies"].append(values)
            _keep(request, draft)
            after = "application_add_setup" if request.POST.get("then") == "next" else "application_add_policies"
            return redirect(at(request, after))
    return policy_page(
        request,
        form,
        builder,
        title="Add an application",
        crumbs=_crumbs(request),
        back=at(request, "application_add"),
        template="access/wizard_policies.html",
        step_number=2,
        domain=draft["domain"],
        chosen=_chosen(request, draft),
        attach=AttachForm(policies=_attachable(request, draft)),
    )


@requires(Permission.ACCESS_EDIT)
@require_POST
def application_add_attach(request: OrganizationRequest) -> HttpResponse:
    """Step 2: a reusable policy joins the draft."""
    draft = _draft(request)
    form = AttachForm(request.POST, policies=_attachable(request, draft))
    if form.is_valid():
        draft["policies"].append({"id": form.cleaned_data["policy"]})
        _keep(request, draft)
    return redirect(at(request, "application_add_policies"))


@requires(Permission.ACCESS_EDIT)
@require_POST
def application_add_drop(request: OrganizationRequest) -> HttpResponse:
    """Step 2: a policy leaves the draft (POST number=place in the list)."""
    draft = _draft(request)
    number = request.POST.get("number", "")
    if number.isdigit() and len(number) < 4 and int(number) < len(draft["policies"]):
        del draft["policies"][int(number)]
        _keep(request, draft)
    return redirect(at(request, "application_add_policies"))


@requires(Permission.ACCESS_EDIT)
@require_http_methods(["GET", "POST"])
@sent_once
def application_add_setup(request: OrganizationRequest) -> HttpResponse:
    """Step 3: the SSH profile; then the application is made, with everything at once."""
    draft = _draft(request)
    if "domain" not in draft:
        return redirect(at(request, "application_add"))
    form = SetupForm(posted(request))
    if request.method == "POST" and form.is_valid():
        with refusals(form):
            application = create_application(
                request.organization,
                actor=request.actor,
                name=draft["configure"]["name"],
                domain=draft["domain"],
                policies=draft["policies"],
                tags=draft["configure"].get("tags", []),
                **{name: draft["configure"][name] for name in _CONFIGURED},
                **form.cleaned_data,
            )
            _forget(request)
            return done(request, f"{application.name} is added.", "application_detail", application.pk)
    return _step(
        request, 3, "access/wizard_setup.html", form=form, domain=draft["domain"], chosen=_chosen(request, draft)
    )


@requires(Permission.ACCESS_EDIT)
@require_POST
def application_add_cancel(request: OrganizationRequest) -> HttpResponse:
    _forget(request)
    return redirect(at(request, "applications"))


_CONFIGURED = ("session_duration_seconds", "allowed_provider_ids", "auto_redirect_to_identity", "app_launcher_visible")


def _assert_domain_free(request: OrganizationRequest, domain: str) -> None:
    hostname, path = split_domain(domain)
    assert_owned(request.organization, hostname)
    taken = Application.objects.all_organizations(reason="domains are unique across tenants")
    owner = taken.filter(hostname=hostname, path=path, is_served=True).first()
    if owner is not None and owner.organization_id == request.organization.pk:
        raise Conflict(f"{owner.name} is at {domain} already.", fields={"subdomain": "taken"})
    if owner is not None:
        raise PermissionDenied(f"{domain} cannot be used.", code="hostname_not_owned")


def _suggested(request: OrganizationRequest) -> RuleBuilder:
    """The first policy of a new application starts with the default groups."""
    groups = Group.objects.for_organization(request.organization).filter(is_default=True)
    return RuleBuilder.stored(request.organization, {"include": [{GROUP: {"id": str(group.pk)}} for group in groups]})


def _chosen(request: OrganizationRequest, draft: dict[str, Any]) -> list[dict[str, Any]]:
    """The draft's policies for display."""
    names = RuleNames(request.organization)
    ids = [item["id"] for item in draft["policies"] if "id" in item]
    known = {
        str(policy.pk): policy for policy in Policy.objects.for_organization(request.organization).filter(pk__in=ids)
    }
    shown = []
    for item in draft["policies"]:
        policy = known.get(item.get("id", ""))
        if policy is not None:
            item = {"name": policy.name, "decision": policy.decision, "reusable": True, **_lists(policy)}
        elif "id" in item:
            item = {"name": "A policy that was deleted meanwhile", "decision": "deny"}
        lines = names.lines(item.get("include", []), item.get("require", []), item.get("exclude", []))
        shown.append({**item, "lines": lines, "label": Policy.Decision(item["decision"]).label})
    return shown


def _lists(policy: Policy) -> dict[str, Any]:
    return {"include": policy.include, "require": policy.require, "exclude": policy.exclude}


def _attachable(request: OrganizationRequest, draft: dict[str, Any]) -> list[Policy]:
    reusable = Policy.objects.for_organization(request.organization).filter(reusable=True)
    return list(reusable.exclude(pk__in=[item["id"] for item in draft["policies"] if "id" in item])[:500])


def _key(request: OrganizationRequest) -> str:
    return f"new_application:{request.organization.pk}"


def _draft(request: OrganizationRequest) -> dict[str, Any]:
    return {"policies": [], **request.session.get(_key(request), {})}


def _keep(request: OrganizationRequest, draft: dict[str, Any]) -> None:
    request.session[_key(request)] = draft


def _forget(request: OrganizationRequest) -> None:
    request.session.pop(_key(request), None)


def _crumbs(request: OrganizationRequest) -> Crumbs:
    return [("Applications", at(request, "applications"))]


def _step(request: OrganizationRequest, number: int, template: str, **context: Any) -> HttpResponse:
    return show(request, template, title="Add an application", crumbs=_crumbs(request), step_number=number, **context)
