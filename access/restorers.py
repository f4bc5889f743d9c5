"""Undoing deletions of Access: each by the action that makes such an object."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.db.models import Count
from django.utils import timezone

from access.actions.applications import create_application
from access.actions.client_authorities import create_client_authority
from access.actions.custom_pages import create_custom_page
from access.actions.groups import create_group
from access.actions.lists import create_list
from access.actions.policies import attach_policy, create_policy
from access.actions.saved_tests import create_saved_test
from access.actions.tags import create_tag
from access.look_models import MAX_TAGS_PER_APPLICATION
from access.models import (
    AccessList,
    Application,
    ApplicationPolicy,
    ClientAuthority,
    CustomPage,
    Group,
    Policy,
    PrincipalClaim,
    SavedTest,
    Tag,
)
from access.questions import Question
from accounts.actor import Actor
from accounts.errors import Conflict
from accounts.models import DeletedObject, Identity
from accounts.permissions import Permission
from accounts.restoring import Kind, Place, register


def _group(kept: DeletedObject, actor: Actor) -> Group:
    return create_group(kept.organization, actor=actor, key=UUID(kept.object_id), **kept.document)


def _list(kept: DeletedObject, actor: Actor) -> AccessList:
    return create_list(kept.organization, actor=actor, key=UUID(kept.object_id), **kept.document)


def _custom_page(kept: DeletedObject, actor: Actor) -> CustomPage:
    return create_custom_page(kept.organization, actor=actor, key=UUID(kept.object_id), **kept.document)


def _tag(kept: DeletedObject, actor: Actor) -> Tag:
    """On the applications that carried it, are still there and have room for it."""
    tag = create_tag(kept.organization, actor=actor, name=kept.document["name"], key=UUID(kept.object_id))
    carriers = Application.objects.for_organization(kept.organization).filter(pk__in=kept.document["applications"])
    tag.applications.set(carriers.annotate(carried=Count("tags")).filter(carried__lt=MAX_TAGS_PER_APPLICATION))
    return tag


def _client_authority(kept: DeletedObject, actor: Actor) -> ClientAuthority:
    key, now = UUID(kept.object_id), timezone.now()
    return create_client_authority(kept.organization, actor=actor, key=key, now=now, **kept.document)


def _policy(kept: DeletedObject, actor: Actor) -> Policy:
    """An application's own one goes back to its place, or last when another policy stands there now."""
    values = dict(kept.document)
    application_id, precedence = values.pop("application", None), values.pop("precedence", None)
    application = _application_of(kept, application_id) if application_id else None
    return create_policy(
        kept.organization,
        actor=actor,
        key=UUID(kept.object_id),
        application=application,
        precedence=_free_place(application, precedence),
        **values,
    )


def _attachment(kept: DeletedObject, actor: Actor) -> Application:
    application = _application_of(kept, kept.document["application"])
    policy = Policy.objects.for_organization(kept.organization).filter(pk=kept.object_id, reusable=True).first()
    if policy is None:
        raise Conflict("The policy itself is deleted by now. Restore it first.", code="policy_gone")
    place = _free_place(application, kept.document["precedence"])
    attach_policy(application, policy, precedence=place, actor=actor)
    return application


def _saved_test(kept: DeletedObject, actor: Actor) -> SavedTest:
    values = kept.document
    return create_saved_test(
        _application_of(kept, values["application"]),
        actor=actor,
        key=UUID(kept.object_id),
        name=values["name"],
        question=Question.stored(values["question"]),
        expected=values["expected"],
    )


def _application(kept: DeletedObject, actor: Actor) -> Application:
    """With its id and audience tag; tokens issued before are refused all the same. Keys and certificates are gone."""
    values = dict(kept.document)
    tests, claims = values.pop("saved_tests"), values.pop("principal_claims")
    restored = {"pk": UUID(kept.object_id), "aud": values.pop("aud"), "tokens_revoked_at": timezone.now()}
    application = create_application(kept.organization, actor=actor, restored=restored, **values)
    _claim_again(application, claims)
    for test in tests:
        question = Question.stored(test["question"])
        create_saved_test(application, actor=actor, name=test["name"], question=question, expected=test["expected"])
    return application


def _claim_again(application: Application, claims: list[dict[str, Any]]) -> None:
    known = {str(pk) for pk in Identity.objects.for_organization(application.organization).values_list("pk", flat=True)}
    PrincipalClaim.objects.bulk_create(
        PrincipalClaim(organization=application.organization, application=application, **claim)
        for claim in claims
        if claim["identity_id"] is None or claim["identity_id"] in known
    )


def _application_of(kept: DeletedObject, key: str) -> Application:
    application = Application.objects.for_organization(kept.organization).filter(pk=key).first()
    if application is None:
        raise Conflict("The application it belonged to is deleted. Restore that first.", code="application_gone")
    return application


def _free_place(application: Application | None, precedence: int | None) -> int | None:
    if application is None or precedence is None:
        return None
    taken = ApplicationPolicy.objects.filter(application=application, precedence=precedence).exists()
    return None if taken else precedence


def _policy_page(policy: Policy) -> Place:
    link = ApplicationPolicy.objects.filter(policy=policy).first() if not policy.reusable else None
    return ("application_policies", (link.application_id,)) if link is not None else ("policies", ())


def register_kinds() -> None:
    edit = Permission.ACCESS_EDIT
    register(Kind("group", "Group", edit, _group, lambda row: ("groups", ())))
    register(Kind("list", "List", edit, _list, lambda row: ("lists", ())))
    register(Kind("tag", "Tag", edit, _tag, lambda row: ("tags", ())))
    register(Kind("custom_page", "Custom page", edit, _custom_page, lambda row: ("custom_pages", ())))
    register(Kind("policy", "Policy", edit, _policy, _policy_page))
    register(Kind("attachment", "Attached policy", edit, _attachment, lambda row: ("application_policies", (row.pk,))))
    register(Kind("saved_test", "Test", edit, _saved_test, lambda row: ("application_tests", (row.application_id,))))
    register(Kind("application", "Application", edit, _application, lambda row: ("application_detail", (row.pk,))))
    register(
        Kind(
            "client_authority",
            "Client certificate authority",
            edit,
            _client_authority,
            lambda row: ("client_authorities", ()),
        )
    )
