"""Second factors: the code's arithmetic, what a requirement admits, and the pages and API where it is written."""

from __future__ import annotations

import pytest
from django.test import Client

from access.models import Application
from accounts import totp
from accounts.errors import InvalidInput
from accounts.mfa_models import IdentityAuthenticator
from accounts.models import AuditEvent
from accounts.second_factor import (
    BIOMETRICS,
    KINDS,
    RECOVERY,
    SECURITY_KEY,
    TOTP,
    Factor,
    MfaRule,
    Moment,
    checked_config,
    checked_organization_config,
    public_config,
)
from tests.factories import Cast
from tests.pages_kit import last_event, login, shown
from tests.world import World, make_world


@pytest.mark.parametrize(
    ("seconds", "code"),
    [
        (59, "287082"),
        (1111111109, "081804"),
        (1111111111, "050471"),
        (1234567890, "005924"),
        (2000000000, "279037"),
        (20000000000, "353130"),
    ],
)
def test_codes_are_those_of_rfc_6238(seconds: int, code: str) -> None:
    """Appendix B, SHA-1; six digits are the last six of its eight."""
    secret = b"12345678901234567890"
    assert totp.code_at(secret, seconds // 30) == code
    assert totp.matching_step(secret, code, now=seconds) == seconds // 30
    assert totp.matching_step(secret, code, now=seconds + 61) is None


@pytest.mark.parametrize("text", ["", "12345", "1234567", "12345a", "١٢٣٤٥٦", "123456\x00", "-12345", "²²²²²²"])
def test_only_six_ascii_digits_can_be_a_code(text: str) -> None:
    assert totp.clean_code(text) is None


def test_a_code_may_be_typed_with_a_space() -> None:
    assert totp.clean_code(" 123 456 ") == "123456"


@pytest.mark.parametrize("moment", list(Moment))
@pytest.mark.parametrize("kind", KINDS)
def test_only_allowed_kinds_count(kind: str, moment: Moment) -> None:
    rule = MfaRule(frozenset({kind}))
    for other in KINDS:
        assert (rule.held([Factor(other, 1)], moment) is not None) is (other == kind)
    assert (rule.held([Factor(RECOVERY, 1)], moment) is not None) is (kind == TOTP)
    assert rule.held([Factor("otp", 1, is_own=False)], moment) is None


def test_the_youngest_that_does_counts() -> None:
    rule = MfaRule(frozenset({SECURITY_KEY, BIOMETRICS}), 100)
    held = rule.held([Factor(TOTP, 1), Factor(SECURITY_KEY, 90), Factor(BIOMETRICS, 40)], Moment.USE)
    assert held == Factor(BIOMETRICS, 40)
    assert rule.seconds_left(held) == 60


@pytest.mark.parametrize(
    "values",
    [
        {"allowed_authenticators": ["piv_key"]},
        {"allowed_authenticators": "totp"},
        {"session_duration": "721h"},
        {"session_duration": "soon"},
        {"session_duration": "-1h"},
        {"session_duration_seconds": -1},
    ],
)
def test_a_configuration_is_checked(values: dict[str, object]) -> None:
    with pytest.raises(InvalidInput):
        checked_config(values)


def test_required_aaguids_are_refused_not_ignored() -> None:
    with pytest.raises(InvalidInput):
        checked_organization_config({"required_aaguids": ["fbfc3007-154e-4ecc-8c0b-6e020557d7bd"]})


def test_the_public_shape_comes_back_as_it_was_sent() -> None:
    sent = {"allowed_authenticators": ["totp", "security_key"], "mfa_disabled": False, "session_duration": "0m"}
    assert public_config(checked_config(sent)) == sent
    stored = checked_config({**sent, "session_duration": "720h"})
    assert checked_config(stored) == stored


class TestPages:
    @pytest.fixture
    def world(self, cast: Cast) -> World:
        return make_world(cast.widgetcorp, domain="widgetcorp.tech")

    @pytest.fixture
    def alice(self, cast: Cast) -> Client:
        return login(cast.alice)

    def test_the_organization_asks_everywhere(self, cast: Cast, world: World, alice: Client) -> None:
        data = {"mfa_required_for_all_apps": "on", "mfa_allowed": ["security_key"], "mfa_session_seconds": "0"}
        answer = alice.post("/o/widgetcorp/settings/organization/second-factors/", data)
        assert answer.status_code == 302
        cast.widgetcorp.refresh_from_db()
        assert cast.widgetcorp.mfa_required_for_all_apps
        assert cast.widgetcorp.mfa_config == {
            "allowed_authenticators": ["security_key"],
            "session_duration_seconds": 0,
            "amr_matching_session_duration_seconds": None,
        }
        assert last_event(cast.widgetcorp).name == "accounts.organization.updated"
        page = shown(alice, "/o/widgetcorp/settings/organization/")
        assert "Asked at each login" in page

    def test_an_application_asks_and_stops_asking(self, world: World, alice: Client) -> None:
        url = f"/o/widgetcorp/access/applications/{world.application.pk}/authentication/edit/"
        data = {"mfa_mode": "required", "mfa_allowed": ["totp"], "mfa_session_seconds": "3600"}
        assert alice.post(url, data).status_code == 302
        assert Application.objects.get(pk=world.application.pk).mfa_config == {
            "allowed_authenticators": ["totp"],
            "mfa_disabled": False,
            "session_duration_seconds": 3600,
        }
        assert alice.post(url, {"mfa_mode": "off"}).status_code == 302
        assert Application.objects.get(pk=world.application.pk).mfa_config["mfa_disabled"] is True
        assert alice.post(url, {"mfa_mode": "inherited"}).status_code == 302
        assert Application.objects.get(pk=world.application.pk).mfa_config is None

    def test_an_administrator_resets_a_persons_authenticators(self, cast: Cast, world: World, alice: Client) -> None:
        IdentityAuthenticator.objects.create(
            organization=cast.widgetcorp, identity=world.identity, kind="totp", name="Old phone"
        )
        world.session.factors = [{"kind": "totp", "authenticator": "", "at": 1, "amr": ["otp", "mfa"]}]
        world.session.save()
        url = f"/o/widgetcorp/team/users/{world.identity.pk}/"
        assert "Old phone" in shown(alice, url)
        assert "Make sure that it is them" in shown(alice, f"{url}reset-authenticators/")
        assert IdentityAuthenticator.objects.count() == 1
        assert alice.post(f"{url}reset-authenticators/").status_code == 302
        assert not IdentityAuthenticator.objects.exists()
        world.session.refresh_from_db()
        assert world.session.revoked_at is not None
        assert AuditEvent.objects.get(name="accounts.second_factor.reset").actor_label == "alice@widgetcorp.test"
