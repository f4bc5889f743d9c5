"""The signing endpoint end to end: HTTP in; answer, rows, access log and audit event out."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.conf import LazySettings
from django.test import Client
from django.utils import timezone

from access import tokens
from access.models import AccessRequest, Certificate, PrincipalClaim, SshAuthority
from accounts.edge_models import EdgeVersion
from accounts.models import AuditEvent
from tests.access.makers import (
    CLIENT_IP,
    EVERYONE,
    add_policy,
    app_token,
    email_rule,
    make_application,
    make_session,
    p256_line,
    post_cert_sign,
    public_key_line,
    sign,
)
from tests.factories import Cast


def ssh_keygen(*arguments: str) -> str:
    return subprocess.run(["ssh-keygen", *arguments], capture_output=True, text=True, check=True, timeout=20).stdout


def test_a_person_gets_a_certificate(cast: Cast, tmp_path: Path) -> None:
    application = make_application(cast.widgetcorp, include=[email_rule("alice@widgetcorp.test")])
    session = make_session(cast.widgetcorp)

    response = sign(application, session, p256_line())

    assert response.status_code == 200, response.content
    body = response.json()
    assert set(body) == {"id", "certificate", "expires_at"}
    row = Certificate.objects.get(pk=body["id"])
    assert row.status == Certificate.Status.ISSUED
    assert row.certificate == body["certificate"]
    assert 0 < int(row.serial) < 2**63
    assert row.key_id == "widgetcorp/ssh-bastion/alice@widgetcorp.test"
    expires = datetime.strptime(body["expires_at"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    assert expires == row.valid_before
    assert row.valid_before - row.valid_after == timedelta(seconds=300)
    entry = AccessRequest.objects.get(action="certificate")
    assert (entry.allowed, entry.email, entry.connection, entry.ip_address) == (
        True,
        "alice@widgetcorp.test",
        "okta",
        CLIENT_IP,
    )
    event = AuditEvent.objects.get(name="access.certificate.approved")
    assert event.actor_label == "alice@widgetcorp.test"
    assert event.new is not None
    assert event.new["serial"] == row.serial
    path = tmp_path / "id-cert.pub"
    path.write_text(body["certificate"] + "\n")
    listing = ssh_keygen("-L", "-f", str(path))
    assert "ecdsa-sha2-nistp256-cert-v01@openssh.com user certificate" in listing
    assert f"Serial: {row.serial}" in listing
    authority = SshAuthority.objects.get(application=application)
    assert authority.fingerprint in listing


def test_golden_certificate_as_ssh_keygen_reads_it(cast: Cast, tmp_path: Path) -> None:
    application = make_application(cast.widgetcorp)
    response = sign(application, make_session(cast.widgetcorp))
    row = Certificate.objects.get()
    path = tmp_path / "id-cert.pub"
    path.write_text(response.json()["certificate"] + "\n")

    listing = subprocess.run(
        ["ssh-keygen", "-L", "-f", str(path)], capture_output=True, text=True, env={"TZ": "UTC"}, check=True, timeout=20
    ).stdout

    lines = [line.strip() for line in listing.splitlines()[1:]]
    fingerprint = row.public_key_fingerprint
    assert lines == [
        "Type: ssh-ed25519-cert-v01@openssh.com user certificate",
        f"Public key: ED25519-CERT {fingerprint}",
        f"Signing CA: ED25519 {row.authority.fingerprint} (using ssh-ed25519)",
        'Key ID: "widgetcorp/ssh-bastion/alice@widgetcorp.test"',
        f"Serial: {row.serial}",
        f"Valid: from {row.valid_after:%Y-%m-%dT%H:%M:%S} to {row.valid_before:%Y-%m-%dT%H:%M:%S}",
        "Principals:",
        "alice",
        "Critical Options: (none)",
        "Extensions:",
        "permit-port-forwarding",
        "permit-pty",
    ]


@pytest.mark.parametrize("algorithm", ["ed25519", "ecdsa-p256"])
def test_both_authority_algorithms_sign_and_ssh_keygen_verifies(cast: Cast, tmp_path: Path, algorithm: str) -> None:
    from access.actions.authorities import ca_file, create_authority
    from tests.access.makers import ACTOR

    application = make_application(cast.widgetcorp, authority=False)
    create_authority(application, algorithm=algorithm, actor=ACTOR)

    response = sign(application, make_session(cast.widgetcorp))

    assert response.status_code == 200
    (tmp_path / "ca.pub").write_text(ca_file(application))
    assert ssh_keygen("-l", "-f", str(tmp_path / "ca.pub")).split()[1] == SshAuthority.objects.get().fingerprint


# --- Who is refused -------------------------------------------------------------------------------------------
def refused(response, status: int, reason: str) -> None:  # type: ignore[no-untyped-def]
    body = response.json()
    assert (response.status_code, body["reason"]) == (status, reason), body
    assert body["status"] == status
    assert body["message"]
    assert set(body) == {"status", "message", "reason"}
    assert not Certificate.objects.exclude(status=Certificate.Status.FAILED).exists()


def test_outside_the_policy_is_refused_with_the_reason_and_logged(cast: Cast) -> None:
    application = make_application(cast.widgetcorp, include=[email_rule("bob@widgetcorp.test")])

    response = sign(application, make_session(cast.widgetcorp))

    refused(response, 403, "email_not_allowed")
    assert (
        response.json()["message"] == "Your e-mail address (alice@widgetcorp.test) is not on this application's list."
    )
    entry = AccessRequest.objects.get()
    assert (entry.allowed, entry.reason) == (False, "email_not_allowed")
    assert entry.trace[0]["policy"] == "allow policy"
    assert not PrincipalClaim.objects.exists()


def test_a_bypass_policy_gives_no_certificate(cast: Cast) -> None:
    application = make_application(cast.widgetcorp, decision="bypass")
    refused(sign(application, make_session(cast.widgetcorp)), 403, "allow_policy_required")


def test_ac_87_disabled_identity_gets_no_certificate(cast: Cast) -> None:
    application, session = make_application(cast.widgetcorp), make_session(cast.widgetcorp)
    session.identity.disabled_at = timezone.now()
    session.identity.save()
    refused(sign(application, session), 403, "identity_disabled")


def test_ac_87_revoked_session_gets_no_certificate(cast: Cast) -> None:
    application, session = make_application(cast.widgetcorp), make_session(cast.widgetcorp)
    session.revoked_at = timezone.now()
    session.save()
    refused(sign(application, session), 401, "session_revoked")


def test_policy_removed_after_login_stops_the_next_certificate(cast: Cast) -> None:
    application, session = make_application(cast.widgetcorp), make_session(cast.widgetcorp)
    assert sign(application, session).status_code == 200
    application.policy_links.all().delete()
    assert sign(application, session).json()["reason"] == "no_policy_matches"


def test_revoked_application_tokens_are_refused_and_newer_ones_accepted(cast: Cast) -> None:
    from access.actions.applications import revoke_application_tokens
    from tests.access.makers import ACTOR

    application, session = make_application(cast.widgetcorp), make_session(cast.widgetcorp)
    token = app_token(application, session)
    before = EdgeVersion.objects.get().version

    revoke_application_tokens(application, actor=ACTOR)

    body = {"public_key": public_key_line(), "jwt": token, "issuer": cast.widgetcorp.team_url}
    refused(post_cert_sign(cast.widgetcorp, body), 401, "token_revoked")
    body["jwt"] = app_token(application, session, now=timezone.now() + timedelta(seconds=2))
    assert post_cert_sign(cast.widgetcorp, body).status_code == 200
    assert EdgeVersion.objects.get().version > before


def test_no_authority_yet(cast: Cast) -> None:
    application = make_application(cast.widgetcorp, authority=False)
    refused(sign(application, make_session(cast.widgetcorp)), 400, "no_authority")


@pytest.mark.parametrize(
    ("case", "status", "reason"),
    [
        ("organization token", 403, "token_wrong_application"),
        ("other application", 403, "token_wrong_application"),
        ("other organization", 403, "token_wrong_application"),
        ("expired", 401, "token_expired"),
        ("future", 403, "token_not_yet_valid"),
        ("garbage", 403, "token_wrong_application"),
        ("empty parts", 403, "token_wrong_application"),
        ("service token", 403, "token_not_personal"),
        ("metadata token", 403, "token_malformed"),
        ("other issuer", 403, "wrong_issuer"),
        ("no issuer", 400, "invalid_request"),
        ("tampered", 403, "token_signature_invalid"),
    ],
)
def test_ac_29_token_matrix(cast: Cast, case: str, status: int, reason: str) -> None:
    application = make_application(cast.widgetcorp, hostname="a.widgetcorp.test")
    foreign = make_application(cast.evilcorp, hostname="a.evilcorp.test")
    session, foreign_session = make_session(cast.widgetcorp), make_session(cast.evilcorp)
    now = timezone.now()
    body = {"public_key": public_key_line(), "issuer": cast.widgetcorp.team_url, "jwt": app_token(application, session)}
    if case == "organization token":
        body["jwt"] = tokens.mint_organization_token(session, now=now)
    elif case == "other application":
        application.aud = "f" * 64
        application.save()
    elif case == "other organization":
        body["jwt"] = app_token(foreign, foreign_session)
    elif case == "expired":
        body["jwt"] = app_token(application, session, now=now - timedelta(hours=2))
    elif case == "future":
        body["jwt"] = app_token(application, session, now=now + timedelta(minutes=10))
    elif case == "garbage":
        body["jwt"] = "not.a.token"
    elif case == "empty parts":
        body["jwt"] = ".."
    elif case == "service token":
        from access.actions.service_tokens import create_service_token
        from tests.access.makers import ACTOR

        service_token, _ = create_service_token(cast.widgetcorp, actor=ACTOR, name="ci")
        body["jwt"] = tokens.mint_service_assertion(application, service_token, now=now)
    elif case == "metadata token":
        body["jwt"] = tokens.mint_metadata(application, application.hostname, now=now)
    elif case == "other issuer":
        body["issuer"] = cast.evilcorp.team_url
    elif case == "no issuer":
        del body["issuer"]
    elif case == "tampered":
        head, payload, signature = body["jwt"].split(".")
        body["jwt"] = f"{head}.{payload}.{signature[:-8]}AAAAAAAA"

    refused(post_cert_sign(cast.widgetcorp, body), status, reason)


def test_ac_29_token_of_another_application_of_the_same_organization_signs_for_that_one_only(cast: Cast) -> None:
    """The token decides the application; a token of A can never make a certificate of B."""
    first = make_application(cast.widgetcorp, hostname="a.widgetcorp.test")
    second = make_application(cast.widgetcorp, hostname="b.widgetcorp.test")
    response = sign(first, make_session(cast.widgetcorp))
    certificate = Certificate.objects.get(pk=response.json()["id"])
    assert certificate.application == first
    assert certificate.authority.application != second


def test_session_of_another_organization_with_the_same_nonce_claim_is_unknown(cast: Cast) -> None:
    """A token of ours that names another tenant's session (it cannot exist; if it did, it would not count)."""
    application = make_application(cast.widgetcorp)
    foreign = make_session(cast.evilcorp)
    own = make_session(cast.widgetcorp)
    own.nonce = foreign.nonce
    refused(sign(application, own), 401, "session_unknown")


@pytest.mark.parametrize(
    ("raw", "status", "reason"),
    [
        (b"", 400, "length_required"),
        (b"[]", 400, "invalid_json"),
        (b"{", 400, "invalid_json"),
        (b"[" * 20000, 400, "invalid_json"),
        (b"\xff\xfe", 400, "invalid_json"),
        (b'{"public_key": 1, "jwt": 2, "issuer": 3}', 400, "invalid_request"),
        (b'{"a": "' + b"x" * 33000 + b'"}', 413, "body_too_large"),
    ],
)
def test_ac_101_bad_bodies(cast: Cast, raw: bytes, status: int, reason: str) -> None:
    refused(post_cert_sign(cast.widgetcorp, None, raw=raw), status, reason)


def test_only_post(cast: Cast, settings: LazySettings) -> None:
    response = Client().get(
        "/cdn-cgi/access/cert_sign",
        HTTP_HOST=cast.widgetcorp.team_domain,
        HTTP_SALLYPORT_EDGE_TOKEN=settings.EDGE_TOKEN,
    )
    refused(response, 405, "method_not_allowed")


# --- What the client cannot ask for ---------------------------------------------------------------------------
@pytest.mark.parametrize("valid_before", [2**64 - 1, 0, -5, 99999999999])
def test_ac_17_client_does_not_choose_the_validity(cast: Cast, valid_before: int) -> None:
    application = make_application(cast.widgetcorp, certificate_lifetime_seconds=120)
    response = sign(application, make_session(cast.widgetcorp), valid_before=valid_before, duration="10000h")
    row = Certificate.objects.get(pk=response.json()["id"])
    assert row.valid_before - row.valid_after == timedelta(seconds=180)


def test_ac_14_ac_18_ac_24_client_does_not_choose_principals_extensions_or_type(cast: Cast, tmp_path: Path) -> None:
    application = make_application(cast.widgetcorp, certificate_extensions=["permit-pty"])
    response = sign(
        application,
        make_session(cast.widgetcorp),
        principals=["root"],
        valid_principals="root",
        extensions=["permit-agent-forwarding", "permit-X11-forwarding"],
        critical_options={},
        type="host",
        cert_type=2,
    )
    row = Certificate.objects.get(pk=response.json()["id"])
    assert (row.principals, row.extensions) == (["alice"], ["permit-pty"])
    (tmp_path / "c.pub").write_text(response.json()["certificate"])
    listing = ssh_keygen("-L", "-f", str(tmp_path / "c.pub"))
    assert "user certificate" in listing
    assert "agent-forwarding" not in listing


def test_ac_28_agent_forwarding_is_off_by_default(cast: Cast) -> None:
    assert "permit-agent-forwarding" not in make_application(cast.widgetcorp).certificate_extensions


def test_a_certificate_does_not_outlive_the_session_by_more_than_the_minimum(cast: Cast) -> None:
    application = make_application(cast.widgetcorp, certificate_lifetime_seconds=86400)
    response = sign(application, make_session(cast.widgetcorp, lifetime=timedelta(minutes=11)))
    row = Certificate.objects.get(pk=response.json()["id"])
    assert timedelta(minutes=11) < row.valid_before - row.valid_after <= timedelta(minutes=12)


def test_ac_21_public_key_of_another_person_is_refused_and_audited(cast: Cast) -> None:
    application, key = make_application(cast.widgetcorp), public_key_line()
    assert sign(application, make_session(cast.widgetcorp), key).status_code == 200
    assert sign(application, make_session(cast.widgetcorp), key).status_code == 200, "the same person may reuse it"

    response = sign(application, make_session(cast.widgetcorp, "bob@widgetcorp.test"), key)

    assert (response.status_code, response.json()["reason"]) == (409, "public_key_reused")
    event = AuditEvent.objects.get(name="access.certificate.public_key_reused")
    assert event.actor_label == "bob@widgetcorp.test"


def test_ac_21_public_key_of_another_tenants_person_is_refused_without_naming_anyone(cast: Cast) -> None:
    key = public_key_line()
    assert sign(make_application(cast.widgetcorp), make_session(cast.widgetcorp), key).status_code == 200
    foreign = make_application(cast.evilcorp, hostname="ssh.evilcorp.test")
    response = sign(foreign, make_session(cast.evilcorp, "mallory@evilcorp.test"), key)
    assert response.status_code == 409
    assert "widgetcorp" not in response.content.decode()


def test_query_budget_of_the_whole_request(cast: Cast, django_assert_max_num_queries) -> None:  # type: ignore[no-untyped-def]
    application, session = make_application(cast.widgetcorp), make_session(cast.widgetcorp)
    add_policy(application, include=[EVERYONE])
    assert sign(application, session).status_code == 200
    body = {
        "public_key": public_key_line(),
        "jwt": app_token(application, session),
        "issuer": cast.widgetcorp.team_url,
    }
    # 13 of the request (two of them the head of the audit chain), 3 of the worker that runs inside it here, 2 for the
    # transaction (a savepoint in tests).
    with django_assert_max_num_queries(18) as queries:
        response = post_cert_sign(cast.widgetcorp, body)
    assert response.status_code == 200
    web = [q for q in queries.captured_queries if "SAVEPOINT" not in q["sql"] and not q["sql"].startswith("UPDATE")]
    assert len(web) - 1 <= 12, [q["sql"][:120] for q in web]
