"""Rules checked when they are saved: clear errors, this organization's references only, no loops."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from access.actions.groups import create_group, delete_group, update_group
from access.actions.policies import create_policy, update_policy
from access.actions.service_tokens import create_service_token
from access.evaluation import MAX_GROUP_DEPTH
from access.models import Group, Policy
from access.rules import check_rules
from accounts.edge_models import EdgeVersion
from accounts.errors import Conflict, DomainError, InvalidInput
from accounts.models import AuditEvent
from tests.access.makers import ACTOR, EVERYONE, email_rule, make_provider
from tests.factories import Cast


def message_of(cast: Cast, include: Any, require: Any = (), exclude: Any = (), **options: Any) -> str:
    with pytest.raises(InvalidInput) as caught:
        check_rules(cast.widgetcorp, include, require, exclude, **options)
    return caught.value.message


def group_rule(group: Group) -> dict[str, Any]:
    return {"group": {"id": str(group.pk)}}


@pytest.mark.parametrize(
    ("rule", "part"),
    [
        ({"geo": {"country_code": "PRT"}}, 'two-letter country code such as "PT"'),
        ({"geo": {"country": "PT"}}, "unknown key 'country'"),
        ({"email": {"email": "widgetcorp.test"}}, "not one e-mail address"),
        ({"email": {"email": " alice@x.test"}}, "surrounding spaces"),
        ({"email": {"email": "a\x00@x.test"}}, "control characters"),
        ({"email": {"email": "a" * 600 + "@x.test"}}, "longer than"),
        ({"email": "alice@x.test"}, "needs an object"),
        ({"email_domain": {"domain": "@x.test"}}, 'without "@"'),
        ({"ip": {"ip": "10.0.0.5/8"}}, "host bits set"),
        ({"ip": {"ip": "everywhere"}}, "not an IP range"),
        ({"planet": {"name": "mars"}}, "unknown selector 'planet'"),
        ({"device_posture": {"integration_uid": "x"}}, "unknown selector 'device_posture'"),
        ({}, "one selector"),
        ({"everyone": {}, "geo": {}}, "one selector"),
        ("everyone", "one selector"),
        ({"okta": {"name": "eng"}}, '"identity_provider_id"'),
        ({"okta": {"name": "eng", "identity_provider_id": "nope"}}, "needs an id"),
        ({"group": {"id": "G-1"}}, "needs an id"),
        ({"service_token": {}}, '"token_id"'),
        ({"login_method": {"id": ""}}, '"id"'),
    ],
)
def test_each_fault_is_named_with_its_place(cast: Cast, rule: Any, part: str) -> None:
    message = message_of(cast, [EVERYONE, rule])
    assert message.startswith("include rule 2: ")
    assert part in message


@pytest.mark.parametrize("include", [[], None, {}, "everyone"])
def test_an_include_rule_is_required(cast: Cast, include: Any) -> None:
    assert message_of(cast, include)


def test_lists_are_bounded(cast: Cast) -> None:
    assert "limit is 1000" in message_of(cast, [EVERYONE] * 1001)


@pytest.mark.parametrize(
    "rule",
    [
        {"group": {"id": str(uuid.uuid4())}},
        {"login_method": {"id": str(uuid.uuid4())}},
        {"okta": {"name": "x", "identity_provider_id": str(uuid.uuid4())}},
        {"service_token": {"token_id": str(uuid.uuid4())}},
    ],
)
def test_references_must_exist(cast: Cast, rule: Any) -> None:
    assert "There is no" in message_of(cast, [rule])


def test_ac_51_ac_85_references_of_another_tenant_look_missing(cast: Cast) -> None:
    theirs = create_group(cast.evilcorp, actor=ACTOR, name="g", include=[EVERYONE])
    provider = make_provider(cast.evilcorp)
    token, _ = create_service_token(cast.evilcorp, actor=ACTOR, name="ci")
    for rule in (
        group_rule(theirs),
        {"login_method": {"id": str(provider.pk)}},
        {"oidc": {"claim_name": "a", "claim_value": "b", "identity_provider_id": str(provider.pk)}},
        {"service_token": {"token_id": str(token.pk)}},
    ):
        with pytest.raises(InvalidInput, match="in this organization"):
            create_policy(cast.widgetcorp, actor=ACTOR, name="p", decision="allow", include=[rule])
    assert not Policy.objects.exists()


def test_ac_85_a_loop_is_refused_when_saved(cast: Cast) -> None:
    first = create_group(cast.widgetcorp, actor=ACTOR, name="first", include=[EVERYONE])
    second = create_group(cast.widgetcorp, actor=ACTOR, name="second", include=[group_rule(first)])
    for include in ([group_rule(second)], [EVERYONE, group_rule(first)]):
        with pytest.raises(InvalidInput) as caught:
            update_group(first, actor=ACTOR, include=include)
        assert caught.value.code == "group_loop"
    assert Group.objects.get(pk=first.pk).include == [EVERYONE]


def test_ac_85_depth_is_bounded_from_both_ends(cast: Cast) -> None:
    chain = [create_group(cast.widgetcorp, actor=ACTOR, name="0", include=[EVERYONE])]
    for number in range(1, MAX_GROUP_DEPTH):
        chain.append(create_group(cast.widgetcorp, actor=ACTOR, name=str(number), include=[group_rule(chain[-1])]))
    with pytest.raises(InvalidInput) as caught:
        create_group(cast.widgetcorp, actor=ACTOR, name="one too many", include=[group_rule(chain[-1])])
    extra = create_group(cast.widgetcorp, actor=ACTOR, name="extra", include=[EVERYONE])
    with pytest.raises(InvalidInput) as below:
        update_group(chain[0], actor=ACTOR, include=[group_rule(extra)])
    assert {caught.value.code, below.value.code} == {"group_too_deep"}


def test_bypass_and_service_auth_take_no_identity_rules_not_even_through_groups(cast: Cast) -> None:
    people = create_group(cast.widgetcorp, actor=ACTOR, name="people", include=[email_rule("a@x.test")])
    outer = create_group(cast.widgetcorp, actor=ACTOR, name="outer", include=[group_rule(people)])
    for decision in ("bypass", "non_identity"):
        for rule in (email_rule("a@x.test"), group_rule(people), group_rule(outer)):
            assert "before anyone logs in" in message_of(cast, [EVERYONE], exclude=[rule], decision=decision)
    networks = create_group(cast.widgetcorp, actor=ACTOR, name="networks", include=[{"ip": {"ip": "10.0.0.0/8"}}])
    create_policy(cast.widgetcorp, actor=ACTOR, name="p", decision="bypass", include=[group_rule(networks)])
    with pytest.raises(InvalidInput, match='The policy "p"'):
        update_group(networks, actor=ACTOR, include=[email_rule("a@x.test")])
    allow = create_policy(cast.widgetcorp, actor=ACTOR, name="q", decision="allow", include=[group_rule(people)])
    with pytest.raises(InvalidInput):
        update_policy(allow, actor=ACTOR, decision="bypass")


def test_rules_are_stored_exactly_as_sent(cast: Cast) -> None:
    include = [{"email": {"email": "Alice@Widgetcorp.TEST"}}, {"geo": {"country_code": "pt"}}]
    group = create_group(cast.widgetcorp, actor=ACTOR, name="g", include=include)
    assert Group.objects.get(pk=group.pk).include == include


def test_group_actions_write_one_event_each_and_raise_the_edge_version(cast: Cast) -> None:
    group = create_group(cast.widgetcorp, actor=ACTOR, name="g", include=[EVERYONE])
    update_group(group, actor=ACTOR, name="h")
    delete_group(group, actor=ACTOR)
    events = list(AuditEvent.objects.for_organization(cast.widgetcorp).order_by("id"))
    assert [event.name for event in events] == ["access.group.created", "access.group.updated", "access.group.deleted"]
    assert events[1].old is not None
    assert events[1].new is not None
    assert (events[1].old["name"], events[1].new["name"]) == ("g", "h")
    assert EdgeVersion.objects.get().version == 4
    assert not Group.objects.exists()


def test_group_in_use_is_not_deleted(cast: Cast) -> None:
    group = create_group(cast.widgetcorp, actor=ACTOR, name="g", include=[EVERYONE])
    create_group(cast.widgetcorp, actor=ACTOR, name="outer", include=[group_rule(group)])
    create_policy(
        cast.widgetcorp, actor=ACTOR, name="p", decision="allow", include=[EVERYONE], exclude=[group_rule(group)]
    )
    with pytest.raises(Conflict, match='policy "p", group "outer"'):
        delete_group(group, actor=ACTOR)


def test_group_names_are_unique_inside_an_organization_only(cast: Cast) -> None:
    create_group(cast.widgetcorp, actor=ACTOR, name="g", include=[EVERYONE])
    create_group(cast.evilcorp, actor=ACTOR, name="g", include=[EVERYONE])
    with pytest.raises(Conflict):
        create_group(cast.widgetcorp, actor=ACTOR, name=" g ", include=[EVERYONE])


@pytest.mark.parametrize("name", ["", "  ", "x" * 351, "a\nb", "a\x1b[0m"])
def test_names(cast: Cast, name: str) -> None:
    with pytest.raises(DomainError):
        create_group(cast.widgetcorp, actor=ACTOR, name=name, include=[EVERYONE])


def test_checking_costs_few_queries_however_many_groups(cast: Cast) -> None:
    groups = [create_group(cast.widgetcorp, actor=ACTOR, name=str(n), include=[EVERYONE]) for n in range(30)]
    with CaptureQueriesContext(connection) as queries:
        check_rules(cast.widgetcorp, [group_rule(group) for group in groups], [], [])
    assert len(queries) <= 3
