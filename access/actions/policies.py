"""Policies: reusable ones, an application's own, and their order in an application."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Final

from django.db import transaction
from django.db.models import Max

from access import events
from access.actions.groups import checked_name
from access.models import Application, ApplicationPolicy, Policy
from access.policy_terms import FIELDS, checked_terms
from access.rules import check_rules
from access.saved_tests import guard, guard_policy
from accounts import audit
from accounts.actions.deletions import keep_deleted
from accounts.actor import Actor
from accounts.errors import Conflict, InvalidInput, NotFound
from accounts.models import DeletedObject, Organization

Rules = Sequence[Any]
MAX_PRECEDENCE = 2**31 - 1
# Tokens of such an application are as short as tokens can be: one page, or the start of one connection.
IMMEDIATE = 0
MIN_SESSION_SECONDS, MAX_SESSION_SECONDS = 60, 31 * 24 * 3600


class Keep:
    """Marks an argument that was not given, where None has a meaning of its own."""


KEEP: Final = Keep()


@transaction.atomic
def create_policy(
    organization: Organization,
    *,
    actor: Actor,
    name: str,
    decision: str,
    include: Rules,
    require: Rules = (),
    exclude: Rules = (),
    session_duration_seconds: int | None = None,
    application: Application | None = None,
    precedence: int | None = None,
    override_reason: str = "",
    terms: Mapping[str, Any] | None = None,
    key: uuid.UUID | None = None,
) -> Policy:
    """A reusable policy, or with `application` that application's own, placed last unless `precedence` says where.

    `override_reason`, here and below: why to go on although saved tests fail (access/saved_tests.py). `key`: the id it
    had, when its deletion is undone."""
    policy = new_policy(
        organization,
        key=key,
        name=name,
        decision=decision,
        lists=(include, require, exclude),
        session_duration_seconds=session_duration_seconds,
        reusable=application is None,
        terms=terms,
    )
    if application is not None:
        application = lock_application(organization, application)
        _place(application, policy, precedence)
    overruled = guard_policy(policy, override_reason=override_reason)
    audit.record(
        events.POLICY_CREATED,
        organization=organization,
        actor=actor,
        target=policy,
        new={**facts(policy), "application": str(application.pk) if application else None, **overruled},
    )
    return policy


@transaction.atomic
def update_policy(
    policy: Policy,
    *,
    actor: Actor,
    name: str | None = None,
    decision: str | None = None,
    include: Rules | None = None,
    require: Rules | None = None,
    exclude: Rules | None = None,
    session_duration_seconds: int | Keep | None = KEEP,
    precedence: int | None = None,
    override_reason: str = "",
    terms: Mapping[str, Any] | None = None,
) -> Policy:
    """None keeps a value, and so does what `terms` (policy_terms.FIELDS) leaves out. session_duration_seconds None
    means "as the application says". `precedence` moves an application's own policy."""
    organization = policy.organization
    policy = _locked(policy)
    old = facts(policy)
    policy.name = policy.name if name is None else checked_name(name)
    policy.decision = policy.decision if decision is None else checked_decision(decision)
    if not isinstance(session_duration_seconds, Keep):
        policy.session_duration_seconds = checked_session(session_duration_seconds)
    policy.include, policy.require, policy.exclude = check_rules(
        organization,
        policy.include if include is None else include,
        policy.require if require is None else require,
        policy.exclude if exclude is None else exclude,
        decision=policy.decision,
    )
    for name_of_field, value in checked_terms(organization, policy.decision, terms or {}, policy).items():
        setattr(policy, name_of_field, value)
    policy.save()
    if precedence is not None:
        _move_own(policy, precedence)
    overruled = guard_policy(policy, override_reason=override_reason)
    audit.record(
        events.POLICY_UPDATED,
        organization=organization,
        actor=actor,
        target=policy,
        old=old,
        new={**facts(policy), **overruled},
    )
    return policy


@transaction.atomic
def delete_policy(policy: Policy, *, actor: Actor, override_reason: str = "") -> DeletedObject:
    """A reusable policy must be detached everywhere first; an application's own goes with its place."""
    policy = _locked(policy)
    links = list(ApplicationPolicy.objects.filter(policy=policy).select_related("application"))
    obstacle = obstacle_to_deleting(policy)
    if obstacle:
        raise Conflict(obstacle, code="policy_in_use")
    ApplicationPolicy.objects.filter(policy=policy).delete()
    overruled = guard([link.application for link in links], override_reason=override_reason)
    place = {"application": links[0].application_id, "precedence": links[0].precedence} if links else {}
    document = {**as_item(policy), **place}
    kept = keep_deleted("policy", policy.organization, key=policy.pk, name=policy.name, document=document, actor=actor)
    audit.delete(policy)
    audit.record(
        events.POLICY_DELETED,
        organization=policy.organization,
        actor=actor,
        target=policy,
        old=facts(policy),
        new=overruled or None,
    )
    return kept


def obstacle_to_deleting(policy: Policy) -> str:
    """What has to be done first, for people; empty if nothing."""
    links = ApplicationPolicy.objects.filter(policy=policy).select_related("application")[:5] if policy.reusable else []
    names = ", ".join(f'"{link.application.name}"' for link in links)
    return f"The policy is attached to {names}. Detach it there first." if names else ""


@transaction.atomic
def make_policy_reusable(policy: Policy, *, actor: Actor) -> Policy:
    """An application's own policy becomes one that others can attach too; it keeps its place. Never the way back:
    by then another application may use it. Doing it twice changes nothing."""
    organization = policy.organization
    policy = Policy.objects.for_organization(organization).select_for_update(no_key=True).get(pk=policy.pk)
    if policy.reusable:
        return policy
    policy.reusable = True
    policy.save(update_fields=["reusable", "updated_at"])
    audit.record(
        events.POLICY_MADE_REUSABLE,
        organization=organization,
        actor=actor,
        target=policy,
        old={"reusable": False},
        new={"reusable": True},
    )
    return policy


@transaction.atomic
def attach_policy(
    application: Application,
    policy: Policy,
    *,
    precedence: int | None = None,
    actor: Actor,
    override_reason: str = "",
) -> ApplicationPolicy:
    """Attach a reusable policy. Without `precedence` it goes last; an occupied place is a Conflict."""
    application = lock_application(application.organization, application)
    policy = own_policy(application.organization, policy.pk)
    if not policy.reusable:
        raise InvalidInput("Only reusable policies can be attached to another application.", code="policy_not_reusable")
    if ApplicationPolicy.objects.filter(application=application, policy=policy).exists():
        raise Conflict("The policy is already attached to this application.", code="policy_already_attached")
    link = _place(application, policy, precedence)
    overruled = guard([application], override_reason=override_reason)
    new = {"precedence": link.precedence, **overruled}
    _record_place(events.POLICY_ATTACHED, application, policy, actor, new=new)
    return link


@transaction.atomic
def detach_policy(
    application: Application, policy: Policy, *, actor: Actor, override_reason: str = ""
) -> DeletedObject:
    """An application's own policy cannot be detached, only deleted: it would hang nowhere."""
    application = lock_application(application.organization, application)
    link = ApplicationPolicy.objects.select_related("policy").filter(application=application, policy=policy).first()
    if link is None:
        raise NotFound("The policy is not attached to this application.")
    if not link.policy.reusable:
        raise InvalidInput(
            "This policy belongs to the application alone. Delete it instead.", code="policy_not_reusable"
        )
    old = {"precedence": link.precedence}
    link.delete()
    overruled = guard([application], override_reason=override_reason)
    kept = keep_deleted(
        "attachment",
        application.organization,
        key=link.policy_id,
        name=f"{link.policy.name} at {application.name}",
        document={"application": application.pk, **old},
        actor=actor,
    )
    _record_place(events.POLICY_DETACHED, application, policy, actor, old=old, new=overruled)
    return kept


@transaction.atomic
def reorder_policies(
    application: Application,
    policy_ids: Sequence[str | uuid.UUID],
    *,
    actor: Actor,
    seen: Sequence[str | uuid.UUID] | None = None,
    override_reason: str = "",
) -> None:
    """Give all policies of the application new places, first to last. The ids must be exactly the attached ones.

    `seen`: the order that whoever asks was looking at; another one by now is a Conflict, so nobody's order is lost."""
    application = lock_application(application.organization, application)
    links = {str(link.policy_id): link for link in ApplicationPolicy.objects.filter(application=application)}
    wanted = [str(policy_id) for policy_id in policy_ids]
    old = sorted(links, key=lambda policy_id: links[policy_id].precedence)
    if sorted(wanted) != sorted(links) or (seen is not None and [str(policy_id) for policy_id in seen] != old):
        text = "Somebody changed the policies or their order meanwhile. Nothing was saved; this is how they are now."
        raise Conflict(text, code="policies_changed")
    renumber([links[policy_id] for policy_id in wanted])
    overruled = guard([application], override_reason=override_reason)
    audit.record(
        events.POLICIES_REORDERED,
        organization=application.organization,
        actor=actor,
        target=application,
        old={"policies": old},
        new={"policies": wanted, **overruled},
    )


# --- Shared with actions/applications.py: no audit event of their own -----------------------------------------
def new_policy(
    organization: Organization,
    *,
    name: str,
    decision: str,
    lists: tuple[Any, Any, Any],
    session_duration_seconds: int | None,
    reusable: bool,
    terms: Mapping[str, Any] | None = None,
    key: uuid.UUID | None = None,
) -> Policy:
    """A checked, saved policy; the calling action records it."""
    decision = checked_decision(decision)
    include, require, exclude = check_rules(organization, *lists, decision=decision)
    return Policy.objects.create(
        pk=key or uuid.uuid4(),
        organization=organization,
        name=checked_name(name),
        decision=decision,
        include=include,
        require=require,
        exclude=exclude,
        session_duration_seconds=checked_session(session_duration_seconds),
        reusable=reusable,
        **checked_terms(organization, decision, terms or {}),
    )


def lock_application(organization: Organization, application: Application) -> Application:
    """The row, locked: places in an application are given one after the other."""
    locked = (
        Application.objects.for_organization(organization)
        .select_for_update(of=("self",), no_key=True)
        .select_related("organization")
        .filter(pk=application.pk)
        .first()
    )
    if locked is None:
        raise NotFound("There is no such application in this organization.")
    return locked


def _locked(policy: Policy) -> Policy:
    """The row, locked; of an application's own policy after the application, as changes of the application do."""
    if not policy.reusable:
        link = ApplicationPolicy.objects.select_related("application").filter(policy=policy).first()
        if link is not None:
            lock_application(policy.organization, link.application)
    return Policy.objects.for_organization(policy.organization).select_for_update(no_key=True).get(pk=policy.pk)


def own_policy(organization: Organization, policy_id: uuid.UUID | str) -> Policy:
    policy = Policy.objects.for_organization(organization).filter(pk=policy_id).first()
    if policy is None:
        raise NotFound("There is no such policy in this organization.", code="policy_not_found")
    return policy


def renumber(links: Sequence[ApplicationPolicy]) -> None:
    """Places 1, 2, 3 … in the given order. In two steps, because places are unique at every moment."""
    free = 1 + max((link.precedence for link in links), default=0) + len(links)
    for step in (free, 1):
        for offset, link in enumerate(links):
            link.precedence = step + offset
            link.save(update_fields=["precedence"])


def checked_decision(decision: str) -> str:
    if decision not in Policy.Decision.values:
        message = f"The decision must be one of {', '.join(Policy.Decision.values)}."
        raise InvalidInput(message, code="invalid_decision", fields={"decision": message})
    return decision


def checked_session(seconds: int | None) -> int | None:
    if seconds is not None and seconds != IMMEDIATE and not MIN_SESSION_SECONDS <= seconds <= MAX_SESSION_SECONDS:
        message = "The session duration must be 0 (immediate), or from a minute to 31 days."
        raise InvalidInput(message, code="invalid_session_duration", fields={"session_duration_seconds": message})
    return seconds


def as_item(policy: Policy) -> dict[str, Any]:
    """A policy as create_policy and inline items take it."""
    names = ("name", "decision", "include", "require", "exclude", "session_duration_seconds")
    terms = {name: getattr(policy, name) for name in FIELDS}
    return {**{name: getattr(policy, name) for name in names}, "terms": terms}


def facts(policy: Policy) -> dict[str, Any]:
    return {
        "name": policy.name,
        "decision": policy.decision,
        "include": policy.include,
        "require": policy.require,
        "exclude": policy.exclude,
        "session_duration_seconds": policy.session_duration_seconds,
        **{name: getattr(policy, name) for name in FIELDS},
    }


def _place(application: Application, policy: Policy, precedence: int | None) -> ApplicationPolicy:
    links = ApplicationPolicy.objects.filter(application=application)
    if precedence is None:
        precedence = 1 + (links.aggregate(last=Max("precedence"))["last"] or 0)
    elif not 1 <= precedence <= MAX_PRECEDENCE:
        raise InvalidInput("Precedence starts at 1.", code="invalid_precedence", fields={"precedence": "At least 1."})
    elif links.filter(precedence=precedence).exists():
        raise Conflict("policy precedences must be unique", code="precedence_taken")
    return ApplicationPolicy.objects.create(application=application, policy=policy, precedence=precedence)


def _move_own(policy: Policy, precedence: int) -> None:
    link = ApplicationPolicy.objects.select_related("application").filter(policy=policy).first()
    if policy.reusable or link is None or link.precedence == precedence:
        return
    link.delete()
    _place(link.application, policy, precedence)


def _record_place(
    name: str,
    application: Application,
    policy: Policy,
    actor: Actor,
    *,
    old: dict[str, Any] | None = None,
    new: dict[str, Any] | None = None,
) -> None:
    audit.record(
        name,
        organization=application.organization,
        actor=actor,
        target=policy,
        target_label=f"{policy.name} at {application.name}",
        old={"application": str(application.pk), **old} if old else None,
        new={"application": str(application.pk), **new} if new else None,
    )
