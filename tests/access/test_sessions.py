"""Durations of sessions, ending all of an application, failed logins at the person's page and in the API."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.urls import reverse
from django.utils import timezone

from access import tokens
from access.actions.applications import revoke_application_tokens, update_application
from access.actions.policies import update_policy
from access.models import AccessRequest, Application
from access.recheck import recheck_streams
from accounts.actions.organizations import update_organization
from accounts.errors import InvalidInput
from tests.access.makers import ACTOR, CLIENT_IP, make_application, make_session
from tests.controlplane.api_kit import make_api
from tests.factories import Cast
from tests.pages_kit import login, text_of


class TestDurations:
    def test_an_organization_from_15_minutes_to_a_month(self, cast: Cast) -> None:
        for seconds in (900, 31 * 86400):
            assert update_organization(cast.widgetcorp, actor=ACTOR, session_duration_seconds=seconds)
        for seconds in (0, 899, 31 * 86400 + 1):
            with pytest.raises(InvalidInput):
                update_organization(cast.widgetcorp, actor=ACTOR, session_duration_seconds=seconds)

    def test_an_application_and_a_policy_from_immediate_to_a_month(self, cast: Cast) -> None:
        application = make_application(cast.widgetcorp, authority=False)
        policy = application.policy_links.get().policy
        for seconds in (0, 60, 31 * 86400):
            assert update_application(application, actor=ACTOR, session_duration_seconds=seconds)
            assert update_policy(policy, actor=ACTOR, session_duration_seconds=seconds)
        for seconds in (-1, 59, 31 * 86400 + 1):
            with pytest.raises(InvalidInput):
                update_application(application, actor=ACTOR, session_duration_seconds=seconds)
            with pytest.raises(InvalidInput):
                update_policy(policy, actor=ACTOR, session_duration_seconds=seconds)

    def test_immediate_in_the_public_api(self, cast: Cast) -> None:
        api = make_api(cast.widgetcorp)
        application = make_application(cast.widgetcorp, authority=False)
        path = f"{api.account}/access/apps/{application.pk}"
        assert api.ok("PATCH", path, {"session_duration": "0s"})["session_duration"] == "0s"
        assert Application.objects.get().session_duration_seconds == 0

    def test_an_immediate_token_lives_as_short_as_tokens_can(self, cast: Cast) -> None:
        application = make_application(cast.widgetcorp, authority=False, session_duration_seconds=0)
        now = timezone.now()
        end = tokens.application_token_end(make_session(cast.widgetcorp), now=now, lifetime_seconds=0)
        assert end - now == timedelta(seconds=60)
        page = text_of(login(cast.alice).get(reverse("application_settings", args=["widgetcorp", application.pk])))
        assert "No duration, expires immediately" in page


class TestRevokeAllOfAnApplication:
    def test_live_streams_from_before_are_cut_and_newer_ones_stay(self, cast: Cast) -> None:
        application = make_application(cast.widgetcorp, authority=False)
        other = make_application(cast.widgetcorp, authority=False, hostname="other.widgetcorp.test", name="Other")
        session = make_session(cast.widgetcorp)
        revoke_application_tokens(application, actor=ACTOR)

        def stream(name: str, of: Application, age: object) -> dict[str, object]:
            return {
                "stream_id": name,
                "application_id": str(of.pk),
                "client_ip": CLIENT_IP,
                "session_nonce": session.nonce,
                "age_seconds": age,
            }

        Application.objects.filter(pk=application.pk).update(tokens_revoked_at=timezone.now() - timedelta(seconds=10))
        streams = [stream("old", application, 60.0), stream("new", application, 1), stream("else", other, 60)]
        streams += [stream("no age", application, None), stream("odd age", application, "x")]
        (cut,) = recheck_streams(streams)
        assert AccessRequest.objects.get(action="cut").ray_id == cut.pop("reference")
        assert cut == {
            "stream_id": "old",
            "reason": "token_revoked",
            "message": "The application's sessions were revoked. Log in again.",
        }


def test_failed_logins_are_shown_at_the_person(cast: Cast) -> None:
    application = make_application(cast.widgetcorp, authority=False)
    identity = make_session(cast.widgetcorp).identity
    AccessRequest.objects.create(
        organization=cast.widgetcorp,
        application=application,
        application_label="SSH bastion",
        identity=identity,
        email=identity.email,
        action="login",
        allowed=False,
        reason="country_not_allowed",
        ray_id="ray-77",
        ip_address=CLIENT_IP,
    )
    page = text_of(login(cast.alice).get(reverse("user_detail", args=["widgetcorp", identity.pk])))
    assert "Wrong country" in page
    assert "ray-77" in page
    api = make_api(cast.widgetcorp)
    (failed,) = api.ok("GET", f"{api.account}/access/users/{identity.pk}/failed_logins")
    assert failed["metadata"]["reason"] == "country_not_allowed"
