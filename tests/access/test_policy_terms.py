"""SSH rights, session durations, purpose and temporary access of policies: from the form to certificate and stream."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from django.core import mail
from django.utils import timezone

from access import tokens
from access.actions.policies import create_policy, update_policy
from access.models import AccessRequest, Application, ApprovalRequest, Certificate, Policy, PrincipalClaim
from access.terms import name_in
from accounts.actions.identities import disable_identity
from accounts.errors import InvalidInput
from accounts.models import AccessSession, AuditEvent, Identity, Organization
from dataplane.wire.names import COOKIE_AUTH
from tests.access.edge_client import HOST, TEAM, EdgeBrowser
from tests.access.login_flows import start_at_application
from tests.access.makers import ACTOR, EVERYONE, HOSTNAME, make_application, make_session, sign
from tests.access.test_authorize import reasons, stream, with_token
from tests.access.test_login_cli import Terminal
from tests.controlplane.api_kit import make_api
from tests.factories import Cast
from tests.pages_kit import login, shown


def set_terms(application: Application, **terms: Any) -> Policy:
    policy = application.policy_links.get().policy
    return update_policy(policy, actor=ACTOR, terms=terms)


def latest() -> Certificate:
    found = Certificate.objects.order_by("-created_at").first()
    assert found is not None
    return found


# --- SSH rights -----------------------------------------------------------------------------------------------
def test_named_account_is_shared_and_the_key_id_names_the_person(cast: Cast) -> None:
    """AC-15."""
    application = make_application(cast.widgetcorp)
    set_terms(application, ssh={"usernames": ["deploy", "root"]})
    for email in ("alice@widgetcorp.test", "bob@widgetcorp.test"):
        response = sign(application, make_session(cast.widgetcorp, email))
        assert response.status_code == 200, response.content
        assert latest().principals == ["deploy", "root"]
        assert latest().key_id == f"widgetcorp/ssh-bastion/{email}"
    assert PrincipalClaim.objects.filter(principal="deploy", shared=True).count() == 2


def test_same_address_at_two_login_methods_shares_an_account_but_no_key_id(cast: Cast) -> None:
    application = make_application(cast.widgetcorp)
    set_terms(application, ssh={"usernames": ["deploy"]})
    assert sign(application, make_session(cast.widgetcorp)).status_code == 200
    first = latest().key_id
    assert sign(application, make_session(cast.widgetcorp, subject="other")).status_code == 200
    assert latest().key_id != first


def test_a_shared_account_is_nobodys_own(cast: Cast) -> None:
    """AC-01: deploy@… does not become the shared account by another policy's default mapping."""
    application = make_application(cast.widgetcorp, include=[{"email": {"email": "alice@widgetcorp.test"}}])
    set_terms(application, ssh={"usernames": ["deploy"]})
    create_policy(
        cast.widgetcorp, actor=ACTOR, name="Others", decision="allow", include=[EVERYONE], application=application
    )
    response = sign(application, make_session(cast.widgetcorp, "deploy@widgetcorp.test"))
    assert (response.status_code, response.json()["reason"]) == (409, "principal_collision")
    assert AuditEvent.objects.filter(name="access.principal.collision").count() == 1


@pytest.mark.parametrize(
    ("claims", "pattern", "expected"),
    [
        ({"unix": "ada"}, "{}", ["ada"]),
        ({"unix": ["ada", "dba"]}, "{}", ["ada", "dba"]),
        ({"unix": ["ada@corp.tech", "ada@evil.tech"]}, "{}@corp.tech", ["ada"]),
        ({"unix": "uid=ada"}, "uid={}", ["ada"]),
        ({"unix": "root"}, "{}", "principal_reserved"),
        ({"unix": "a,b"}, "{}", "principal_invalid"),
        ({"unix": "Ada"}, "{}", "principal_invalid"),
        ({"unix": 5}, "{}", "principal_missing"),
        ({"unix": []}, "{}", "principal_missing"),
        ({}, "{}", "principal_missing"),
    ],
)
def test_accounts_from_a_claim(cast: Cast, claims: Any, pattern: str, expected: Any) -> None:
    application = make_application(cast.widgetcorp)
    set_terms(application, ssh={"username_claim": "unix", "username_pattern": pattern})
    response = sign(application, make_session(cast.widgetcorp, claims=claims))
    if isinstance(expected, str):
        assert response.json()["reason"] == expected
        return
    assert response.status_code == 200, response.content
    assert latest().principals == expected


def test_two_people_with_the_same_claim_collide(cast: Cast) -> None:
    application = make_application(cast.widgetcorp)
    set_terms(application, ssh={"username_claim": "unix"})
    assert sign(application, make_session(cast.widgetcorp, claims={"unix": "ada"})).status_code == 200
    second = make_session(cast.widgetcorp, "eve@widgetcorp.test", claims={"unix": "ada"})
    assert sign(application, second).json()["reason"] == "principal_collision"


def test_local_part_beside_a_named_account(cast: Cast) -> None:
    application = make_application(cast.widgetcorp)
    set_terms(application, ssh={"usernames": ["deploy"], "allow_email_alias": True})
    assert sign(application, make_session(cast.widgetcorp)).status_code == 200
    assert latest().principals == ["deploy", "alice"]
    assert sign(application, make_session(cast.widgetcorp, "a.b@widgetcorp.test")).status_code == 200
    assert latest().principals == ["deploy"], "a local part that is no account name is left out"
    response = sign(application, make_session(cast.widgetcorp, "alice@evil.test"))
    assert response.json()["reason"] == "principal_collision", "somebody else's name is an error even so"


def test_the_deciding_policys_rights_win(cast: Cast) -> None:
    application = make_application(
        cast.widgetcorp, certificate_lifetime_seconds=600, bastion_destinations=["10.0.0.0/8:22"]
    )
    ssh = {
        "certificate_lifetime_seconds": 90,
        "extensions": ["permit-pty"],
        "bastion_destinations": ["192.0.2.7:22", "192.0.2.8:22"],
    }
    set_terms(application, ssh=ssh)
    session = make_session(cast.widgetcorp)
    assert sign(application, session).status_code == 200
    row = latest()
    assert row.extensions == ["permit-pty"]
    assert row.valid_before - row.created_at < timedelta(seconds=91)
    assert with_token(application, session, destination="10.0.0.5:22")["reason"] == "destination_not_allowed"
    assert with_token(application, session, destination="192.0.2.7:22")["destination"] == "192.0.2.7:22"
    live = stream(application, session) | {"destination": "192.0.2.7:22"}
    assert reasons(live) == []
    set_terms(application, ssh={**ssh, "bastion_destinations": ["192.0.2.8:22"]})
    assert reasons(live) == ["destination_not_allowed"]
    set_terms(application, ssh=None)
    assert reasons(stream(application, session) | {"destination": "10.0.0.5:22"}) == []


@pytest.mark.parametrize(
    "ssh",
    [
        {"usernames": ["a,b"]},
        {"usernames": ["Root"]},
        {"usernames": ["1000"]},
        {"usernames": ["deploy", "deploy"]},
        {"usernames": [f"u{n}" for n in range(33)]},
        {"usernames": "deploy"},
        {"allow_email_alias": False},
        {"username_claim": "unix", "username_pattern": "no-placeholder"},
        {"username_claim": "unix", "username_pattern": "{}{}"},
        {"certificate_lifetime_seconds": 1},
        {"certificate_lifetime_seconds": 10**9},
        {"extensions": ["permit-everything"]},
        {"bastion_destinations": ["nonsense"]},
    ],
    ids=json.dumps,
)
def test_rights_are_checked_when_saved(cast: Cast, ssh: dict[str, Any]) -> None:
    application = make_application(cast.widgetcorp, authority=False)
    with pytest.raises(InvalidInput) as refused:
        set_terms(application, ssh=ssh)
    assert "ssh" in refused.value.fields


def test_patterns_are_literal() -> None:
    assert name_in("a.c", "{}.c") == "a"
    assert name_in("abc", "{}.c") is None
    assert name_in("@corp", "{}@corp") is None
    assert name_in("ab", "ab{}b") is None, "the text around the name must not overlap"


# --- Session duration -----------------------------------------------------------------------------------------
@pytest.mark.parametrize(("seconds", "lifetime"), [(900, 900), (0, 60), (None, 1800)])
def test_policy_session_duration_makes_the_tokens_life(cast: Cast, seconds: int | None, lifetime: int) -> None:
    application = make_application(cast.widgetcorp, hostname=HOST, authority=False, session_duration_seconds=1800)
    update_policy(application.policy_links.get().policy, actor=ACTOR, session_duration_seconds=seconds)
    session = make_session(cast.widgetcorp)
    browser = browser_of(session)
    answer = browser.get(start_at_application(browser, application))
    assert answer.status_code == 302, answer.content
    browser.get(answer["Location"])
    token = browser.cookie(HOST, COOKIE_AUTH)
    claims = tokens.verify(cast.widgetcorp, token, now=timezone.now(), audience=application.aud)
    assert claims.expires_at - claims.issued_at == lifetime


# --- Purpose --------------------------------------------------------------------------------------------------
def browser_of(session: AccessSession) -> EdgeBrowser:
    browser = EdgeBrowser()
    token = tokens.mint_organization_token(session, now=timezone.now())
    browser.set_cookie(TEAM, COOKIE_AUTH, token)
    return browser


def absolute(location: str) -> str:
    return location if location.startswith("https:") else f"https://{TEAM}{location}"


def test_purpose_is_asked_once_per_session_and_logged(cast: Cast) -> None:
    application = make_application(cast.widgetcorp, hostname=HOST, authority=False)
    set_terms(application, purpose_justification_required=True, purpose_justification_prompt="Ticket number?")
    session = make_session(cast.widgetcorp)
    browser = browser_of(session)
    url = start_at_application(browser, application, "/wanted")
    page = browser.get(url)
    assert "Ticket number?" in page.content.decode()
    assert not AccessRequest.objects.exists(), "a question is no decision"
    empty = browser.submit(url, page, containing='name="reason"', reason="  ")
    assert empty.status_code == 422
    assert "Ticket number?" in empty.content.decode()
    answer = browser.submit(url, page, containing='name="reason"', reason="INC-42 disk full")
    onward = browser.get(absolute(answer["Location"]))
    assert "/cdn-cgi/access/authorized" in onward["Location"]
    assert AccessRequest.objects.get(action="login").purpose == "INC-42 disk full"
    assert AuditEvent.objects.filter(name="access.purpose.stated").count() == 1
    again = browser.get(start_at_application(browser, application))
    assert "/cdn-cgi/access/authorized" in again["Location"], "not asked again in this session"
    other = browser_of(make_session(cast.widgetcorp))
    assert "Ticket number?" in other.get(start_at_application(other, application)).content.decode()


def test_purpose_by_command_line_and_connections_without_one(cast: Cast) -> None:
    application = make_application(cast.widgetcorp, hostname=HOST, authority=False)
    session = make_session(cast.widgetcorp)
    live = stream(application, session)
    assert reasons(live) == []
    set_terms(application, purpose_justification_required=True)
    assert reasons(live) == ["purpose_required"], "a running stream ends when the question is new"
    browser, terminal = browser_of(session), Terminal()
    link = browser.get(terminal.url(application.aud))["Location"]
    page = browser.get(link)
    answer = browser.submit(link, page, containing='name="reason"', reason="Deploy")
    back = browser.get(absolute(answer["Location"]))
    approve = browser.get(absolute(back["Location"]))
    assert "Approve" in approve.content.decode()
    browser.submit(absolute(back["Location"]), approve, decision="approve")
    found = terminal.poll()
    assert found is not None
    assert reasons(live) == []
    terminal.open(found)


# --- Temporary access -----------------------------------------------------------------------------------------
def person(organization: Organization, email: str, **fields: Any) -> AccessSession:
    return make_session(organization, email, **fields)


def approval_world(cast: Cast, groups: list[dict[str, Any]]) -> tuple[Application, AccessSession, EdgeBrowser, str]:
    application = make_application(cast.widgetcorp, hostname=HOST)
    set_terms(application, approval_required=True, approval_groups=groups)
    session = make_session(cast.widgetcorp)
    browser = browser_of(session)
    return application, session, browser, start_at_application(browser, application)


def ask_for_access(browser: EdgeBrowser, url: str, *, duration: str = "3600") -> ApprovalRequest:
    page = browser.get(url)
    assert page.status_code == 403
    answer = browser.submit(url, page, containing='name="reason"', reason="Fix the disk", duration=duration)
    assert answer.status_code == 303, answer.content
    waiting = browser.get(absolute(answer["Location"]))
    assert "Waiting for approval" in waiting.content.decode()
    return ApprovalRequest.objects.get()


def answer_as(session: AccessSession, asked: ApprovalRequest, decision: str) -> Any:
    browser = browser_of(session)
    url = f"https://{TEAM}/cdn-cgi/access/approvals/{asked.pk}"
    page = browser.get(url)
    if page.status_code != 200 or 'value="approve"' not in page.content.decode():
        return page
    return browser.submit(url, page, containing="approve", decision=decision)


def test_two_approvals_let_in_for_the_time_asked_and_then_cut(cast: Cast) -> None:
    groups = [
        {"approvals_needed": 2, "email_addresses": ["dora@widgetcorp.test", "eve@widgetcorp.test", "x@widgetcorp.test"]}
    ]
    application, session, browser, url = approval_world(cast, groups)
    assert with_token(application, session, hostname=HOST)["outcome"] == "login"
    assert sign(application, session).json()["reason"] == "approval_required"
    asked = ask_for_access(browser, url)
    assert sorted(message.to[0] for message in mail.outbox) == [
        "dora@widgetcorp.test",
        "eve@widgetcorp.test",
        "x@widgetcorp.test",
    ]
    assert str(asked.pk) in str(mail.outbox[0].body)
    assert "Fix the disk" in str(mail.outbox[0].body)
    assert (
        "Your answer is kept"
        in answer_as(person(cast.widgetcorp, "dora@widgetcorp.test"), asked, "approve").content.decode()
    )
    assert with_token(application, session, hostname=HOST)["outcome"] == "login", "one of two"
    answer_as(person(cast.widgetcorp, "eve@widgetcorp.test"), asked, "approve")
    asked.refresh_from_db()
    assert asked.status == "approved"
    assert mail.outbox[-1].to == ["alice@widgetcorp.test"]
    allowed = with_token(application, session, hostname=HOST)
    assert allowed["outcome"] == "allow"
    entry = AccessRequest.objects.get(allowed=True, action="connect")
    assert entry.approvers == ["dora@widgetcorp.test", "eve@widgetcorp.test"]
    live = stream(application, session)
    assert reasons(live) == []
    policy = application.policy_links.get().policy
    for left in (groups[0]["email_addresses"][:1], groups[0]["email_addresses"]):
        wanted = [{"approvals_needed": min(2, len(left)), "email_addresses": left}]
        update_policy(policy, actor=ACTOR, terms={"approval_groups": wanted})
        assert reasons(live) == [], "those left are enough"
    others = [{"approvals_needed": 2, "email_addresses": ["dora@widgetcorp.test", "x@widgetcorp.test"]}]
    update_policy(policy, actor=ACTOR, terms={"approval_groups": others})
    assert reasons(live) == ["approval_required"], "eve, who approved, is no approver any more"
    assert with_token(application, session, hostname=HOST)["outcome"] == "login"
    update_policy(policy, actor=ACTOR, terms={"approval_groups": groups})
    assert reasons(live) == []
    ApprovalRequest.objects.update(ends_at=timezone.now() - timedelta(seconds=1))
    assert reasons(live) == ["approval_required"]
    names = list(AuditEvent.objects.filter(name__startswith="access.approval").values_list("name", flat=True))
    assert sorted(names) == ["access.approval.given", "access.approval.granted", "access.approval.requested"]


def test_a_denial_decides(cast: Cast) -> None:
    groups = [{"approvals_needed": 1, "email_addresses": ["dora@widgetcorp.test", "eve@widgetcorp.test"]}]
    application, session, browser, url = approval_world(cast, groups)
    asked = ask_for_access(browser, url)
    answer_as(person(cast.widgetcorp, "dora@widgetcorp.test"), asked, "deny")
    assert "answered" in answer_as(person(cast.widgetcorp, "eve@widgetcorp.test"), asked, "approve").content.decode()
    asked.refresh_from_db()
    assert asked.status == "denied"
    assert with_token(application, session, hostname=HOST)["outcome"] == "login"
    assert "denied" in browser.get(url).content.decode()


@pytest.mark.parametrize(
    ("email", "fields"),
    [
        ("mallory@widgetcorp.test", {}),
        ("dora@widgetcorp.test", {"email_verified": False}),
        ("alice@widgetcorp.test", {}),
        ("alice@widgetcorp.test", {"subject": "alice-again"}),
    ],
)
def test_only_named_approvers_with_confirmed_addresses_and_never_oneself(
    cast: Cast, email: str, fields: dict[str, Any]
) -> None:
    addresses = ["dora@widgetcorp.test", "alice@widgetcorp.test"]
    _, _, browser, url = approval_world(cast, [{"approvals_needed": 1, "email_addresses": addresses}])
    asked = ask_for_access(browser, url)
    assert answer_as(person(cast.widgetcorp, email, **fields), asked, "approve").status_code == 403
    asked.refresh_from_db()
    assert asked.status == "pending"


def test_approval_page_of_another_tenant_is_not_there(cast: Cast) -> None:
    groups = [{"approvals_needed": 1, "email_addresses": ["dora@widgetcorp.test"]}]
    _, _, browser, url = approval_world(cast, groups)
    asked = ask_for_access(browser, url)
    stranger = EdgeBrowser()
    session = person(cast.evilcorp, "dora@widgetcorp.test")
    host = cast.evilcorp.team_domain
    stranger.set_cookie(host, COOKIE_AUTH, tokens.mint_organization_token(session, now=timezone.now()))
    assert stranger.get(f"https://{host}/cdn-cgi/access/approvals/{asked.pk}").status_code == 404


@pytest.mark.parametrize("duration", ["0", "299", "86401", "x", "9" * 9])
def test_time_is_bounded(cast: Cast, duration: str) -> None:
    _, _, browser, url = approval_world(cast, [{"approvals_needed": 1, "email_addresses": ["dora@widgetcorp.test"]}])
    page = browser.get(url)
    answer = browser.submit(url, page, containing='name="reason"', reason="x", duration=duration)
    assert answer.status_code == 422
    assert not ApprovalRequest.objects.exists()


# --- Continuous re-evaluation ---------------------------------------------------------------------------------
def test_identity_and_policy_changes_cut_with_a_reason(cast: Cast) -> None:
    application = make_application(cast.widgetcorp, authority=False)
    session = make_session(cast.widgetcorp)
    live = stream(application, session)
    assert reasons(live) == []
    policy = application.policy_links.get().policy
    update_policy(policy, actor=ACTOR, require=[{"auth_method": {"auth_method": "mfa"}}])
    assert reasons(live) == ["authentication_method_not_allowed"]
    AccessSession.objects.update(authentication_methods=["pwd", "mfa"])
    assert reasons(live) == []
    update_policy(policy, actor=ACTOR, require=[{"geo": {"country_code": "PT"}}])
    assert reasons(live) == ["policy_error"], "no country database: an error, not a no"
    provider = {"identity_provider_id": str(session.identity.provider_id)}
    update_policy(policy, actor=ACTOR, require=[{"github-organization": {"name": "widget", "team": "ops", **provider}}])
    assert reasons(live) == ["group_not_allowed"]
    Identity.objects.update(groups=["Widget", "Widget/Ops"])
    assert reasons(live) == []
    disable_identity(Identity.objects.get(), actor=ACTOR)
    assert len(reasons(live)) == 1


# --- API and form ---------------------------------------------------------------------------------------------
def test_api_keeps_and_shows_every_field(cast: Cast) -> None:
    api = make_api(cast.widgetcorp)
    body = {
        "name": "Ops",
        "decision": "allow",
        "include": [EVERYONE],
        "session_duration": "0s",
        "purpose_justification_required": True,
        "purpose_justification_prompt": "Why?",
        "approval_required": True,
        "approval_groups": [{"approvals_needed": 1, "email_addresses": ["dora@widgetcorp.test"]}],
        "connection_rules": {
            "ssh": {"usernames": ["deploy"], "allow_email_alias": False, "certificate_lifetime": "5m"},
        },
    }
    path = f"{api.account}/access/policies"
    made = api.ok("POST", path, body)
    assert made["session_duration"] == "0s"
    assert made["connection_rules"]["ssh"]["usernames"] == ["deploy"]
    assert made["connection_rules"]["ssh"]["certificate_lifetime"] == "5m"
    assert made["approval_groups"][0]["email_addresses"] == ["dora@widgetcorp.test"]
    assert made["purpose_justification_prompt"] == "Why?"
    again = api.ok("PUT", f"{path}/{made['id']}", {**body, "connection_rules": None, "approval_required": False})
    assert again["connection_rules"] is None
    api.refused("POST", path, {**body, "decision": "bypass"}, status=400)
    api.refused("POST", path, {**body, "isolation_required": True}, status=400)
    api.refused("POST", path, {**body, "approval_groups": []}, status=400)


def test_form_saves_every_field_without_script(cast: Cast) -> None:
    application = make_application(cast.widgetcorp, hostname=HOSTNAME, authority=False)
    client = login(cast.erin)
    base = f"/o/widgetcorp/access/applications/{application.pk}/policies/"
    sent = {
        "name": "Ops",
        "decision": "allow",
        "session_duration_seconds": "0",
        "rule-0-list": "include",
        "rule-0-selector": "auth_method",
        "rule-0-value": "mfa, hwk",
        "rule-1-list": "require",
        "rule-1-selector": "external_evaluation",
        "rule-1-value": "https://evaluator.example.com/ask",
        "rule-1-claim": "https://evaluator.example.com/keys",
        "purpose_justification_required": "on",
        "approval_required": "on",
        "approval_groups": "2: dora@widgetcorp.test, eve@widgetcorp.test",
        "ssh_own": "on",
        "ssh_usernames": "deploy\nubuntu",
        "ssh_username_pattern": "{}",
        "ssh_certificate_lifetime_seconds": "120",
        "ssh_destinations_own": "on",
        "ssh_bastion_destinations": "10.0.0.0/8:22",
        "step": "save",
    }
    response = client.post(f"{base}add/", sent)
    assert response.status_code == 302, response.content.decode()
    policy = Policy.objects.get(name="Ops")
    assert policy.include == [{"auth_method": {"auth_method": "mfa"}}, {"auth_method": {"auth_method": "hwk"}}]
    assert policy.require[0]["external_evaluation"]["keys_url"].endswith("/keys")
    assert (policy.session_duration_seconds, policy.purpose_justification_required) == (0, True)
    assert policy.approval_groups[0]["approvals_needed"] == 2
    assert policy.ssh is not None
    assert policy.ssh["usernames"] == ["deploy", "ubuntu"]
    assert policy.ssh["bastion_destinations"] == ["10.0.0.0/8:22"]
    assert policy.ssh["extensions"] is None
    page = shown(client, f"{base}{policy.pk}/edit/")
    for text in ("2: dora@widgetcorp.test, eve@widgetcorp.test", "10.0.0.0/8:22", "https://evaluator.example.com/keys"):
        assert text in page
    refused = client.post(f"{base}{policy.pk}/edit/", {**sent, "approval_groups": "dora"})
    assert refused.status_code == 422
