"""Service tokens over their life: rotation with overlap, switches, the public API's fields, warnings before the end."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.conf import LazySettings
from django.core.mail import EmailMessage
from django.utils import timezone

from access.actions.service_tokens import (
    authenticate_service_token,
    create_service_token,
    refresh_service_token,
    rotate_service_token,
    set_service_token_enabled,
)
from access.models import ServiceToken
from access.tasks import warn_of_expiring_service_tokens
from accounts.errors import Conflict, InvalidInput
from accounts.models import AuditEvent, Membership
from accounts.permissions import Role
from tests.access.makers import ACTOR
from tests.controlplane.api_kit import Api, make_api
from tests.factories import Cast


@pytest.fixture
def api(cast: Cast) -> Api:
    return make_api(cast.widgetcorp)


def works(token: ServiceToken, secret: str) -> bool:
    return authenticate_service_token(token.organization, token.client_id, secret, now=timezone.now()) is not None


class TestRotation:
    def test_both_secrets_work_until_the_end_of_the_overlap(self, cast: Cast) -> None:
        token, first = create_service_token(cast.widgetcorp, actor=ACTOR, name="ci")
        until = timezone.now() + timedelta(hours=1)
        second = rotate_service_token(token, actor=ACTOR, previous_expires_at=until)
        assert works(token, first)
        assert works(token, second)
        at_the_end = authenticate_service_token(cast.widgetcorp, token.client_id, first, now=until)
        assert at_the_end is None
        event = AuditEvent.objects.get(name="access.service_token.rotated")
        assert event.new == {"version": 2, "previous_valid_until": until.isoformat()}

    def test_a_second_rotation_ends_the_first_secret_at_once(self, cast: Cast) -> None:
        token, first = create_service_token(cast.widgetcorp, actor=ACTOR, name="ci")
        until = timezone.now() + timedelta(days=1)
        second = rotate_service_token(token, actor=ACTOR, previous_expires_at=until)
        third = rotate_service_token(token, actor=ACTOR, previous_expires_at=until)
        assert [works(token, secret) for secret in (first, second, third, "")] == [False, True, True, False]

    def test_without_overlap_the_old_secret_stops_at_once(self, cast: Cast) -> None:
        token, first = create_service_token(cast.widgetcorp, actor=ACTOR, name="ci")
        rotate_service_token(token, actor=ACTOR, previous_expires_at=timezone.now() + timedelta(days=1))
        last = rotate_service_token(token, actor=ACTOR)
        assert [works(token, secret) for secret in (first, last)] == [False, True]
        with pytest.raises(InvalidInput, match="30 days"):
            rotate_service_token(token, actor=ACTOR, previous_expires_at=timezone.now() + timedelta(days=31))

    def test_disabling_stops_both_secrets(self, cast: Cast) -> None:
        token, first = create_service_token(cast.widgetcorp, actor=ACTOR, name="ci")
        until = timezone.now() + timedelta(days=1)
        second = rotate_service_token(token, actor=ACTOR, previous_expires_at=until)
        set_service_token_enabled(token, enabled=False, actor=ACTOR)
        assert [works(token, secret) for secret in (first, second)] == [False, False]
        with pytest.raises(Conflict):
            set_service_token_enabled(token, enabled=False, actor=ACTOR)
        set_service_token_enabled(token, enabled=True, actor=ACTOR)
        assert works(token, first)


class TestApi:
    PATH = "/access/service_tokens"

    def test_rotate_with_overlap(self, api: Api, cast: Cast) -> None:
        made = api.ok("POST", api.account + self.PATH, {"name": "ci", "duration": "forever"})
        assert (made["duration"], made["expires_at"], made["client_secret_version"]) == ("forever", None, 1)
        until = (timezone.now() + timedelta(days=2)).replace(microsecond=0)
        body = {"previous_client_secret_expires_at": until.isoformat()}
        rotated = api.ok("POST", f"{api.account}{self.PATH}/{made['id']}/rotate", body)
        assert rotated["client_secret"] != made["client_secret"]
        assert rotated["client_secret_version"] == 2
        assert rotated["previous_client_secret_expires_at"].startswith(until.strftime("%Y-%m-%dT%H:%M:%S"))
        token = ServiceToken.objects.get()
        assert works(token, made["client_secret"])
        assert works(token, rotated["client_secret"])
        shown = api.ok("GET", f"{api.account}{self.PATH}/{made['id']}")
        assert "client_secret" not in shown
        zoneless = {"previous_client_secret_expires_at": "2030-01-01T00:00:00"}
        naive = api.refused(
            "POST",
            f"{api.account}{self.PATH}/{made['id']}/rotate",
            zoneless,
            status=400,
        )
        assert "time zone" in naive["message"]

    def test_raising_the_version_rotates(self, api: Api) -> None:
        made = api.ok("POST", api.account + self.PATH, {"name": "ci", "client_secret_version": 1})
        path = f"{api.account}{self.PATH}/{made['id']}"
        same = api.ok("PUT", path, {"name": "ci", "client_secret_version": 1})
        assert same["client_secret"] is None
        raised = api.ok("PUT", path, {"name": "ci2", "client_secret_version": 2})
        assert (raised["name"], raised["client_secret_version"]) == ("ci2", 2)
        token = ServiceToken.objects.get()
        assert works(token, raised["client_secret"])
        assert not works(token, made["client_secret"])
        api.refused("PUT", path, {"client_secret_version": 4}, status=400)

    def test_made_disabled(self, api: Api) -> None:
        made = api.ok("POST", api.account + self.PATH, {"name": "ci", "enabled": False})
        assert made["enabled"] is False
        assert not works(ServiceToken.objects.get(), made["client_secret"])


class TestWarnings:
    def due(self, cast: Cast, name: str = "ci", **fields: Any) -> ServiceToken:
        token, _ = create_service_token(cast.widgetcorp, actor=ACTOR, name=name, duration_seconds=30 * 86400)
        fields = {"expires_at": timezone.now() + timedelta(days=6), **fields}
        ServiceToken.objects.filter(pk=token.pk).update(**fields)
        token.refresh_from_db()
        return token

    def test_owners_and_admins_get_one_mail(
        self, cast: Cast, mailoutbox: list[EmailMessage], settings: LazySettings
    ) -> None:
        Membership.objects.filter(user=cast.erin).update(role=Role.ADMIN)
        self.due(cast, "first")
        self.due(cast, "second")
        self.due(cast, "later", expires_at=timezone.now() + timedelta(days=8))
        self.due(cast, "off", enabled=False)
        self.due(cast, "over", expires_at=timezone.now() - timedelta(days=1))
        self.due(cast, "forever", expires_at=None)
        assert warn_of_expiring_service_tokens() == {"warned": 2}
        assert warn_of_expiring_service_tokens() == {"warned": 0}
        assert len(mailoutbox) == 1
        mail = mailoutbox[0]
        assert (mail.to, mail.bcc) == ([], ["alice@widgetcorp.test", "erin@widgetcorp.test"])
        assert mail.subject == "2 service tokens of Widget Corp will expire within a week"
        assert all(name in mail.body for name in ("first", "second", f"{settings.DASHBOARD_URL}/o/widgetcorp/"))
        assert not any(name in mail.body for name in ("later", "over", "off (", "forever"))
        assert AuditEvent.objects.filter(name="access.service_token.expiry_warned").count() == 2

    def test_a_refreshed_token_is_warned_of_again(self, cast: Cast, mailoutbox: list[EmailMessage]) -> None:
        token = self.due(cast)
        warn_of_expiring_service_tokens()
        refresh_service_token(token, actor=ACTOR)
        assert warn_of_expiring_service_tokens() == {"warned": 0}
        ServiceToken.objects.update(expires_at=timezone.now() + timedelta(days=2))
        assert warn_of_expiring_service_tokens() == {"warned": 1}
        assert len(mailoutbox) == 2

    def test_a_mail_that_could_not_be_sent_is_tried_again(
        self, cast: Cast, mailoutbox: list[EmailMessage], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.due(cast)

        def refuse(_: EmailMessage) -> int:
            raise ConnectionRefusedError

        with monkeypatch.context() as broken:
            broken.setattr(EmailMessage, "send", refuse)
            with pytest.raises(ConnectionRefusedError):
                warn_of_expiring_service_tokens()
        assert warn_of_expiring_service_tokens() == {"warned": 1}
        assert len(mailoutbox) == 1
