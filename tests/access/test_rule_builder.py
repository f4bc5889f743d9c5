"""The rule builder: several values in one row, values that are offered, and the sentence under the rules."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from access.actions.lists import create_list
from access.known_values import (
    CLAIM,
    CLAIM_VALUE,
    DOMAIN,
    EMAIL,
    MAX_OFFERED,
    METHOD,
    PROVIDER_GROUP,
    Wanted,
    known_values,
)
from access.models import AccessList, Policy
from access.policy_words import sentence
from access.rule_rows import MAX_FIELDS
from access.rule_text import RuleNames
from accounts.models import Identity, ScimGroup
from tests.access.makers import ACTOR
from tests.factories import Cast
from tests.pages_kit import login, shown, text_of
from tests.world import World, make_world


@pytest.fixture
def world(cast: Cast) -> World:
    return make_world(cast.widgetcorp, domain="widgetcorp.tech")


@pytest.fixture
def alice(cast: Cast) -> Client:
    return login(cast.alice)


def form(**rows: Any) -> dict[str, Any]:
    return {"name": "Engineers", "decision": "allow", "rule-0-list": "include", "step": "save", **rows}


def add_page(world: World) -> str:
    return reverse("application_policy_add", args=["widgetcorp", world.application.pk])


def words_of(page: str) -> str:
    found = re.search(r'id="policy-sentence">(.*?)</p>', page, re.DOTALL)
    assert found
    return unescape(found[1])


class TestSeveralValues:
    def test_each_field_of_a_row_is_a_rule(self, alice: Client, world: World) -> None:
        sent = form(**{"rule-0-selector": "geo", "rule-0-value": ["Portugal", "ES", "", "France"]})
        assert alice.post(add_page(world), sent).status_code == 302
        assert Policy.objects.get(name="Engineers").include == [
            {"geo": {"country_code": code}} for code in ("PT", "ES", "FR")
        ]

    def test_pasted_addresses_are_parted(self, alice: Client, world: World) -> None:
        pasted = "a@x.test b@x.test;c@x.test,\td@x.test"
        alice.post(add_page(world), form(**{"rule-0-selector": "email", "rule-0-value": [pasted, "e@x.test"]}))
        rules = Policy.objects.get(name="Engineers").include
        assert [rule["email"]["email"] for rule in rules] == [f"{name}@x.test" for name in "abcde"]

    def test_choices_may_be_several(self, alice: Client, cast: Cast, world: World) -> None:
        lists = [
            create_list(cast.widgetcorp, actor=ACTOR, name=name, type=AccessList.Type.EMAIL, items=[]) for name in "ab"
        ]
        sent = form(**{"rule-0-selector": "email_list", "rule-0-value": [str(row.pk) for row in lists]})
        page = text_of(alice.post(add_page(world), {**sent, "step": "refresh"}))
        for row in lists:
            assert f'<option value="{row.pk}" selected>{row.name}</option>' in page
        assert page.count('name="rule-0-value"') == 3
        alice.post(add_page(world), sent)
        rules = Policy.objects.get(name="Engineers").include
        assert rules == [{"email_list": {"id": str(row.pk)}} for row in lists]

    def test_one_value_is_taken_away(self, alice: Client, world: World) -> None:
        sent = form(**{"rule-0-selector": "geo", "rule-0-value": ["PT", "ES", "FR"], "step": "remove-row-0-value-1"})
        page = text_of(alice.post(add_page(world), sent))
        values = re.findall(r'name="rule-0-value" value="([^"]*)"', page)
        assert values == ["Portugal", "France", ""]

    @pytest.mark.parametrize("step", ["remove-row-0-value-9", "remove-row-7", "remove-row-", "remove-row-x-value-0"])
    def test_steps_that_name_nothing_change_nothing(self, alice: Client, world: World, step: str) -> None:
        sent = form(**{"rule-0-selector": "geo", "rule-0-value": ["PT", "ES"], "step": step, "name": ""})
        page = text_of(alice.post(add_page(world), sent))
        assert re.findall(r'name="rule-0-value" value="([^"]*)"', page) == ["Portugal", "Spain", ""]

    def test_many_values_share_a_field(self, alice: Client, world: World) -> None:
        many = [f"p{number}@x.test" for number in range(MAX_FIELDS + 1)]
        sent = form(**{"rule-0-selector": "email", "rule-0-value": many})
        page = text_of(alice.post(add_page(world), {**sent, "step": "refresh"}))
        assert "\n".join(many) + "</textarea>" in page
        alice.post(add_page(world), {**sent, "rule-0-value": "\n".join(many)})
        assert len(Policy.objects.get(name="Engineers").include) == len(many)


class TestOffers:
    def test_known_people_groups_and_claims_are_offered(self, alice: Client, world: World) -> None:
        provider = str(world.oidc.pk)
        Identity.objects.create(
            organization=world.organization,
            provider=world.oidc,
            subject="s",
            email="zoe@offers.test",
            groups=["night-shift"],
            claims={"team": "blue", "flags": [True, 7], "deep": {"not": "offered"}},
        )
        rows = {
            "rule-0-selector": "email",
            "rule-1-list": "include",
            "rule-1-selector": "okta",
            "rule-1-provider": provider,
            "rule-2-list": "include",
            "rule-2-selector": "oidc",
            "rule-2-provider": provider,
            "rule-2-claim": "team",
        }
        page = text_of(alice.post(add_page(world), form(**{**rows, "step": "refresh"})))
        for text in ("zoe@offers.test", "night-shift", "team", "blue"):
            assert f'<option value="{text}">' in page, text
        organization = world.organization
        assert known_values(organization, Wanted(CLAIM_VALUE, provider, "flags")).values == ["7", "true"]
        assert known_values(organization, Wanted(CLAIM_VALUE, provider, "deep")).values == []
        assert "night-shift" in known_values(organization, Wanted(CLAIM_VALUE, provider, "groups")).values
        assert "offers.test" in known_values(organization, Wanted(DOMAIN)).values
        assert known_values(organization, Wanted(METHOD), "mf").values == ["mfa"]

    def test_groups_of_scim_are_offered_before_anyone_of_them_logged_in(self, world: World) -> None:
        ScimGroup.objects.create(organization=world.organization, provider=world.oidc, display_name="Provisioned")
        assert (
            "Provisioned" in known_values(world.organization, Wanted(PROVIDER_GROUP, str(world.oidc.pk)), "prov").values
        )

    def test_offers_are_bounded_and_searched(self, alice: Client, world: World) -> None:
        Identity.objects.bulk_create(
            Identity(organization=world.organization, provider=world.oidc, subject=f"n{n}", email=f"n{n:03}@many.test")
            for n in range(MAX_OFFERED + 20)
        )
        known = known_values(world.organization, Wanted(EMAIL), "many.test")
        assert len(known.values) == MAX_OFFERED
        assert known.has_more
        address = reverse("policy_rule_values", args=["widgetcorp"])
        page = text_of(alice.get(address, {"kind": "email", "field": "rule-3-value", "rule-3-value": "N069@"}))
        assert page.strip() == '<option value="n069@many.test"></option>'
        assert "hx-get" in text_of(alice.post(add_page(world), form(**{"rule-0-selector": "email", "step": "refresh"})))

    @pytest.mark.parametrize(
        "asked", [{}, {"kind": "planet"}, {"kind": "group", "provider": "x"}, {"kind": "value", "claim": "a" * 5000}]
    )
    def test_odd_questions_have_no_answer(self, alice: Client, world: World, asked: dict[str, str]) -> None:
        response = alice.get(reverse("policy_rule_values", args=["widgetcorp"]), asked)
        assert response.status_code == 200
        assert text_of(response).strip() == ""

    def test_nothing_of_another_tenant_is_offered(self, cast: Cast, world: World) -> None:
        theirs = make_world(cast.evilcorp, domain="evilcorp.tech")
        Identity.objects.create(
            organization=cast.evilcorp,
            provider=theirs.oidc,
            subject="s",
            email="spy@evil.test",
            groups=["spies"],
            claims={"plan": "secret"},
        )
        provider = str(theirs.oidc.pk)
        for wanted in (
            Wanted(EMAIL),
            Wanted(DOMAIN),
            Wanted(PROVIDER_GROUP, provider),
            Wanted(CLAIM, provider),
            Wanted(CLAIM_VALUE, provider, "plan"),
        ):
            found = known_values(cast.widgetcorp, wanted).values
            assert not {"spy@evil.test", "evil.test", "spies", "plan", "secret"} & set(found), wanted


class TestSentence:
    def test_it_follows_the_form(self, alice: Client, cast: Cast, world: World) -> None:
        row = create_list(cast.widgetcorp, actor=ACTOR, name="Leavers", type=AccessList.Type.EMAIL, items=[])
        rows = {
            "rule-0-selector": "group",
            "rule-0-value": str(world.group.pk),
            "rule-1-list": "include",
            "rule-1-selector": "email",
            "rule-1-value": ["a@x.test", "b@x.test"],
            "rule-2-list": "require",
            "rule-2-selector": "geo",
            "rule-2-value": ["PT"],
            "rule-3-list": "require",
            "rule-3-selector": "auth_method",
            "rule-3-value": ["mfa"],
            "rule-4-list": "exclude",
            "rule-4-selector": "email_list",
            "rule-4-value": str(row.pk),
        }
        page = text_of(alice.post(add_page(world), form(**{**rows, "step": "refresh"})))
        assert words_of(page) == (
            "Lets in whoever belongs to the group Engineering, or has the e-mail a@x.test or b@x.test, if at the same "
            "time the person comes from Portugal, and logged in using mfa; but nobody who is in the e-mail list "
            "Leavers."
        )
        more = {"decision": "deny", "approval_required": "on"}
        assert words_of(text_of(alice.post(add_page(world), form(**{**rows, **more, "step": "refresh"})))).startswith(
            "Refuses whoever belongs to"
        )
        asking = {
            "approval_required": "on",
            "purpose_justification_required": "on",
            "mfa_mode": "required",
            "step": "refresh",
        }
        assert words_of(text_of(alice.post(add_page(world), form(**{**rows, **asking})))).endswith(
            "Everyone first gives a second factor, says what access is for and has it approved for a limited time."
        )

    def test_saved_policies_and_groups_have_one(self, alice: Client, world: World) -> None:
        edit = reverse("application_policy_edit", args=["widgetcorp", world.application.pk, world.policy.pk])
        assert words_of(shown(alice, edit)).startswith("Lets in ")
        group = reverse("group_edit", args=["widgetcorp", world.group.pk])
        assert words_of(shown(alice, group)).startswith("Holds for ")

    @pytest.mark.parametrize(
        ("decision", "include", "text"),
        [
            ("allow", [], "Matches nobody yet: there is no Include rule."),
            ("allow", [{"everyone": {}}], "Lets in everybody who can log in."),
            ("deny", [{"everyone": {}}], "Refuses everybody who logs in."),
            ("bypass", [{"everyone": {}}], "Lets in everything, without any check."),
            ("non_identity", [{"everyone": {}}], "Lets in every machine with a valid service token."),
            (
                "bypass",
                [{"ip": {"ip": "192.0.2.0/24"}}],
                "Lets in without login or any check every request that comes from 192.0.2.0/24.",
            ),
            ("", [{"group": {"id": "gone"}}], "Holds for whoever belongs to the group (deleted)."),
            ("allow", [{"planet": {}}], "Lets in whoever meets a rule that cannot be read (which refuses everybody)."),
            (
                "allow",
                [{"email": {"email": f"{letter}@x.test"}} for letter in "abcdefgh"],
                "Lets in whoever has the e-mail a@x.test, b@x.test, c@x.test, d@x.test or 4 more.",
            ),
        ],
    )
    def test_sentences(self, cast: Cast, decision: str, include: list[Any], text: str) -> None:
        assert sentence(RuleNames(cast.widgetcorp), {"include": include}, decision=decision) == text
