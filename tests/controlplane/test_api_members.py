"""Members and API tokens by API: no more than the token holds, and never an owner."""

from __future__ import annotations

import base64
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from accounts.actions.api_tokens import create_api_token, revoke_api_token
from accounts.actions.identities import record_login
from accounts.errors import AuthenticationFailed
from accounts.models import AccessSession, ApiToken, Identity, Invitation, Membership
from tests.controlplane.api_kit import ACTOR, ALL_SCOPES, Api, make_session
from tests.factories import Cast
from tests.pages_kit import last_event
from tests.world import PNG, make_world

pytestmark = pytest.mark.django_db


def token_of(cast: Cast, user: Any, scopes: list[str], **values: Any) -> Api:
    values = {"expires_at": None, **values}
    _, value = create_api_token(cast.widgetcorp, name="parent", scopes=scopes, user=user, actor=ACTOR, **values)
    return Api(cast.widgetcorp, value)


@pytest.fixture
def api(cast: Cast) -> Api:
    return token_of(cast, cast.alice, ALL_SCOPES)


def test_members_and_invitations(cast: Cast, api: Api) -> None:
    members = f"{api.account}/members"
    invited = api.ok("POST", members, {"email": "New@people.test", "roles": [{"id": "editor"}]})
    assert (invited["status"], invited["email"], invited["roles"][0]["id"]) == ("pending", "new@people.test", "editor")
    assert Invitation.objects.get().invited_by == cast.alice
    found = {row["email"]: row for row in api.ok("GET", members)}
    assert found["new@people.test"]["status"] == "pending" and found[cast.bob.email]["status"] == "accepted"
    assert api.ok("GET", f"{members}/{invited['id']}") == invited
    assert api.refused("PUT", f"{members}/{invited['id']}", {"roles": ["viewer"]}, status=409)
    api.ok("POST", f"{members}/{invited['id']}/resend")
    api.ok("DELETE", f"{members}/{invited['id']}")
    api.refused("GET", f"{members}/{invited['id']}", status=404)
    bob = found[cast.bob.email]["id"]
    assert api.ok("PUT", f"{members}/{bob}", {"roles": ["auditor"]})["roles"][0]["name"] == "Auditor"
    api.refused("PUT", f"{members}/{bob}", {"roles": ["emperor"]}, status=400)
    api.refused("POST", f"{members}/{bob}/resend", status=409)
    api.ok("DELETE", f"{members}/{bob}")
    assert not Membership.objects.filter(user=cast.bob, organization=cast.widgetcorp).exists()
    assert last_event(cast.widgetcorp).actor_kind == "api_token"


def test_roles_are_listed_with_what_they_may(api: Api) -> None:
    roles = {row["id"]: row for row in api.ok("GET", f"{api.account}/roles")}
    assert roles["viewer"]["permissions"]["access"] == {"read": True, "edit": False}
    assert roles["admin"]["permissions"]["members"] == {"read": True, "edit": True}


def test_owners_are_out_of_a_tokens_reach(cast: Cast, api: Api) -> None:
    members = f"{api.account}/members"
    alice = str(Membership.objects.get(user=cast.alice).pk)
    bob = str(Membership.objects.get(user=cast.bob, organization=cast.widgetcorp).pk)
    for method, path, body in (
        ("POST", members, {"email": "x@people.test", "roles": ["owner"]}),
        ("PUT", f"{members}/{bob}", {"roles": ["owner"]}),
        ("PUT", f"{members}/{alice}", {"roles": ["viewer"]}),
        ("DELETE", f"{members}/{alice}", None),
    ):
        assert api.refused(method, path, body, status=403)["reason"] == "owner_required"
    assert Membership.objects.get(pk=alice).role == "owner" and not Invitation.objects.exists()


def test_a_token_whose_maker_is_gone_invites_nobody(cast: Cast, api: Api) -> None:
    ApiToken.objects.update(created_by=None)
    error = api.refused("POST", f"{api.account}/members", {"email": "x@people.test", "roles": ["viewer"]}, status=403)
    assert "vouches" in error["message"]


class TestTokens:
    def test_made_listed_used_revoked(self, cast: Cast, api: Api) -> None:
        made = api.ok("POST", "/user/tokens", {"name": "nightly", "scopes": ["dns.edit"]})
        child = Api(cast.widgetcorp, made["value"])
        child.refused("POST", "/user/tokens", {"name": "x", "scopes": ["dns.edit"]}, status=403)
        child.refused("GET", f"{api.account}/access/apps", status=403)
        assert api.ok("GET", f"{api.account}/tokens/{made['id']}")["status"] == "active"
        assert "value" not in api.ok("GET", f"/user/tokens/{made['id']}")
        assert {row["name"] for row in api.ok("GET", "/user/tokens")} == {"parent", "nightly"}
        api.ok("DELETE", f"{api.account}/tokens/{made['id']}")
        child.refused("GET", "/user/tokens/verify", status=401)

    def test_no_more_than_the_token_that_makes_it(self, cast: Cast) -> None:
        soon = timezone.now() + timedelta(days=3)
        parent = token_of(cast, cast.alice, ["tokens.edit", "dns.read"], expires_at=soon)
        wide = parent.refused("POST", "/user/tokens", {"name": "x", "scopes": ["dns.edit"]}, status=403)
        assert wide["reason"] == "scope_beyond_token"
        for expiry in ({}, {"expires_on": (soon + timedelta(days=1)).isoformat()}, {"expires_on": "2099-01-01T00:00"}):
            parent.refused("POST", "/user/tokens", {"name": "x", "scopes": ["dns.read"], **expiry}, status=400)
        until = {"expires_on": (soon - timedelta(days=1)).isoformat()}
        parent.ok("POST", "/user/tokens", {"name": "x", "scopes": ["dns.read"], **until})

    def test_those_made_with_a_token_end_with_it(self, cast: Cast, api: Api) -> None:
        child = api.ok("POST", "/user/tokens", {"name": "child", "scopes": ["tokens.edit", "dns.read"]})
        second = Api(cast.widgetcorp, child["value"])
        grandchild = second.ok("POST", "/user/tokens", {"name": "grandchild", "scopes": ["dns.read"]})
        other = token_of(cast, cast.alice, ["tokens.edit"])
        parent = ApiToken.objects.filter(name="parent").order_by("created_at").first()
        assert parent is not None
        other.ok("DELETE", f"/user/tokens/{parent.pk}")
        for value in (api.token, child["value"], grandchild["value"]):
            Api(cast.widgetcorp, value).refused("GET", "/user/tokens/verify", status=401)
        assert last_event(cast.widgetcorp).new == {"revoked_with_it": ["child", "grandchild"]}
        other.ok("GET", "/user/tokens/verify")

    def test_a_token_that_was_revoked_meanwhile_makes_no_other(self, cast: Cast) -> None:
        """Its bearer was let in just before: what it makes now would be missed by the revocation."""
        parent, _ = create_api_token(
            cast.widgetcorp, name="stolen", scopes=["tokens.edit"], user=cast.alice, expires_at=None, actor=ACTOR
        )
        revoke_api_token(ApiToken.objects.get(pk=parent.pk), actor=ACTOR)
        with pytest.raises(AuthenticationFailed):
            create_api_token(
                cast.widgetcorp,
                name="child",
                scopes=["tokens.edit"],
                user=cast.alice,
                expires_at=None,
                made_with=parent,
                actor=ACTOR,
            )
        assert not ApiToken.objects.filter(name="child").exists()


def test_users_switched_off_and_on_and_one_session_ended(cast: Cast, api: Api) -> None:
    world = make_world(cast.widgetcorp, domain="widgetcorp.tech")
    users = f"{api.account}/access/users"
    user = f"{users}/{world.identity.pk}"
    other = make_session(world.pin, email=world.identity.email)
    api.ok(
        "POST",
        f"{api.account}/access/organizations/revoke_user",
        {"email": world.identity.email, "user_uid": str(other.identity_id)},
    )
    assert (
        AccessSession.objects.get(pk=other.pk).revoked_at
        and not AccessSession.objects.get(pk=world.session.pk).revoked_at
    )
    api.ok("DELETE", f"{user}/active_sessions/{world.session.nonce}")
    api.refused("DELETE", f"{user}/active_sessions/{world.session.nonce}", status=409)
    assert api.ok("PUT", user, {"disabled": True, "email": world.identity.email})["disabled"] is True
    assert api.ok("PUT", user, {"disabled": False, "name": world.identity.name})["disabled"] is False
    api.refused("PUT", user, {"email": "other@people.test"}, status=400)
    assert Identity.objects.get(pk=world.identity.pk).email == "carol@people.test"


def test_the_logo(cast: Cast, api: Api) -> None:
    logo = f"{api.account}/access/organizations/logo"
    assert len(api.ok("PUT", logo, {"content": base64.b64encode(PNG).decode()})["digest"]) == 16
    api.refused("PUT", logo, {"content": base64.b64encode(b"no picture").decode()}, status=400)
    api.refused("PUT", logo, {"content": "?"}, status=400)
    assert api.ok("DELETE", logo) == {"digest": ""}


def test_users_before_their_first_login(cast: Cast, api: Api) -> None:
    world = make_world(cast.widgetcorp, domain="widgetcorp.tech")
    users = f"{api.account}/access/users"
    made = api.ok("POST", users, {"email": "New@People.test", "name": "Nina"})
    assert (made["email"], made["last_successful_login"], made["access_seat"]) == ("new@people.test", None, False)
    row = Identity.objects.get(pk=made["id"])
    assert (row.provider, row.subject, row.email_verified) == (world.pin, "new@people.test", False)
    api.refused("POST", users, {"email": "new@people.test"}, status=409)
    api.refused("POST", users, {"email": "no address"}, status=400)
    oidc = {"email": "nina@people.test", "identity_provider_id": str(world.oidc.pk)}
    assert "subject" in api.refused("POST", users, oidc, status=400)["fields"]
    other = api.ok("POST", users, {**oidc, "subject": "00u1"})
    assert Identity.objects.get(pk=other["id"]).subject == "00u1"
    # Their first login is the same person.
    session = record_login(
        world.oidc,
        subject="00u1",
        email="nina@people.test",
        email_verified=True,
        name="Nina",
        groups=[],
        claims={},
        amr=[],
        ip=None,
        country="",
        user_agent="",
        session_seconds=60,
    )
    assert str(session.identity_id) == other["id"]
    assert api.refused("DELETE", f"{users}/{other['id']}", status=409)["reason"] == "identity_in_use"
    api.ok("DELETE", f"{users}/{made['id']}")
    assert last_event(cast.widgetcorp).name == "accounts.identity.deleted"
    api.refused("GET", f"{users}/{made['id']}", status=404)
    world.pin.__class__.objects.filter(pk=world.pin.pk).update(deleted_at=timezone.now())
    api.refused("POST", users, {"email": "third@people.test"}, status=400)
