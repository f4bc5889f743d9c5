"""Lists of addresses: actions, API, pages, and what a change does to people and live streams."""

from __future__ import annotations

from typing import Any

import pytest

from access.actions.groups import create_group
from access.actions.lists import create_list, delete_list, update_list, users_of
from access.actions.policies import create_policy
from access.models import AccessList
from accounts.audit import edge_version
from accounts.errors import Conflict, InvalidInput
from accounts.models import Organization
from tests.access.makers import ACTOR, CLIENT_IP, add_policy, make_application, make_session
from tests.access.test_authorize import ask, reasons, stream, with_token
from tests.controlplane.api_kit import make_api
from tests.factories import Cast
from tests.pages_kit import event_names, last_event, login, shown


def emails(organization: Organization, *values: str, name: str = "Contractors") -> AccessList:
    return create_list(organization, actor=ACTOR, name=name, type="EMAIL", items=[{"value": v} for v in values])


def networks(organization: Organization, *values: str) -> AccessList:
    return create_list(organization, actor=ACTOR, name="Offices", type="IP", items=[{"value": v} for v in values])


def rule(row: AccessList) -> dict[str, Any]:
    return {"email_list" if row.type == "EMAIL" else "ip_list": {"id": str(row.pk)}}


@pytest.mark.parametrize(
    ("kind", "value"),
    [("EMAIL", "no-at"), ("EMAIL", "a@b c"), ("EMAIL", ""), ("IP", "300.0.0.1"), ("IP", "192.0.2.1/24"), ("IP", "x")],
)
def test_entries_are_checked(cast: Cast, kind: str, value: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        create_list(cast.widgetcorp, actor=ACTOR, name="x", type=kind, items=[{"value": value}])
    assert "items" in refused.value.fields


def test_the_same_entry_twice_is_refused_whatever_its_spelling(cast: Cast) -> None:
    for kind, values in (("EMAIL", ["a@x.test", "A@X.test"]), ("IP", ["192.0.2.1", "192.0.2.1/32"])):
        with pytest.raises(InvalidInput, match="twice"):
            create_list(cast.widgetcorp, actor=ACTOR, name=kind, type=kind, items=[{"value": v} for v in values])


def test_email_list_lets_in_and_a_change_cuts_live_streams(cast: Cast) -> None:
    row = emails(cast.widgetcorp, "Alice@widgetcorp.test")
    application = make_application(cast.widgetcorp, include=[rule(row)], authority=False)
    session = make_session(cast.widgetcorp)
    assert with_token(application, session)["outcome"] == "allow"
    live = stream(application, session)
    assert reasons(live) == []
    before = edge_version()
    update_list(row, actor=ACTOR, remove=["alice@WIDGETCORP.test"])
    assert edge_version() > before, "edges must recheck"
    assert reasons(live) == ["email_not_allowed"]
    assert last_event(cast.widgetcorp).name == "access.list.updated"
    update_list(row, actor=ACTOR, append=[{"value": "alice@widgetcorp.test"}])
    assert reasons(live) == []


def test_unverified_email_is_on_no_list(cast: Cast) -> None:
    application = make_application(
        cast.widgetcorp, include=[rule(emails(cast.widgetcorp, "alice@widgetcorp.test"))], authority=False
    )
    session = make_session(cast.widgetcorp, email_verified=False)
    assert with_token(application, session)["reason"] == "email_not_verified"


def test_ip_list_counts_for_machines_too(cast: Cast) -> None:
    row = networks(cast.widgetcorp, "203.0.113.0/24", "2001:db8::/32")
    make_application(cast.widgetcorp, include=[rule(row)], decision="bypass", authority=False)
    assert ask()["outcome"] == "allow"
    assert ask(client_ip="2001:db8::1")["outcome"] == "allow"
    assert ask(client_ip="::ffff:203.0.113.9")["outcome"] == "allow"
    assert ask(client_ip="198.51.100.1")["outcome"] == "deny"


def test_a_list_in_a_group_counts(cast: Cast) -> None:
    row = networks(cast.widgetcorp, f"{CLIENT_IP}/32")
    group = create_group(cast.widgetcorp, actor=ACTOR, name="Offices", include=[rule(row)])
    application = make_application(cast.widgetcorp, authority=False)
    policy = application.policy_links.get().policy
    policy.require = [{"group": {"id": str(group.pk)}}]
    policy.save()
    session = make_session(cast.widgetcorp)
    assert with_token(application, session)["outcome"] == "allow"
    update_list(row, actor=ACTOR, items=[{"value": "198.51.100.0/24"}])
    assert reasons(stream(application, session)) == ["ip_not_allowed"]


def test_a_list_that_vanished_is_an_error_not_a_no(cast: Cast) -> None:
    """AC-81: a Block policy with an unreadable list must not let anybody pass by."""
    row = emails(cast.widgetcorp, "alice@widgetcorp.test")
    application = make_application(cast.widgetcorp, include=[rule(row)], decision="deny", authority=False)
    add_policy(application, include=[{"everyone": {}}])
    AccessList.objects.all().delete()
    assert with_token(application, make_session(cast.widgetcorp))["reason"] == "policy_error"


def test_delete_is_refused_while_used(cast: Cast) -> None:
    row = emails(cast.widgetcorp, "alice@widgetcorp.test")
    policy = create_policy(cast.widgetcorp, actor=ACTOR, name="Staff", decision="allow", include=[rule(row)])
    group = create_group(cast.widgetcorp, actor=ACTOR, name="Outside", include=[rule(row)])
    assert users_of(row) == ['policy "Staff"', 'group "Outside"']
    with pytest.raises(Conflict, match="Staff"):
        delete_list(row, actor=ACTOR)
    policy.delete()
    group.delete()
    delete_list(row, actor=ACTOR)
    assert "access.list.deleted" in event_names(cast.widgetcorp)


@pytest.mark.parametrize("foreign", [True, False])
def test_rules_name_own_lists_of_the_right_kind(cast: Cast, foreign: bool) -> None:
    organization = cast.evilcorp if foreign else cast.widgetcorp
    row = emails(organization, "alice@widgetcorp.test")
    body = {"email_list" if foreign else "ip_list": {"id": str(row.pk)}}
    with pytest.raises(InvalidInput, match="There is no"):
        create_policy(cast.widgetcorp, actor=ACTOR, name="x", decision="allow", include=[body])


def test_api(cast: Cast) -> None:
    api = make_api(cast.widgetcorp)
    path = f"{api.account}/gateway/lists"
    made = api.ok("POST", path, {"name": "Ops", "type": "EMAIL", "items": [{"value": "a@x.test", "description": "A"}]})
    assert (made["count"], made["items"][0]["value"]) == (1, "a@x.test")
    one = f"{path}/{made['id']}"
    assert api.ok("PATCH", one, {"append": [{"value": "b@x.test"}], "remove": ["A@x.test"]})["count"] == 1
    assert [item["value"] for item in api.ok("GET", f"{one}/items")] == ["b@x.test"]
    assert api.ok("PUT", one, {"name": "Operations"})["items"][0]["value"] == "b@x.test"
    assert [row["name"] for row in api.ok("GET", path)] == ["Operations"]
    api.refused("POST", path, {"name": "Bad", "type": "URL"}, status=400)
    api.refused("POST", path, {"name": "Operations", "type": "IP"}, status=409)
    api.ok("DELETE", one)
    other = make_api(cast.evilcorp)
    kept = emails(cast.widgetcorp, "a@x.test")
    for method, body in (("GET", None), ("PUT", {"name": "x"}), ("PATCH", {"remove": ["a@x.test"]}), ("DELETE", None)):
        other.refused(method, f"{other.account}/gateway/lists/{kept.pk}", body, status=404)
    assert len(AccessList.objects.get().items) == 1


def test_pages(cast: Cast) -> None:
    client = login(cast.erin)
    base = "/o/widgetcorp/access/lists/"
    sent = {"name": "Offices", "type": "IP", "items": "192.0.2.0/24 Lisbon\n\n2001:db8::/32\n"}
    assert client.post(f"{base}add/", sent).status_code == 302
    row = AccessList.objects.get()
    assert row.items == [{"value": "192.0.2.0/24", "description": "Lisbon"}, {"value": "2001:db8::/32"}]
    page = shown(client, base)
    assert "Offices" in page
    assert "192.0.2.0/24" in page
    edit = shown(client, f"{base}{row.pk}/edit/")
    assert "192.0.2.0/24 Lisbon" in edit
    response = client.post(f"{base}{row.pk}/edit/", {"name": "Offices", "items": "nonsense"})
    assert response.status_code == 422
    assert "nonsense" in response.content.decode()
    assert client.post(f"{base}{row.pk}/edit/", {"name": "Places", "items": "192.0.2.1"}).status_code == 302
    row.refresh_from_db()
    assert (row.name, row.type, row.items) == ("Places", "IP", [{"value": "192.0.2.1"}])
    assert client.post(f"{base}{row.pk}/delete/").status_code == 302
    assert not AccessList.objects.exists()
