"""Certificates for service tokens: what CI jobs get, what they never get, and how it ends."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.db import IntegrityError, transaction
from django.http import HttpResponse
from django.test import Client
from django.utils import timezone

from access.actions.certificates import revocation_list
from access.actions.policies import update_policy
from access.actions.principals import release_principal
from access.actions.service_tokens import (
    create_service_token,
    delete_service_token,
    rotate_service_token,
    set_service_token_enabled,
)
from access.models import AccessRequest, Application, Certificate, PrincipalClaim, ServiceToken
from access.recheck import recheck_streams
from access.terms import SshRights
from accounts.errors import InvalidInput
from accounts.models import AuditEvent
from tests.access.makers import (
    ACTOR,
    CLIENT_IP,
    EVERYONE,
    add_policy,
    email_rule,
    make_application,
    make_session,
    public_key_line,
    sign,
)
from tests.factories import Cast


def machine_sign(
    application: Application, token: ServiceToken, secret: str, *, body: dict[str, Any] | None = None, key: str = ""
) -> HttpResponse:
    return Client().post(
        "/cdn-cgi/access/cert_sign",
        json.dumps({"public_key": key or public_key_line(), "aud": application.aud} if body is None else body),
        content_type="application/json",
        HTTP_HOST=application.organization.team_domain,
        HTTP_SALLYPORT_EDGE_TOKEN=settings.EDGE_TOKEN,
        HTTP_SALLYPORT_CLIENT_IP=CLIENT_IP,
        HTTP_SALLYPORT_RAY="ray-ci",
        HTTP_CF_ACCESS_CLIENT_ID=token.client_id,
        HTTP_CF_ACCESS_CLIENT_SECRET=secret,
    )


@pytest.fixture
def token(cast: Cast) -> tuple[ServiceToken, str]:
    return create_service_token(cast.widgetcorp, actor=ACTOR, name="CI: deploy")


@pytest.fixture
def application(cast: Cast, token: tuple[ServiceToken, str]) -> Application:
    rule = {"service_token": {"token_id": str(token[0].pk)}}
    made = make_application(cast.widgetcorp, include=[rule], decision="non_identity")
    made.policy_links.get().policy.__class__.objects.filter(application_links__application=made).update(
        ssh=SshRights(usernames=("deploy",), allow_email_alias=False).as_dict()
    )
    add_policy(made, include=[EVERYONE])
    return made


def refused(response: HttpResponse, status: int, reason: str) -> None:
    assert response.status_code == status, response.content
    assert json.loads(response.content)["reason"] == reason
    assert not Certificate.objects.exists()


def test_a_policy_names_the_account_and_the_key_id_names_the_token(
    application: Application, token: tuple[ServiceToken, str]
) -> None:
    response = machine_sign(application, *token)
    assert response.status_code == 200, response.content
    row = Certificate.objects.get(pk=json.loads(response.content)["id"])
    assert (row.status, row.principals, row.identity_id, row.service_token) == ("issued", ["deploy"], None, token[0])
    assert row.key_id == f"widgetcorp/ssh-bastion/CI-deploy+{token[0].client_id}"
    entry = AccessRequest.objects.get(action="certificate")
    assert (entry.allowed, entry.email, entry.connection, entry.ray_id) == (
        True,
        "CI: deploy",
        "service_token",
        "ray-ci",
    )
    event = AuditEvent.objects.get(name="access.certificate.approved")
    assert (event.actor_kind, event.actor_label) == ("service_token", "CI: deploy")
    assert token[1] not in json.dumps(event.new)
    token[0].refresh_from_db()
    assert token[0].last_used_at is not None


def test_a_hostname_names_the_application_too(application: Application, token: tuple[ServiceToken, str]) -> None:
    body = {"public_key": public_key_line(), "hostname": application.hostname.upper()}
    assert machine_sign(application, *token, body=body).status_code == 200


def test_refusals(cast: Cast, application: Application, token: tuple[ServiceToken, str]) -> None:
    refused(machine_sign(application, token[0], "wrong"), 401, "service_token_invalid")
    refused(machine_sign(application, token[0], ""), 401, "service_token_invalid")
    key = public_key_line()
    refused(machine_sign(application, *token, body={"public_key": key}), 400, "invalid_request")
    refused(machine_sign(application, *token, body={"public_key": key, "aud": "0" * 64}), 404, "unknown_application")
    other = make_application(cast.evilcorp, hostname="ssh.evilcorp.test", include=[EVERYONE], decision="non_identity")
    for named in ({"aud": other.aud}, {"hostname": other.hostname}):
        refused(machine_sign(application, *token, body={"public_key": key, **named}), 404, "unknown_application")
    stranger, secret = create_service_token(cast.widgetcorp, actor=ACTOR, name="another job")
    refused(machine_sign(application, stranger, secret), 403, "service_token_not_allowed")
    foreign, secret = create_service_token(cast.evilcorp, actor=ACTOR, name="foreign")
    refused(machine_sign(application, foreign, secret), 401, "service_token_invalid")
    set_service_token_enabled(token[0], enabled=False, actor=ACTOR)
    refused(machine_sign(application, *token), 401, "service_token_invalid")


def test_a_policy_without_account_gives_no_certificate(cast: Cast, token: tuple[ServiceToken, str]) -> None:
    application = make_application(cast.widgetcorp, include=[{"any_valid_service_token": {}}], decision="non_identity")
    refused(machine_sign(application, *token), 422, "policy_names_no_account")
    assert AuditEvent.objects.get(name="access.certificate.refused").new["email"] == "CI: deploy"  # type: ignore[index]


def test_a_bypass_policy_gives_no_certificate_to_machines(cast: Cast, token: tuple[ServiceToken, str]) -> None:
    application = make_application(cast.widgetcorp, include=[EVERYONE], decision="bypass")
    refused(machine_sign(application, *token), 403, "service_auth_policy_required")


def test_account_of_machines_is_never_a_persons(application: Application, token: tuple[ServiceToken, str]) -> None:
    assert machine_sign(application, *token).status_code == 200
    person = make_session(application.organization, "deploy@widgetcorp.test")
    response = sign(application, person)
    assert (response.status_code, response.json()["reason"]) == (409, "principal_collision")
    claim = PrincipalClaim.objects.get(principal="deploy")
    release_principal(claim, actor=ACTOR)
    assert sign(application, person).status_code == 200
    response = machine_sign(application, *token)
    assert (response.status_code, json.loads(response.content)["reason"]) == (409, "principal_collision")


def test_an_account_that_people_share_is_not_for_machines_and_the_other_way_round(
    application: Application, token: tuple[ServiceToken, str]
) -> None:
    person = make_session(application.organization)
    allow = application.policy_links.get(policy__decision="allow").policy
    update_policy(allow, actor=ACTOR, terms={"ssh": {"usernames": ["deploy"]}})
    assert sign(application, person).status_code == 200
    response = machine_sign(application, *token)
    assert (response.status_code, json.loads(response.content)["reason"]) == (409, "principal_collision")
    release_principal(PrincipalClaim.objects.get(principal="deploy"), actor=ACTOR)
    assert machine_sign(application, *token).status_code == 200
    response = sign(application, person)
    assert (response.status_code, response.json()["reason"]) == (409, "principal_collision")


def test_the_policys_lifetime_and_extensions_count_for_machines(
    application: Application, token: tuple[ServiceToken, str]
) -> None:
    policy = application.policy_links.get(policy__decision="non_identity").policy
    rights = {"usernames": ["deploy", "backup"], "certificate_lifetime_seconds": 90, "extensions": ["permit-pty"]}
    update_policy(policy, actor=ACTOR, terms={"ssh": rights})
    assert machine_sign(application, *token).status_code == 200
    row = Certificate.objects.get()
    assert (row.principals, row.extensions) == (["deploy", "backup"], ["permit-pty"])
    assert row.valid_before <= timezone.now() + timedelta(seconds=91)
    with pytest.raises(InvalidInput):
        update_policy(policy, actor=ACTOR, terms={"ssh": {"usernames": [f"ci{number}" for number in range(17)]}})


def test_local_parts_and_claims_name_no_account_for_machines(
    application: Application, token: tuple[ServiceToken, str]
) -> None:
    policy = application.policy_links.get(policy__decision="non_identity").policy
    update_policy(policy, actor=ACTOR, terms={"ssh": {"allow_email_alias": True, "username_claim": "unix"}})
    refused(machine_sign(application, *token), 422, "policy_names_no_account")


def test_two_tokens_of_one_policy_share_its_account_and_the_key_id_tells_them_apart(
    cast: Cast, application: Application, token: tuple[ServiceToken, str]
) -> None:
    other, secret = create_service_token(cast.widgetcorp, actor=ACTOR, name="CI: deploy")
    policy = application.policy_links.order_by("precedence")[0].policy
    policy.include = [{"any_valid_service_token": {}}]
    policy.save()
    assert machine_sign(application, *token).status_code == machine_sign(application, other, secret).status_code == 200
    assert len(set(Certificate.objects.values_list("key_id", flat=True))) == 2


def test_the_public_key_of_a_person_is_refused(application: Application, token: tuple[ServiceToken, str]) -> None:
    key = public_key_line()
    assert sign(application, make_session(application.organization), key).status_code == 200
    response = machine_sign(application, *token, key=key)
    assert (response.status_code, json.loads(response.content)["reason"]) == (409, "public_key_reused")


def test_rotation_with_overlap_signs_with_both_secrets_until_its_end(
    application: Application, token: tuple[ServiceToken, str]
) -> None:
    row, old = token
    fresh = rotate_service_token(row, actor=ACTOR, previous_expires_at=timezone.now() + timedelta(hours=1))
    assert machine_sign(application, row, old).status_code == machine_sign(application, row, fresh).status_code == 200
    ServiceToken.objects.update(previous_secret_expires_at=timezone.now())
    assert machine_sign(application, row, old).status_code == 401
    assert machine_sign(application, row, fresh).status_code == 200


@pytest.mark.parametrize("how", ["disable", "delete"])
def test_disabling_or_deleting_revokes_certificates_and_cuts_streams(
    application: Application, token: tuple[ServiceToken, str], how: str
) -> None:
    assert machine_sign(application, *token).status_code == 200
    stream = {
        "stream_id": "s1",
        "application_id": str(application.pk),
        "client_ip": CLIENT_IP,
        "service_token_id": token[0].client_id,
    }
    assert recheck_streams([stream]) == []
    before = revocation_list(application, now=timezone.now())
    if how == "disable":
        set_service_token_enabled(token[0], enabled=False, actor=ACTOR)
    else:
        for link in application.policy_links.filter(policy__decision="non_identity"):
            link.policy.include = [{"any_valid_service_token": {}}]
            link.policy.save()
        delete_service_token(token[0], actor=ACTOR)
    reason = {"disable": "service_token_inactive", "delete": "service_token_invalid"}[how]
    assert [cut["reason"] for cut in recheck_streams([stream])] == [reason]
    assert len(revocation_list(application, now=timezone.now())) > len(before)
    assert Certificate.objects.get().service_token_id == token[0].pk


def test_the_database_keeps_certificates_of_person_and_machine_apart(
    application: Application, token: tuple[ServiceToken, str]
) -> None:
    machine_sign(application, *token)
    identity = make_session(application.organization, "x@widgetcorp.test").identity
    for change in ({"identity": identity}, {"service_token": None}):
        with pytest.raises(IntegrityError), transaction.atomic():
            Certificate.objects.update(**change)


def test_a_certificate_does_not_outlive_its_token(application: Application, token: tuple[ServiceToken, str]) -> None:
    ServiceToken.objects.update(expires_at=timezone.now() + timedelta(seconds=90))
    machine_sign(application, *token)
    row = Certificate.objects.get()
    assert row.valid_before <= timezone.now() + timedelta(seconds=91)


def test_email_rules_never_match_a_machine(cast: Cast, token: tuple[ServiceToken, str]) -> None:
    application = make_application(cast.widgetcorp, include=[email_rule("alice@widgetcorp.test")])
    refused(machine_sign(application, *token), 403, "service_token_not_allowed")
