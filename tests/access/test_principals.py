"""Account names: what is mapped, what is refused, and that no two identities ever share one (AC-01 to AC-15)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from access.actions.applications import update_application
from access.actions.principals import release_principal
from access.models import AccessRequest, Certificate, PrincipalClaim
from access.principals import RESERVED, PrincipalRefused, principal_of
from accounts.errors import InvalidInput
from accounts.models import AuditEvent
from tests.access.makers import ACTOR, make_application, make_provider, make_session, sign
from tests.factories import Cast

LONG = "a" * 33


def name_of(email: str, overrides: dict[str, str] | None = None, *, verified: object = True) -> str:
    try:
        return principal_of(email=email, email_verified=verified, overrides=overrides or {})  # type: ignore[arg-type]
    except PrincipalRefused as error:
        return f"!{error.code}" if error.message else "a refusal without a message"


@pytest.mark.parametrize(
    ("email", "expected"),
    [
        # plain
        ("alice@x.test", "alice"),
        ("_svc@x.test", "_svc"),
        ("a-b_c9@x.test", "a-b_c9"),
        ("a" * 32 + "@x.test", "a" * 32),
        # AC-02 nothing is merged into alice
        ("a.lice@x.test", "!principal_invalid"),
        ("a+lice@x.test", "!principal_invalid"),
        ("a_lice@x.test", "a_lice"),
        ("alice+tag@x.test", "!principal_invalid"),
        ("Alice@x.test", "!principal_invalid"),
        ("ALICE@x.test", "!principal_invalid"),
        # AC-03
        ("root@x.test", "!principal_reserved"),
        ("Root@x.test", "!principal_reserved"),
        ("ROOT@x.test", "!principal_reserved"),
        ("ec2-user@x.test", "!principal_reserved"),
        ("ubuntu@x.test", "!principal_reserved"),
        ("admin@x.test", "!principal_reserved"),
        # AC-04
        ('"deploy,root"@x.test', "!principal_invalid"),
        ("deploy,root@x.test", "!principal_invalid"),
        ("a b@x.test", "!principal_invalid"),
        ("a\tb@x.test", "!principal_invalid"),
        ("alice\n@x.test", "!principal_invalid"),
        ("alice\x00@x.test", "!principal_invalid"),
        ("a/b@x.test", "!principal_invalid"),
        ("a:b@x.test", "!principal_invalid"),
        ("a\\b@x.test", "!principal_invalid"),
        ("a'b@x.test", "!principal_invalid"),
        ("*@x.test", "!principal_invalid"),
        ("a?@x.test", "!principal_invalid"),
        ("!a@x.test", "!principal_invalid"),
        ("-a@x.test", "!principal_invalid"),
        ("+a@x.test", "!principal_invalid"),
        ("~a@x.test", "!principal_invalid"),
        ("a@b@x.test", "!principal_invalid"),
        # AC-05
        ("аlice@x.test", "!principal_invalid"),
        ("ａｌｉｃｅ@x.test", "!principal_invalid"),
        ("alíce@x.test", "!principal_invalid"),
        ("ali\u0301ce@x.test", "!principal_invalid"),
        ("\u202ealice@x.test", "!principal_invalid"),
        ("ali\u200dce@x.test", "!principal_invalid"),
        ("\u212aate@x.test", "!principal_invalid"),
        # AC-07
        (LONG + "@x.test", "!principal_invalid"),
        ("1000@x.test", "!principal_numeric"),
        ("0@x.test", "!principal_numeric"),
        ("1alice@x.test", "!principal_invalid"),
        ("١٢٣@x.test", "!principal_invalid"),
        # AC-08 nothing to map
        ("", "!principal_invalid"),
        ("@x.test", "!principal_invalid"),
        ("alice", "!principal_invalid"),
    ],
)
def test_ac_02_to_ac_08_default_mapping(email: str, expected: str) -> None:
    assert name_of(email) == expected


@pytest.mark.parametrize("verified", [False, None, "false", "true", 1, "yes"])
def test_ac_11_unverified_addresses_give_no_name(verified: object) -> None:
    assert name_of("alice@x.test", verified=verified) == "!email_not_verified"
    assert name_of("alice@x.test", {"alice@x.test": "deploy"}, verified=verified) == "!email_not_verified"


def test_ac_03_an_explicit_mapping_may_name_a_reserved_account() -> None:
    assert name_of("alice@x.test", {"alice@x.test": "root"}) == "root"
    assert name_of("ALICE@x.test", {"alice@x.test": "deploy"}) == "deploy"
    assert name_of("bob@x.test", {"alice@x.test": "root"}) == "bob"


@given(st.text(max_size=60), st.sampled_from(["x.test", "y.test"]))
def test_ac_02_whatever_comes_out_is_exactly_the_local_part(local: str, domain: str) -> None:
    name = name_of(f"{local}@{domain}")
    assert name.startswith("!") or (name == local and name not in RESERVED)


def test_application_may_reserve_more_names(cast: Cast) -> None:
    application = make_application(cast.widgetcorp, settings={"reserved_principals": ["deploy"]})
    response = sign(application, make_session(cast.widgetcorp, "deploy@widgetcorp.test"))
    assert response.json()["reason"] == "principal_reserved"


# --- Through the endpoint -------------------------------------------------------------------------------------
def test_ac_01_second_holder_is_refused_and_the_administrators_see_it(cast: Cast) -> None:
    application = make_application(cast.widgetcorp)
    first, second = make_session(cast.widgetcorp, "alice@corp.test"), make_session(cast.widgetcorp, "alice@evil.test")
    assert sign(application, first).status_code == 200

    response = sign(application, second)

    assert (response.status_code, response.json()["reason"]) == (409, "principal_collision")
    assert "corp.test" not in response.json()["message"]
    event = AuditEvent.objects.for_organization(cast.widgetcorp).get(name="access.principal.collision")
    assert event.actor_label == "alice@evil.test"
    assert Certificate.objects.count() == 1
    assert PrincipalClaim.objects.get().identity == first.identity
    assert AccessRequest.objects.filter(allowed=False, reason="principal_collision").count() == 1
    assert sign(application, first).status_code == 200, "the first holder keeps it"


def test_ac_04_refused_name_is_422_with_reason_and_audit_event(cast: Cast) -> None:
    application = make_application(cast.widgetcorp)
    response = sign(application, make_session(cast.widgetcorp, '"deploy,root"@widgetcorp.test'))
    assert (response.status_code, response.json()["reason"]) == (422, "principal_invalid")
    event = AuditEvent.objects.get(name="access.certificate.refused")
    assert event.new is not None
    assert event.new["reason"] == "principal_invalid"
    assert not Certificate.objects.exists()


def test_ac_10_changed_address_keeps_the_name_and_shows_in_the_audit_log(cast: Cast) -> None:
    application = make_application(cast.widgetcorp, principal_overrides={"carol@widgetcorp.test": "root"})
    session = make_session(cast.widgetcorp, "mallory@widgetcorp.test", subject="s-1")
    assert sign(application, session).status_code == 200
    for address in ("alice@widgetcorp.test", "carol@widgetcorp.test"):
        session.identity.email = address
        session.identity.save()

        response = sign(application, session)

        row = Certificate.objects.get(pk=response.json()["id"])
        assert row.principals == ["mallory"]
        assert row.key_id == "widgetcorp/ssh-bastion/mallory@widgetcorp.test"
        event = AuditEvent.objects.filter(name="access.certificate.approved").latest("id")
        assert event.new is not None
        assert (event.new["email"], event.new["principal_claimed_as"]) == (address, "mallory@widgetcorp.test")


def test_ac_12_ac_13_same_address_or_subject_at_two_login_methods_are_two_people(cast: Cast) -> None:
    application = make_application(cast.widgetcorp)
    first = make_session(cast.widgetcorp, subject="42")
    second = make_session(cast.widgetcorp, subject="42", provider=make_provider(cast.widgetcorp, "Other IdP"))
    assert first.identity != second.identity
    assert sign(application, first).status_code == 200
    assert sign(application, second).json()["reason"] == "principal_collision"


def test_ac_15_key_id_names_the_person_behind_a_mapped_account(cast: Cast) -> None:
    application = make_application(cast.widgetcorp, principal_overrides={"alice@widgetcorp.test": "ubuntu"})
    response = sign(application, make_session(cast.widgetcorp))
    row = Certificate.objects.get(pk=response.json()["id"])
    assert (row.principals, row.key_id) == (["ubuntu"], "widgetcorp/ssh-bastion/alice@widgetcorp.test")
    event = AuditEvent.objects.get(name="access.certificate.approved")
    assert event.new is not None
    assert event.new["principals"] == ["ubuntu"]
    assert event.new["email"] == "alice@widgetcorp.test"


def test_one_account_for_two_addresses_is_refused_when_saved(cast: Cast) -> None:
    application = make_application(cast.widgetcorp)
    with pytest.raises(InvalidInput, match="one holder"):
        update_application(application, actor=ACTOR, principal_overrides={"a@x.test": "deploy", "b@x.test": "deploy"})


def test_a_mapped_name_already_held_is_a_collision_too(cast: Cast) -> None:
    application = make_application(cast.widgetcorp, principal_overrides={"bob@widgetcorp.test": "alice"})
    assert sign(application, make_session(cast.widgetcorp)).status_code == 200
    assert (
        sign(application, make_session(cast.widgetcorp, "bob@widgetcorp.test")).json()["reason"]
        == "principal_collision"
    )


def test_released_name_goes_to_the_next_one_with_another_key_id(cast: Cast) -> None:
    application = make_application(cast.widgetcorp)
    first = make_session(cast.widgetcorp, subject="1")
    second = make_session(cast.widgetcorp, subject="2")
    sign(application, first)

    release_principal(PrincipalClaim.objects.get(), actor=ACTOR)

    assert AuditEvent.objects.get(name="access.principal.released").old is not None
    row = Certificate.objects.get(pk=sign(application, second).json()["id"])
    assert row.principals == ["alice"]
    assert row.key_id == f"widgetcorp/{application.pk}/{second.identity_id}"


def test_the_same_name_in_another_application_or_tenant_is_independent(cast: Cast) -> None:
    for organization, host in (
        (cast.widgetcorp, "ssh.one.test"),
        (cast.widgetcorp, "ssh.two.test"),
        (cast.evilcorp, "ssh.three.test"),
    ):
        application = make_application(organization, hostname=host)
        assert sign(application, make_session(organization)).status_code == 200
    assert PrincipalClaim.objects.filter(principal="alice").count() == 3
    assert len(set(PrincipalClaim.objects.values_list("key_id", flat=True))) == 3


@pytest.mark.parametrize(
    "email", ["alice'x@widgetcorp.test", "a" * 30 + "@" + "b" * 60 + "." + "c" * 60 + "." + "d" * 60 + ".test"]
)
def test_ac_23_key_id_falls_back_to_ids_when_the_address_does_not_fit(cast: Cast, email: str) -> None:
    application = make_application(cast.widgetcorp, principal_overrides={email: "alice"})
    session = make_session(cast.widgetcorp, email)
    row = Certificate.objects.get(pk=sign(application, session).json()["id"])
    assert row.key_id == f"widgetcorp/{application.pk}/{session.identity_id}"
    assert len(row.key_id.encode()) <= 200
