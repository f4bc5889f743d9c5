"""Until when a yes counts, and which changes make edges ask again. Real streams:
integration/streams/test_continuous.py."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import pytest
from django.db import DatabaseError
from django.utils import timezone

from access.actions.applications import delete_application, update_application
from access.actions.client_authorities import create_client_authority, delete_client_authority
from access.actions.consent import end_approval
from access.actions.groups import create_group, delete_group, update_group
from access.actions.lists import create_list, delete_list, update_list
from access.actions.policies import (
    attach_policy,
    create_policy,
    delete_policy,
    detach_policy,
    reorder_policies,
    update_policy,
)
from access.actions.service_tokens import (
    create_service_token,
    delete_service_token,
    rotate_service_token,
    set_service_token_enabled,
)
from access.authorize import AuthorizeRequest, as_json, authorize_request
from access.models import AccessRequest, Application, ApprovalRequest, ServiceToken
from access.recheck import recheck_document
from accounts.actions.identities import disable_identity, enable_identity, record_login
from accounts.actions.identity_providers import delete_provider
from accounts.actions.sessions import revoke_identity_sessions, revoke_session
from accounts.edge_models import EdgeChange
from accounts.models import AccessSession, IdentityProvider, Organization
from tests.access.makers import (
    ACTOR,
    CLIENT_IP,
    EVERYONE,
    HOSTNAME,
    add_policy,
    app_token,
    email_rule,
    make_application,
)
from tests.access.makers import make_session as session_of
from tests.access.test_authorize import stream
from tests.client_roots import Root
from tests.factories import Cast
from tests.tunnels.helpers import make_zone


# --- Which changes make edges ask again, and about whom ---------------------------------------------------------
def changed_at(organization: Organization) -> int:
    row = EdgeChange.objects.filter(organization=organization).first()
    return row.version if row is not None else 0


def log_in(provider: IdentityProvider, **changes: Any) -> AccessSession:
    given: dict[str, Any] = {
        "subject": "u1",
        "email": "dana@widgetcorp.test",
        "email_verified": True,
        "name": "Dana",
        "groups": ["engineering"],
        "claims": {"department": "R&D"},
        "amr": ["pwd"],
        "ip": CLIENT_IP,
        "country": "PT",
        "user_agent": "",
        "session_seconds": 3600,
    }
    return record_login(provider, **{**given, **changes})


class Office:
    """One of everything a change can be made to."""

    def __init__(self, cast: Cast) -> None:
        self.organization = cast.widgetcorp
        make_zone(cast.widgetcorp, cast.alice)
        self.application = make_application(cast.widgetcorp, authority=False)
        self.session = session_of(cast.widgetcorp)
        self.provider = self.session.identity.provider
        self.own = self.application.policy_links.get().policy
        given: Any = {"actor": ACTOR}
        self.reusable = create_policy(cast.widgetcorp, name="Shared", decision="allow", include=[EVERYONE], **given)
        self.attached = create_policy(cast.widgetcorp, name="Attached", decision="allow", include=[EVERYONE], **given)
        attach_policy(self.application, self.attached, actor=ACTOR)
        self.group = create_group(cast.widgetcorp, name="Team", include=[EVERYONE], actor=ACTOR)
        self.list = create_list(cast.widgetcorp, name="People", type="EMAIL", actor=ACTOR)
        self.token, _ = create_service_token(cast.widgetcorp, name="ci", actor=ACTOR)
        self.root = create_client_authority(
            cast.widgetcorp, name="Root", certificate=Root("R").pem(), now=timezone.now(), actor=ACTOR
        )
        self.approval = ApprovalRequest.objects.create(
            organization=cast.widgetcorp,
            application=self.application,
            policy=self.own,
            identity=self.session.identity,
            reason="Disk",
            duration_seconds=3600,
            status="approved",
            ends_at=timezone.now() + timedelta(hours=1),
        )
        self.approval.votes.create(organization=cast.widgetcorp, email="dora@widgetcorp.test", approves=True)


CHANGES: dict[str, Callable[[Office], object]] = {
    "policy created": lambda o: create_policy(
        o.organization, actor=ACTOR, name="New", decision="deny", include=[EVERYONE], application=o.application
    ),
    "policy edited": lambda o: update_policy(o.own, actor=ACTOR, include=[email_rule("x@y.test")]),
    "reusable policy edited": lambda o: update_policy(o.attached, actor=ACTOR, decision="deny"),
    "policy deleted": lambda o: delete_policy(o.own, actor=ACTOR),
    "policy attached": lambda o: attach_policy(o.application, o.reusable, actor=ACTOR),
    "policy detached": lambda o: detach_policy(o.application, o.attached, actor=ACTOR),
    "policies reordered": lambda o: reorder_policies(o.application, [o.attached.pk, o.own.pk], actor=ACTOR),
    "group edited": lambda o: update_group(o.group, actor=ACTOR, include=[email_rule("x@y.test")]),
    "group deleted": lambda o: delete_group(o.group, actor=ACTOR),
    "list edited": lambda o: update_list(o.list, actor=ACTOR, append=[{"value": "a@b.test"}]),
    "list deleted": lambda o: delete_list(o.list, actor=ACTOR),
    "identity disabled": lambda o: disable_identity(o.session.identity, actor=ACTOR),
    "session revoked": lambda o: revoke_session(o.session, actor=ACTOR),
    "all sessions revoked": lambda o: revoke_identity_sessions(o.session.identity, actor=ACTOR),
    "login method deleted": lambda o: delete_provider(o.provider, actor=ACTOR),
    "service token disabled": lambda o: set_service_token_enabled(o.token, enabled=False, actor=ACTOR),
    "service token rotated": lambda o: rotate_service_token(o.token, actor=ACTOR),
    "service token deleted": lambda o: delete_service_token(o.token, actor=ACTOR),
    "root deleted": lambda o: delete_client_authority(o.root, actor=ACTOR),
    "approval ended": lambda o: end_approval(o.approval, now=timezone.now(), actor=ACTOR),
    "hostname changed": lambda o: update_application(o.application, actor=ACTOR, domain="new.widgetcorp.localhost"),
    "application deleted": lambda o: delete_application(o.application, actor=ACTOR),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_edges_ask_again_after(cast: Cast, change: Callable[[Office], object]) -> None:
    office = Office(cast)
    before, others = changed_at(cast.widgetcorp), changed_at(cast.evilcorp)
    change(office)
    assert changed_at(cast.widgetcorp) > before
    assert changed_at(cast.evilcorp) == others, "another organization's streams are none of this change's business"


@pytest.mark.parametrize(
    ("changes", "asks"),
    [
        ({}, False),
        ({"name": "Dana D.", "groups": ["engineering"]}, False),
        ({"groups": []}, True),
        ({"email": "other@widgetcorp.test"}, True),
        ({"email_verified": False}, True),
        ({"claims": {"department": "Sales"}}, True),
    ],
)
def test_a_login_that_brings_other_facts_about_a_person(cast: Cast, changes: dict[str, Any], asks: bool) -> None:
    """Streams of earlier sessions rest on what the provider said before."""
    provider = session_of(cast.widgetcorp).identity.provider
    log_in(provider)
    before = changed_at(cast.widgetcorp)
    log_in(provider, **changes)
    assert (changed_at(cast.widgetcorp) > before) is asks


def test_enabling_again_is_told_too(cast: Cast) -> None:
    office = Office(cast)
    disable_identity(office.session.identity, actor=ACTOR)
    before = changed_at(cast.widgetcorp)
    enable_identity(office.session.identity, actor=ACTOR)
    assert changed_at(cast.widgetcorp) > before


# --- Ends that are known beforehand -----------------------------------------------------------------------------
def ask(**values: Any) -> Mapping[str, Any]:
    given = {"ray_id": "ray-9", "hostname": HOSTNAME, "path": "/", "client_ip": CLIENT_IP, "websocket": True}
    answer = as_json(authorize_request(AuthorizeRequest(**{**given, **values})))
    assert answer["outcome"] == "allow", answer
    return answer


def stream_of(answer: Mapping[str, Any], **values: Any) -> dict[str, Any]:
    kept = {key: answer[key] for key in ("application_id", "session_nonce", "destination", "evidence")}
    return {"stream_id": "s1", "service_token_id": None, "client_ip": CLIENT_IP, **kept, **values}


def again(stream: dict[str, Any]) -> tuple[list[str], float | None]:
    document = recheck_document([stream])
    return [cut["reason"] for cut in document["cut"]], document["ends_in_seconds"].get("s1")


def test_a_policys_own_session_duration_ends_streams_and_the_applications_does_not(cast: Cast) -> None:
    application = make_application(cast.widgetcorp, authority=False, session_duration_seconds=60)
    session = session_of(cast.widgetcorp)
    issued = timezone.now() - timedelta(seconds=30)
    token = app_token(application, session, now=issued)
    answer = ask(token=token, token_source="header")
    assert answer["ends_in_seconds"] is None
    assert again(stream_of(answer)) == ([], None)
    policy = application.policy_links.get().policy
    update_policy(policy, actor=ACTOR, session_duration_seconds=600)
    reasons, left = again(stream_of(answer))
    assert reasons == []
    assert left is not None
    assert 400 < left < 571
    assert 400 < ask(token=token, token_source="header")["ends_in_seconds"] < 571
    update_policy(policy, actor=ACTOR, session_duration_seconds=0)
    assert again(stream_of(answer)) == ([], None), '"immediate" is about new connections'
    update_policy(policy, actor=ACTOR, session_duration_seconds=60)
    old = ask(token=app_token(application, session, now=issued - timedelta(seconds=40)), token_source="header")
    assert again(stream_of(old)) == (["session_expired"], None)


def test_the_end_of_an_approval_is_told(cast: Cast) -> None:
    office = Office(cast)
    for link in office.application.policy_links.exclude(policy=office.own):
        link.delete()
    groups = [{"approvals_needed": 1, "email_addresses": ["dora@widgetcorp.test"]}]
    update_policy(office.own, actor=ACTOR, terms={"approval_required": True, "approval_groups": groups})
    answer = ask(token=app_token(office.application, office.session), token_source="header")
    assert 3590 < answer["ends_in_seconds"] <= 3600
    reasons, left = again(stream_of(answer))
    assert reasons == []
    assert left is not None
    assert 3590 < left <= 3600
    end_approval(office.approval, now=timezone.now(), actor=ACTOR)
    assert again(stream_of(answer)) == (["approval_required"], None)


@pytest.fixture
def machine(cast: Cast) -> tuple[Application, ServiceToken, str]:
    token, secret = create_service_token(cast.widgetcorp, name="ci", duration_seconds=7200, actor=ACTOR)
    rule = {"service_token": {"token_id": str(token.pk)}}
    return make_application(cast.widgetcorp, include=[rule], decision="non_identity", authority=False), token, secret


def test_a_service_tokens_end(machine: tuple[Application, ServiceToken, str]) -> None:
    _, token, secret = machine
    answer = ask(service_token_id=token.client_id, service_token_secret=secret)
    assert 7190 < answer["ends_in_seconds"] <= 7200
    stream = stream_of(answer, service_token_id=token.client_id)
    assert again(stream)[0] == []
    ServiceToken.objects.update(expires_at=timezone.now())
    assert again(stream) == (["service_token_expired"], None)


def test_a_replaced_secret_ends_its_streams_with_its_overlap(machine: tuple[Application, ServiceToken, str]) -> None:
    _, token, secret = machine
    old = stream_of(
        ask(service_token_id=token.client_id, service_token_secret=secret), service_token_id=token.client_id
    )
    fresh = rotate_service_token(token, actor=ACTOR, previous_expires_at=timezone.now() + timedelta(seconds=300))
    reasons, left = again(old)
    assert reasons == []
    assert left is not None
    assert left <= 300
    shown_old = ask(service_token_id=token.client_id, service_token_secret=secret)
    assert shown_old["ends_in_seconds"] <= 300
    new = ask(service_token_id=token.client_id, service_token_secret=fresh)
    assert new["ends_in_seconds"] > 7000
    ServiceToken.objects.update(previous_secret_expires_at=timezone.now())
    assert again(old) == (["service_token_rotated"], None)
    assert again(stream_of(shown_old, service_token_id=token.client_id)) == (["service_token_rotated"], None)
    assert again(stream_of(new, service_token_id=token.client_id))[0] == []


def test_a_stream_belongs_to_what_is_at_its_address_now(cast: Cast) -> None:
    wide = make_application(cast.widgetcorp, hostname="*.widgetcorp.test", authority=False)
    session = session_of(cast.widgetcorp)
    answer = ask(token=app_token(wide, session), token_source="header")
    stream = stream_of(answer, hostname=HOSTNAME, path="/")
    assert again(stream) == ([], None)
    narrow = make_application(cast.widgetcorp, hostname=HOSTNAME, path="/admin", name="Narrow", authority=False)
    assert again(stream) == ([], None)
    Application.objects.filter(pk=narrow.pk).update(path="")
    assert again(stream)[0] == ["hostname_changed"]


def test_a_cut_is_in_the_access_log_with_its_trace(cast: Cast) -> None:
    application = make_application(cast.widgetcorp, authority=False)
    session = session_of(cast.widgetcorp)
    answer = ask(token=app_token(application, session), token_source="header")
    policy = application.policy_links.get().policy
    update_policy(policy, actor=ACTOR, include=[email_rule("somebody@else.test")])
    (cut,) = recheck_document([stream_of(answer)])["cut"]
    entry = AccessRequest.objects.get(ray_id=cut["reference"])
    assert (entry.action, entry.allowed, entry.reason, entry.email) == (
        "cut",
        False,
        cut["reason"],
        session.identity.email,
    )
    assert "somebody@else.test" in json.dumps(entry.trace)
    revoke_session(session, actor=ACTOR)
    (again_cut,) = recheck_document([stream_of(answer)])["cut"]
    assert AccessRequest.objects.get(ray_id=again_cut["reference"]).reason == "session_revoked"
    delete_application(application, actor=ACTOR)
    (gone,) = recheck_document([stream_of(answer)])["cut"]
    assert (gone["reason"], gone["reference"]) == ("unknown_application", "")


def test_many_cuts_are_logged_at_once_and_a_log_that_fails_saves_nobody(
    cast: Cast, django_assert_max_num_queries: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The edge waits for the answer: a commit per stream would make it give up, and nobody would be cut."""
    application = make_application(cast.widgetcorp, include=[email_rule("somebody@else.test")], authority=False)
    sessions = [session_of(cast.widgetcorp, f"p{number}@widgetcorp.test") for number in range(60)]
    live = [{**stream(application, session), "stream_id": session.nonce} for session in sessions]
    with django_assert_max_num_queries(12):
        cuts = recheck_document(live)["cut"]
    entries = {entry.ray_id: entry.identity_id for entry in AccessRequest.objects.filter(action="cut")}
    assert [entries[cut["reference"]] for cut in cuts] == [session.identity_id for session in sessions]

    def fail(*_: object, **__: object) -> None:
        raise DatabaseError("the disk is full")

    monkeypatch.setattr(type(AccessRequest.objects.all()), "bulk_create", fail)
    cuts = recheck_document(live)["cut"]
    assert [(cut["stream_id"], cut["reference"]) for cut in cuts] == [(session.nonce, "") for session in sessions]


@pytest.mark.parametrize("text", ["x", "[]", '{"opened": 1}', '{"opened": {"issued": true, "secret": -1}}', "9" * 5000])
def test_evidence_that_is_not_ours_sets_no_end(cast: Cast, text: str) -> None:
    application = make_application(cast.widgetcorp, authority=False)
    add_policy(application, include=[EVERYONE], session_duration_seconds=60)
    session = session_of(cast.widgetcorp)
    answer = ask(token=app_token(application, session), token_source="header")
    assert json.loads(answer["evidence"])["opened"].keys() == {"issued"}
    assert again(stream_of(answer, evidence=text)) == ([], None)
