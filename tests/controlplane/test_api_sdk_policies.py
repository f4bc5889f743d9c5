"""The unmodified `cloudflare` package with lists, client certificate authorities and the terms of policies."""

from __future__ import annotations

from typing import Any

import cloudflare
import pytest
from cloudflare import Cloudflare

from access.models import AccessList, Policy
from accounts.models import Organization
from tests.client_roots import Root
from tests.controlplane.api_kit import event_names
from tests.controlplane.test_api_sdk import base_url, client, lenient, make_zone, organization, server_cast

__all__ = ["base_url", "client", "lenient", "organization", "server_cast"]


def test_lists(client: Cloudflare, organization: Organization) -> None:
    lists, account = client.zero_trust.gateway.lists, organization.id
    made = lists.create(account_id=account, name="Ops", type="EMAIL", items=[{"value": "a@x.example"}])
    assert made is not None
    assert made.id is not None
    changed = lists.edit(made.id, account_id=account, append=[{"value": "b@x.example"}], remove=["a@x.example"])
    assert changed is not None
    assert changed.count == 1
    assert [item.value for item in lists.items.list(made.id, account_id=account)] == ["b@x.example"]
    assert [row.name for row in lists.list(account_id=account)] == ["Ops"]
    found = lists.get(made.id, account_id=account)
    assert found is not None
    assert found.name == "Ops"
    lists.update(made.id, account_id=account, name="Operations")
    lists.delete(made.id, account_id=account)
    assert not AccessList.objects.exists()


def test_certificates(client: Cloudflare, organization: Organization) -> None:
    account, certificates = organization.id, client.zero_trust.access.certificates
    make_zone(client, account)
    host = "ssh.widgetcorp.example"
    made = certificates.create(
        account_id=account, name="Machines", certificate=Root("Machines").pem(), associated_hostnames=[host]
    )
    assert made is not None
    assert made.id is not None
    assert made.associated_hostnames == [host]
    changed = certificates.update(made.id, account_id=account, associated_hostnames=[])
    assert changed is not None
    assert changed.associated_hostnames == []
    assert [row.id for row in certificates.list(account_id=account)] == [made.id]
    certificates.delete(made.id, account_id=account)


def test_policy_terms(lenient: Cloudflare, organization: Organization) -> None:
    made = lenient.zero_trust.access.policies.create(
        account_id=organization.id,
        name="Ops",
        decision="allow",
        include=[{"everyone": {}}],
        session_duration="30m",
        purpose_justification_required=True,
        purpose_justification_prompt="Why?",
        approval_required=True,
        approval_groups=[{"approvals_needed": 1, "email_addresses": ["dora@x.example"]}],
        extra_body={"connection_rules": {"ssh": {"usernames": ["deploy"], "allow_email_alias": False}}},
    )
    assert made is not None
    assert made.approval_groups is not None
    assert made.approval_groups[0].email_addresses == ["dora@x.example"]
    assert (made.session_duration, made.purpose_justification_prompt) == ("30m", "Why?")
    row = Policy.objects.get()
    assert row.ssh is not None
    assert row.ssh["usernames"] == ["deploy"]


def test_tags(client: Cloudflare, organization: Organization) -> None:
    access, account = client.zero_trust.access, organization.id
    make_zone(client, account)
    made = access.tags.create(account_id=account, name="databases")
    assert made is not None
    app = access.applications.create(
        account_id=account, type="self_hosted", name="SSH", domain="ssh.widgetcorp.example", tags=["databases"]
    )
    assert app.tags == ["databases"]
    renamed = access.tags.update("databases", account_id=account, name="stores")
    assert renamed is not None
    assert renamed.name == "stores"
    assert [tag.name for tag in access.tags.list(account_id=account)] == ["stores"]
    found = access.tags.get("stores", account_id=account)
    assert found is not None
    deleted = access.tags.delete("stores", account_id=account)
    assert deleted is not None
    assert deleted.name == "stores"
    assert access.applications.get(app.id or "", account_id=account).tags == []


def test_make_reusable(client: Cloudflare, organization: Organization) -> None:
    """The package has no method for it, but takes a path."""
    access, account = client.zero_trust.access, organization.id
    make_zone(client, account)
    app = access.applications.create(
        account_id=account,
        type="self_hosted",
        name="SSH",
        domain="ssh.widgetcorp.example",
        policies=[{"name": "Own", "decision": "allow", "include": [{"everyone": {}}]}],
    )
    policy = (app.policies or [])[0].id or ""
    path = f"/accounts/{account}/access/apps/{app.id}/policies/{policy}/make_reusable"
    for _ in range(2):
        answer = client.put(path, cast_to=dict[str, Any])
        assert answer["result"]["reusable"] is True
    assert event_names(organization).count("access.policy.made_reusable") == 1
    assert access.policies.get(policy, account_id=account).app_count == 1
    other = access.applications.create(
        account_id=account,
        type="self_hosted",
        name="SSH 2",
        domain="ssh2.widgetcorp.example",
        policies=[{"id": policy}],
    )
    assert [item.id for item in other.policies or []] == [policy]
    assert [item.id for item in access.applications.get(app.id or "", account_id=account).policies or []] == [policy]


def test_custom_pages(client: Cloudflare, organization: Organization) -> None:
    pages, account = client.zero_trust.access.custom_pages, organization.id
    make_zone(client, account)
    made = pages.create(account_id=account, name="Sorry", type="identity_denied", custom_html="<p onclick=x>No</p>")
    assert made is not None
    assert made.uid is not None
    assert [warning.tier for warning in made.warnings or []] == ["html"]
    app = client.zero_trust.access.applications.create(
        account_id=account,
        type="self_hosted",
        name="SSH",
        domain="ssh.widgetcorp.example",
        custom_pages=[made.uid],
        custom_deny_url="https://help.example/",
    )
    assert app.custom_pages == [made.uid]
    with pytest.raises(cloudflare.ConflictError):
        pages.delete(made.uid, account_id=account)
    changed = pages.update(
        made.uid, account_id=account, name="Sorry 2", type="identity_denied", custom_html="<p>No</p>"
    )
    assert changed is not None
    assert changed.name == "Sorry 2"
    found = pages.get(made.uid, account_id=account)
    assert found is not None
    assert found.custom_html == "<p>No</p>"
    assert [page.uid for page in pages.list(account_id=account)] == [made.uid]
    shown = client.zero_trust.organizations.update(account_id=account, custom_pages={"identity_denied": made.uid})
    assert shown is not None
    assert shown.custom_pages is not None
    assert shown.custom_pages.identity_denied == made.uid


def test_certificate_settings(client: Cloudflare, organization: Organization) -> None:
    settings, account = client.zero_trust.access.certificates.settings, organization.id
    make_zone(client, account)
    host = "ssh.widgetcorp.example"
    one: Any = {"hostname": host, "china_network": False, "client_certificate_forwarding": True}
    changed = settings.update(account_id=account, settings=[one])
    assert [row.hostname for row in changed] == [host]
    assert [row.client_certificate_forwarding for row in settings.get(account_id=account)] == [True]
