"""SCIM 2.0: what a provider pushes, and what it does to identities, sessions, live streams and later logins."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import pytest

from access.authorize import recheck_streams
from accounts.actions.identities import disable_identity, enable_identity, record_login
from accounts.actions.scim_settings import refresh_scim_secret, set_scim
from accounts.audit import edge_version
from accounts.errors import Conflict, InvalidInput
from accounts.models import AccessSession, AuditEvent, Identity, IdentityProvider, ScimUpdate, ScimUser
from accounts.providers.base import LoginFailed
from tests.access.makers import ACTOR, CLIENT_IP, make_application, make_session
from tests.accounts.scim_kit import PATCH, Scim, make_scim
from tests.factories import Cast

ALICE = "alice@widgetcorp.test"
NOBODY = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def scim(cast: Cast) -> Scim:
    return make_scim(cast.widgetcorp)


def log_in(
    scim: Scim, email: str = ALICE, *, subject: str = "00u1", verified: bool = True, groups: Any = ()
) -> AccessSession:
    return record_login(
        scim.provider, subject=subject, email=email, email_verified=verified, name="", groups=groups, claims={},
        amr=[], ip=CLIENT_IP, country="", user_agent="", session_seconds=3600,
    )  # fmt: skip


def identity_of(session: AccessSession) -> Identity:
    return Identity.objects.get(pk=session.identity_id)


class TestDoor:
    def test_only_the_providers_own_secret_opens(self, cast: Cast, scim: Scim) -> None:
        other = make_scim(cast.widgetcorp, name="Entra")
        foreign = make_scim(cast.evilcorp)
        for secret in ("", "wrong", other.secret, foreign.secret):
            assert scim.send("GET", "/Users", secret=secret).status_code == 401
        assert scim.send("GET", "/Users").status_code == 200
        # Another tenant's provider below this team's domain, with its good secret: as unknown as any.
        foreign.host = cast.widgetcorp.team_domain
        foreign.refused("GET", "/Users", status=401)
        response = scim.send("GET", "/Users", secret="wrong")
        assert response["WWW-Authenticate"].startswith("Bearer")

    def test_a_new_secret_ends_the_old_one_and_disabling_ends_both(self, scim: Scim) -> None:
        fresh = refresh_scim_secret(scim.provider, actor=ACTOR)
        assert [scim.send("GET", "/Users", secret=secret).status_code for secret in (scim.secret, fresh)] == [401, 200]
        set_scim(scim.provider, actor=ACTOR, enabled=False)
        assert scim.send("GET", "/Users", secret=fresh).status_code == 401
        assert set_scim(scim.provider, actor=ACTOR, enabled=True) is None
        assert scim.send("GET", "/Users", secret=fresh).status_code == 200

    def test_wrong_secrets_are_limited_and_do_not_lock_out_other_addresses(self, scim: Scim) -> None:
        codes = [scim.send("GET", "/Users", secret="wrong").status_code for _ in range(62)]
        assert (codes[0], codes[-1]) == (401, 429)
        assert scim.send("GET", "/Users").status_code == 429
        assert scim.send("GET", "/Users", **{"Sallyport-Client-Ip": "198.51.100.9"}).status_code == 200

    def test_the_secret_is_nowhere(self, scim: Scim) -> None:
        scim.user(password="hunter2-hunter2")
        scim.patch(f"/Users/{ScimUser.objects.get().pk}", {"op": "replace", "path": "password", "value": "hunter3"})
        rows = [*AuditEvent.objects.values(), *ScimUpdate.objects.values(), *ScimUser.objects.values()]
        dump = json.dumps(rows, default=str) + json.dumps(list(IdentityProvider.objects.values()), default=str)
        assert scim.secret not in dump
        assert "hunter" not in dump

    def test_one_time_pin_has_none(self, cast: Cast) -> None:
        provider = IdentityProvider.objects.create(organization=cast.widgetcorp, type="onetimepin", name="PIN")
        with pytest.raises(InvalidInput, match="directory"):
            set_scim(provider, actor=ACTOR, enabled=True)


class TestUsers:
    def test_life_of_a_user(self, scim: Scim) -> None:
        made = scim.user(
            externalId="00u1",
            name={"givenName": "Alice", "familyName": "Example"},
            emails=[{"value": "old@x.test"}, {"value": "Alice@widgetcorp.test", "primary": True, "type": "work"}],
        )
        assert made["meta"]["version"] == 'W/"1"'
        assert made["meta"]["location"].endswith(f"/Users/{made['id']}")
        row = ScimUser.objects.get()
        assert (row.email, row.display_name, row.external_id) == (ALICE, "Alice Example", "00u1")
        path = f"/Users/{made['id']}"
        assert scim.ok("GET", path) == made
        replaced = scim.ok("PUT", path, {"userName": ALICE, "displayName": "A. Example", "active": False})
        assert (replaced["displayName"], replaced["active"], "externalId" in replaced) == ("A. Example", False, False)
        patched = scim.patch(path, {"op": "Replace", "value": {"active": "True", "name.givenName": "Al"}})
        assert (patched["active"], patched["meta"]["version"]) == (True, 'W/"3"')
        scim.ok("DELETE", path, status=204)
        scim.refused("GET", path, status=404)
        scim.refused("DELETE", path, status=404)
        names = [event.name for event in AuditEvent.objects.filter(name__startswith="accounts.scim").order_by("id")]
        assert names == [f"accounts.scim.user_{what}" for what in ("created", "changed", "changed", "deleted")]
        assert AuditEvent.objects.filter(name__startswith="accounts.scim").first().actor_label == "SCIM of Okta"  # type: ignore[union-attr]

    def test_an_unchanged_user_makes_no_event_and_no_version(self, scim: Scim) -> None:
        made = scim.user()
        before = AuditEvent.objects.count()
        same = scim.ok("PUT", f"/Users/{made['id']}", {"userName": ALICE, "active": True})
        assert same["meta"]["version"] == 'W/"1"'
        assert AuditEvent.objects.count() == before

    def test_only_true_activates(self, scim: Scim) -> None:
        path = f"/Users/{scim.user(active=False)['id']}"
        assert scim.ok("PUT", path, {"userName": ALICE, "displayName": "A"})["active"] is False
        body = {"Operations": [{"op": "remove", "path": "active"}]}
        assert scim.refused("PATCH", path, body, status=400)["scimType"] == "mutability"
        assert scim.ok("GET", path)["active"] is False

    def test_names_and_external_ids_are_unique_within_the_provider(self, cast: Cast, scim: Scim) -> None:
        scim.user(externalId="1")
        assert scim.refused("POST", "/Users", {"userName": ALICE.upper()}, status=409)["scimType"] == "uniqueness"
        assert scim.refused("POST", "/Users", {"userName": "x", "externalId": "1"}, status=409)
        make_scim(cast.widgetcorp, name="Entra").user(externalId="1")
        assert ScimUpdate.objects.filter(status=409).count() == 2

    @pytest.mark.parametrize(
        ("text", "names"),
        [
            ('userName eq "ALICE@widgetcorp.test"', ["alice"]),
            ('externalId eq "e-bob"', ["bob"]),
            ('displayName sw "Bo"', ["bob"]),
            ('emails.value co "elsewhere"', ["carol"]),
            ('emails[type eq "work"]', None),
            ("active eq false", ["carol"]),
            ('active eq true and not (userName sw "bob")', ["alice"]),
            ('userName sw "a" or userName sw "b"', ["alice", "bob"]),
            ('urn:ietf:params:scim:schemas:core:2.0:User:userName eq "bob@widgetcorp.test"', ["bob"]),
            ("externalId pr", ["bob"]),
            ('meta.lastModified gt "2020-01-01T00:00:00Z"', ["alice", "bob", "carol"]),
            ('id eq "nonsense"', []),
            ('displayName eq "K\u212a"', []),
            ('password eq "x"', None),
            ('resource__x eq "x"', None),
            ("userName", None),
            ('userName eq "', None),
            ('userName xx "a"', None),
            ("(" * 30 + 'userName eq "a"' + ")" * 30, None),
        ],
    )
    def test_filters(self, scim: Scim, text: str, names: list[str] | None) -> None:
        scim.user()
        scim.user("bob@widgetcorp.test", externalId="e-bob", displayName="Bob")
        scim.user("carol@elsewhere.test", active=False)
        if names is None:
            assert scim.refused("GET", f"/Users?filter={quote(text)}", status=400)["scimType"] == "invalidFilter"
            return
        found = scim.ok("GET", f"/Users?filter={quote(text)}")
        assert [user["userName"].partition("@")[0] for user in found["Resources"]] == names
        assert found["totalResults"] == len(names)

    def test_paging(self, scim: Scim) -> None:
        for number in range(5):
            scim.user(f"u{number}@widgetcorp.test")
        page = scim.ok("GET", "/Users?startIndex=2&count=2")
        assert (page["totalResults"], page["startIndex"], page["itemsPerPage"]) == (5, 2, 2)
        assert [user["userName"][:2] for user in page["Resources"]] == ["u1", "u2"]
        assert scim.ok("GET", "/Users?count=0")["Resources"] == []
        assert scim.ok("GET", "/Users?startIndex=-3&count=1")["startIndex"] == 1
        assert scim.ok("GET", "/Users?startIndex=99")["Resources"] == []
        scim.refused("GET", "/Users?count=x", status=400)
        only = scim.ok("GET", "/Users?attributes=userName&count=1")["Resources"][0]
        assert set(only) == {"schemas", "id", "meta", "userName"}

    @pytest.mark.parametrize(
        "body",
        [
            {},
            {"userName": ""},
            {"userName": 5},
            {"userName": "x" * 300},
            {"userName": "a\0b"},
            {"userName": "x", "active": "yes"},
            {"userName": "x", "active": 1},
            {"userName": "x", "emails": [5]},
            {"userName": "x", "name": "Alice"},
            {"userName": "x", "emails": [{"value": "x"}] * 21},
        ],
    )
    def test_bad_users(self, scim: Scim, body: dict[str, Any]) -> None:
        assert scim.refused("POST", "/Users", body, status=400)["scimType"] == "invalidValue"
        assert not ScimUser.objects.exists()

    def test_etags(self, scim: Scim) -> None:
        path = f"/Users/{scim.user()['id']}"
        assert scim.send("GET", path, **{"If-None-Match": 'W/"1"'}).status_code == 304
        off = {"op": "replace", "path": "active", "value": False}
        scim.patch(path, off, **{"If-Match": 'W/"1"'})
        body = {"schemas": [PATCH], "Operations": [{"op": "replace", "path": "active", "value": True}]}
        # An activation made for the older version arrives late: the deactivation stands.
        scim.refused("PATCH", path, body, status=412, **{"If-Match": 'W/"1"'})
        assert scim.ok("GET", path)["active"] is False

    def test_another_providers_user_is_unknown(self, cast: Cast, scim: Scim) -> None:
        theirs = make_scim(cast.evilcorp).user()
        neighbours = make_scim(cast.widgetcorp, name="Entra").user()
        for user in (theirs, neighbours):
            for method in ("GET", "PUT", "PATCH", "DELETE"):
                body = {"userName": "x", "Operations": [{"op": "replace", "path": "active", "value": False}]}
                scim.refused(method, f"/Users/{user['id']}", body, status=404)
            scim.refused("POST", "/Groups", {"displayName": "g", "members": [{"value": user["id"]}]}, status=400)
        assert set(ScimUser.objects.values_list("active", flat=True)) == {True}

    @pytest.mark.parametrize(
        ("method", "path", "status"),
        [
            ("GET", "/Nothing", 404),
            ("GET", "/Users/x", 404),
            ("GET", f"/Users/{NOBODY}/more", 404),
            ("DELETE", "/Users", 405),
            ("POST", f"/Users/{NOBODY}", 405),
            ("POST", "/Schemas", 405),
            ("POST", "/Bulk/more", 404),
            ("GET", "", 404),
        ],
    )
    def test_odd_addresses(self, scim: Scim, method: str, path: str, status: int) -> None:
        scim.refused(method, path, {}, status=status)


class TestDeactivation:
    def test_it_ends_sessions_and_streams_and_refuses_logins(self, cast: Cast, scim: Scim) -> None:
        made = scim.user(externalId="00u1")
        session = log_in(scim)
        application = make_application(cast.widgetcorp, authority=False)
        stream = {
            "stream_id": "s",
            "application_id": str(application.pk),
            "client_ip": CLIENT_IP,
            "session_nonce": session.nonce,
        }
        assert recheck_streams([stream]) == []
        version = edge_version()
        scim.patch(f"/Users/{made['id']}", {"op": "replace", "path": "active", "value": False})
        assert edge_version() > version
        assert recheck_streams([stream])[0]["reason"] == "session_revoked"
        identity = identity_of(session)
        assert identity.disabled_at is not None
        assert identity.disabled_by_scim
        with pytest.raises(LoginFailed, match="disabled"):
            log_in(scim)
        with pytest.raises(Conflict, match="activated there"):
            enable_identity(identity, actor=ACTOR)
        scim.patch(f"/Users/{made['id']}", {"op": "replace", "value": {"active": True}})
        assert log_in(scim).identity_id == identity.pk

    def test_what_an_administrator_disabled_stays_disabled(self, scim: Scim) -> None:
        made = scim.user(externalId="00u1")
        identity = log_in(scim).identity
        disable_identity(identity, actor=ACTOR)
        for active in (False, True):
            scim.patch(f"/Users/{made['id']}", {"op": "replace", "path": "active", "value": active})
        assert Identity.objects.get().disabled_at is not None

    def test_whom_the_provider_deactivated_can_be_held(self, scim: Scim) -> None:
        made = scim.user(externalId="00u1")
        identity = log_in(scim).identity
        scim.patch(f"/Users/{made['id']}", {"op": "replace", "path": "active", "value": False})
        identity.refresh_from_db()
        disable_identity(identity, actor=ACTOR)
        scim.patch(f"/Users/{made['id']}", {"op": "replace", "path": "active", "value": True})
        with pytest.raises(LoginFailed, match="disabled"):
            log_in(scim)
        with pytest.raises(Conflict, match="blocked already"):
            disable_identity(identity, actor=ACTOR)
        enable_identity(identity, actor=ACTOR)
        assert log_in(scim).identity_id == identity.pk

    def test_lifting_a_block_leaves_the_providers_word(self, scim: Scim) -> None:
        made = scim.user(externalId="00u1")
        identity = log_in(scim).identity
        disable_identity(identity, actor=ACTOR)
        scim.patch(f"/Users/{made['id']}", {"op": "replace", "path": "active", "value": False})
        enable_identity(identity, actor=ACTOR)
        assert (identity.disabled_at is not None, identity.is_blocked) == (True, False)
        with pytest.raises(LoginFailed, match="disabled"):
            log_in(scim)
        scim.patch(f"/Users/{made['id']}", {"op": "replace", "path": "active", "value": True})
        assert log_in(scim).identity_id == identity.pk

    def test_deletion_disables_and_a_new_user_enables_again(self, scim: Scim) -> None:
        made = scim.user(externalId="00u1")
        session = log_in(scim)
        scim.ok("DELETE", f"/Users/{made['id']}", status=204)
        assert identity_of(session).disabled_by_scim
        with pytest.raises(LoginFailed):
            log_in(scim)
        scim.user(externalId="00u1")
        assert log_in(scim)

    def test_before_the_first_login_too(self, scim: Scim) -> None:
        scim.user(externalId="00u1", active=False)
        with pytest.raises(LoginFailed, match="disabled"):
            log_in(scim)
        assert not Identity.objects.exists()

    def test_not_when_deprovisioning_is_off(self, cast: Cast) -> None:
        scim = make_scim(cast.widgetcorp, user_deprovision=False)
        made = scim.user(externalId="00u1")
        session = log_in(scim)
        scim.patch(f"/Users/{made['id']}", {"op": "replace", "path": "active", "value": False})
        assert AccessSession.objects.get(pk=session.pk).revoked_at is None
        assert log_in(scim)


class TestMatching:
    def test_by_external_id_whatever_the_address(self, scim: Scim) -> None:
        made = scim.user("someone@else.test", externalId="00u1")
        session = log_in(scim, verified=False)
        assert ScimUser.objects.get(pk=made["id"]).identity_id == session.identity_id

    def test_by_confirmed_address_only(self, scim: Scim) -> None:
        scim.user(externalId="not the subject")
        log_in(scim, verified=False)
        assert ScimUser.objects.get().identity_id is None
        session = log_in(scim, verified=True)
        assert ScimUser.objects.get().identity_id == session.identity_id

    def test_never_across_providers(self, cast: Cast, scim: Scim) -> None:
        made = scim.user(externalId="00u1")
        other = make_session(cast.widgetcorp, ALICE, provider=make_scim(cast.widgetcorp, name="Entra").provider)
        assert ScimUser.objects.get(pk=made["id"]).identity_id is None
        scim.patch(f"/Users/{made['id']}", {"op": "replace", "path": "active", "value": False})
        assert AccessSession.objects.get(pk=other.pk).revoked_at is None

    def test_an_identity_that_was_there_before(self, scim: Scim) -> None:
        session = log_in(scim)
        scim.user(externalId="00u1", active=False)
        assert identity_of(session).disabled_by_scim

    def test_two_people_of_one_address_are_not_guessed(self, scim: Scim) -> None:
        for number in (1, 2):
            scim.user(f"name{number}", emails=[{"value": ALICE}])
        log_in(scim)
        assert not ScimUser.objects.filter(identity__isnull=False).exists()

    def test_one_identity_is_one_user(self, scim: Scim) -> None:
        scim.user(externalId="00u1")
        log_in(scim)
        scim.user("alice2", externalId="x", emails=[{"value": ALICE}], active=False)
        assert Identity.objects.get().disabled_at is None


class TestGroups:
    def test_membership_is_what_policies_see(self, scim: Scim) -> None:
        alice = scim.user(externalId="00u1")
        session = log_in(scim, groups=["from login", "engineering"])
        group = scim.group("engineering")
        assert identity_of(session).groups == ["from login", "engineering"]
        path = f"/Groups/{group['id']}"
        added = scim.patch(path, {"op": "Add", "path": "members", "value": [{"value": alice["id"]}]})
        assert [member["value"] for member in added["members"]] == [alice["id"]]
        assert scim.ok("GET", f"/Users/{alice['id']}")["groups"][0]["display"] == "engineering"
        assert set(identity_of(session).groups) == {"from login", "engineering"}
        version = edge_version()
        removed = scim.patch(path, {"op": "remove", "path": f'members[value eq "{alice["id"]}"]'})
        assert "members" not in removed
        assert identity_of(session).groups == ["from login"]
        assert edge_version() > version
        # The next login does not bring it back.
        assert identity_of(log_in(scim, groups=["from login", "engineering"])).groups == ["from login"]

    def test_removal_cuts_streams_that_needed_the_group(self, cast: Cast, scim: Scim) -> None:
        alice = scim.user(externalId="00u1")
        group = scim.group("engineering", alice)
        rule = {"okta": {"name": "engineering", "identity_provider_id": str(scim.provider.pk)}}
        application = make_application(cast.widgetcorp, include=[rule], authority=False)
        session = log_in(scim)
        stream = {
            "stream_id": "s",
            "application_id": str(application.pk),
            "client_ip": CLIENT_IP,
            "session_nonce": session.nonce,
        }
        assert recheck_streams([stream]) == []
        scim.patch(f"/Groups/{group['id']}", {"op": "remove", "path": "members"})
        assert [cut["stream_id"] for cut in recheck_streams([stream])] == ["s"]
        assert AccessSession.objects.get(pk=session.pk).revoked_at is None

    def test_the_groups_claim_says_the_same(self, scim: Scim) -> None:
        """Rules of type "oidc" ask for the claim by its name."""
        alice = scim.user(externalId="00u1")
        group = scim.group("engineering", alice)
        session = record_login(
            scim.provider, subject="00u1", email=ALICE, email_verified=True, name="", groups=["engineering", "x"],
            claims={"groups": ["engineering", "x"], "team": 5}, amr=[], ip=CLIENT_IP, country="", user_agent="",
            session_seconds=3600,
        )  # fmt: skip
        assert set(identity_of(session).claims["groups"]) == {"engineering", "x"}
        scim.patch(f"/Groups/{group['id']}", {"op": "remove", "path": "members"})
        assert identity_of(session).claims == {"groups": ["x"], "team": 5}

    def test_rename_delete_and_replace(self, scim: Scim) -> None:
        alice, bob = scim.user(externalId="00u1"), scim.user("bob@widgetcorp.test", externalId="00u2")
        session = log_in(scim)
        group = scim.group("ops", alice)
        path = f"/Groups/{group['id']}"
        assert identity_of(session).groups == ["ops"]
        scim.patch(path, {"op": "replace", "value": {"displayName": "operations", "id": group["id"]}})
        assert identity_of(session).groups == ["operations"]
        scim.ok("PUT", path, {"displayName": "operations", "members": [{"value": bob["id"]}]})
        assert identity_of(session).groups == []
        scim.patch(path, {"op": "add", "value": {"members": [{"value": alice["id"]}]}})
        assert identity_of(session).groups == ["operations"]
        scim.ok("DELETE", path, status=204)
        assert identity_of(session).groups == []
        names = list(AuditEvent.objects.filter(name__startswith="accounts.scim.group").values_list("name", flat=True))
        assert len(names) == 5

    def test_groups_before_the_first_login(self, scim: Scim) -> None:
        scim.group("ops", scim.user(externalId="00u1"))
        assert identity_of(log_in(scim)).groups == ["ops"]

    def test_reauth_ends_sessions_and_no_action_leaves_groups_to_logins(self, cast: Cast) -> None:
        scim = make_scim(cast.widgetcorp, identity_update_behavior="reauth")
        alice = scim.user(externalId="00u1")
        session = log_in(scim)
        group = scim.group("ops", alice)
        session.refresh_from_db()
        assert session.revoked_at is not None
        set_scim(scim.provider, actor=ACTOR, enabled=True, identity_update_behavior="no_action")
        scim.provider.refresh_from_db()
        session = log_in(scim, groups=["ops"])
        scim.ok("PUT", f"/Groups/{group['id']}", {"displayName": "ops"})
        assert identity_of(session).groups == ["ops"]
        assert identity_of(log_in(scim, groups=["ops"])).groups == ["ops"]

    def test_deleting_a_user_takes_it_out_of_groups(self, scim: Scim) -> None:
        alice = scim.user(externalId="00u1")
        group = scim.group("ops", alice)
        session = log_in(scim)
        scim.ok("DELETE", f"/Users/{alice['id']}", status=204)
        assert identity_of(session).groups == []
        assert "members" not in scim.ok("GET", f"/Groups/{group['id']}")

    def test_entra_groups_are_known_by_their_object_id_too(self, scim: Scim) -> None:
        IdentityProvider.objects.update(type="azureAD")
        scim.group("Ops", scim.user(externalId="00u1"), externalId="object-id")
        scim.provider.refresh_from_db()
        assert identity_of(log_in(scim)).groups == ["Ops", "object-id"]

    @pytest.mark.parametrize(
        "operations",
        [
            [],
            [{"op": "dance", "path": "members"}],
            [{"op": "remove"}],
            [{"op": "add", "path": "members"}],
            [{"op": "add", "path": "members", "value": [{"value": "x"}]}],
            [{"op": "add", "path": "members", "value": [{"value": NOBODY}]}],
            [{"op": "remove", "path": 'members[display eq "x"]'}],
            [{"op": "replace", "path": "displayName", "value": ""}],
            [{"op": "replace", "path": "][", "value": ""}],
            ["x"],
        ],
    )
    def test_bad_patches_change_nothing(self, scim: Scim, operations: list[Any]) -> None:
        group = scim.group("ops", scim.user())
        scim.refused("PATCH", f"/Groups/{group['id']}", {"Operations": operations}, status=400)
        assert scim.ok("GET", f"/Groups/{group['id']}") == group


def test_updates_are_logged_with_their_outcome(scim: Scim) -> None:
    made = scim.user()
    scim.refused("PUT", f"/Users/{made['id']}", {}, status=400)
    scim.ok("DELETE", f"/Users/{made['id']}", status=204)
    rows = ScimUpdate.objects.order_by("created_at").values_list("method", "resource_type", "status", "resource_id")
    assert list(rows) == [
        ("POST", "USER", 201, made["id"]),
        ("PUT", "USER", 400, made["id"]),
        ("DELETE", "USER", 204, made["id"]),
    ]
