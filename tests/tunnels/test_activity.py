"""The charts of Home: counted once, right by hour and day, in the viewer's zone, cheap, and readable without eyes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest
from django.test import Client, RequestFactory
from django.urls import reverse
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from access.models import AccessRequest, Certificate
from accounts.models import AccessSession, Organization
from accounts.zones import viewer_zone
from tests.factories import Cast
from tests.pages_kit import login, shown
from tests.world import World, make_world
from tunnels.actions.activity import HOUR, SETTLED_AFTER, count_hours, forget_old_hours, hour_of, sample_activity
from tunnels.activity import Activity, read_activity
from tunnels.charts import bar_chart, nice_top
from tunnels.models import Connection, HourOfActivity
from tunnels.tasks import roll_up_activity

NOON = datetime(2026, 3, 10, 12, 30, tzinfo=UTC)


@pytest.fixture
def world(cast: Cast) -> World:
    made = make_world(cast.widgetcorp, domain="widgetcorp.tech")
    AccessRequest.objects.all().delete()
    Certificate.objects.all().delete()
    Organization.objects.update(created_at=NOON - timedelta(days=60))
    cast.widgetcorp.refresh_from_db()
    return made


@pytest.fixture
def organization(world: World) -> Organization:
    world.organization.refresh_from_db()
    return world.organization


def write(
    organization: Organization, at: datetime, *, allowed: int = 0, denied: int = 0, action: str = "login"
) -> None:
    rows = [
        AccessRequest(
            organization=organization,
            application_label="x",
            action=action,
            allowed=number < allowed,
            reason="r",
            ray_id=uuid4().hex[:16],
        )
        for number in range(allowed + denied)
    ]
    AccessRequest.objects.bulk_create(rows)
    AccessRequest.objects.filter(pk__in=[row.pk for row in rows]).update(created_at=at)


def read(organization: Organization, unit: str = "hour", zone: str = "UTC", now: datetime = NOON) -> Activity:
    return read_activity(organization, unit=unit, zone=ZoneInfo(zone), zone_name=zone, now=now)


class TestCounting:
    def test_hours_that_are_over_are_counted_once(self, organization: Organization, cast: Cast) -> None:
        write(organization, NOON - 2 * HOUR, allowed=3, denied=2)
        write(organization, NOON - 2 * HOUR, allowed=5, action="connect")
        write(organization, NOON, allowed=1)
        write(cast.evilcorp, NOON - 2 * HOUR, denied=9)
        assert count_hours(now=NOON) == 4
        row = HourOfActivity.objects.for_organization(organization).get(hour=hour_of(NOON - 2 * HOUR))
        assert (row.logins_allowed, row.logins_denied) == (3, 2)
        assert count_hours(now=NOON) == 0
        assert not HourOfActivity.objects.filter(hour=hour_of(NOON), counted_at__isnull=False).exists()

    def test_counting_again_gives_the_same(self, organization: Organization) -> None:
        write(organization, NOON - HOUR, allowed=3)
        count_hours(now=NOON)
        before = list(HourOfActivity.objects.values("hour", "logins_allowed"))
        HourOfActivity.objects.update(counted_at=None)
        count_hours(now=NOON)
        assert list(HourOfActivity.objects.values("hour", "logins_allowed")) == before

    def test_an_hour_settles_before_it_is_counted(self, organization: Organization) -> None:
        write(organization, NOON - HOUR, allowed=1)
        end = hour_of(NOON)
        assert count_hours(now=end + timedelta(seconds=30)) == 0
        assert count_hours(now=end + timedelta(minutes=3)) == 1

    def test_samples_are_taken_once_per_slot(self, world: World) -> None:
        AccessSession.objects.update(expires_at=NOON + HOUR)
        Connection.objects.update(last_seen_at=NOON)
        assert sample_activity(now=NOON) == 1
        assert sample_activity(now=NOON + timedelta(seconds=50)) == 0
        AccessSession.objects.update(revoked_at=NOON)
        assert sample_activity(now=NOON + timedelta(minutes=5)) == 1
        row = HourOfActivity.objects.get()
        assert (row.samples, row.tunnels_seen, row.tunnels_up, row.sessions_peak) == (2, 2, 1, 1)

    def test_old_hours_are_forgotten_and_the_task_does_it_all(self, organization: Organization) -> None:
        HourOfActivity.objects.create(organization=organization, hour=NOON - timedelta(days=91))
        assert forget_old_hours(now=NOON) == 1
        settled = hour_of(timezone.now() - SETTLED_AFTER)  # not the same hour in the first minutes of one
        write(organization, settled - 2 * HOUR, allowed=1)
        assert roll_up_activity.delay().get() == 2
        assert HourOfActivity.objects.filter(samples=1).count() == 1


class TestReading:
    def test_the_running_hour_is_live(self, organization: Organization) -> None:
        write(organization, NOON - HOUR, allowed=2)
        count_hours(now=NOON)
        write(organization, NOON, allowed=4, denied=1)
        activity = read(organization)
        assert [bucket.logins_allowed for bucket in activity.buckets[-2:]] == [2, 4]
        assert activity.buckets[-1].logins_denied == 1
        assert activity.counted_until is None
        assert len(activity.buckets) == 24

    def test_days_are_the_viewers(self, organization: Organization) -> None:
        write(organization, datetime(2026, 3, 9, 23, 30, tzinfo=UTC), allowed=1)
        count_hours(now=NOON)
        assert [bucket.logins_allowed for bucket in read(organization, "day").buckets[-2:]] == [1, 0]
        assert [bucket.logins_allowed for bucket in read(organization, "day", "Asia/Tokyo").buckets[-2:]] == [0, 1]
        assert len(read(organization, "day").buckets) == 30

    def test_days_keep_their_length_over_a_change_of_the_clock(self, organization: Organization) -> None:
        now = datetime(2026, 3, 30, 12, tzinfo=UTC)
        starts = [bucket.start for bucket in read(organization, "day", "Europe/Lisbon", now).buckets]
        assert {start.hour for start in starts} == {0}
        assert [start.day for start in starts[-3:]] == [28, 29, 30]

    def test_a_job_that_is_behind_is_named(self, organization: Organization) -> None:
        write(organization, NOON - 8 * HOUR, allowed=7)
        assert read(organization).counted_until is not None
        count_hours(now=NOON - 7 * HOUR)
        assert read(organization).counted_until == hour_of(NOON - 7 * HOUR)

    def test_another_tenants_numbers_are_not_mine(self, organization: Organization, cast: Cast) -> None:
        write(cast.evilcorp, NOON - HOUR, denied=9)
        count_hours(now=NOON)
        assert read(organization).total("logins_denied") == 0


class TestPage:
    def test_charts_have_titles_sentences_and_a_table(self, cast: Cast, world: World) -> None:
        write(world.organization, timezone.now(), allowed=3, denied=2)
        page = shown(login(cast.alice), reverse("organization_home", args=["widgetcorp"]))
        assert page.count('role="img" aria-labelledby="chart-') == 4
        assert "3 logins let in and 2 refused in the last 24 hours." in page
        assert "3 let in, 2 refused</title>" in page
        assert "These numbers as a table" in page
        days = shown(login(cast.alice), reverse("organization_home", args=["widgetcorp"]) + "?by=day")
        assert "in the last 30 days" in days

    def test_the_cookie_names_the_zone(self, world: World, cast: Cast) -> None:
        client = login(cast.alice)
        client.cookies["zone"] = "Asia%2FTokyo"
        assert "Times of the charts are Asia/Tokyo." in shown(client, reverse("organization_home", args=["widgetcorp"]))

    def test_query_budget(
        self, cast: Cast, world: World, django_assert_max_num_queries: DjangoAssertNumQueries
    ) -> None:
        client: Client = login(cast.alice)
        with django_assert_max_num_queries(19):
            shown(client, reverse("organization_home", args=["widgetcorp"]))


@pytest.mark.parametrize("name", ["", "Nowhere/Land", "../../etc/passwd", "Europe", "x" * 200, "a/b/c/d", "UTC\n"])
def test_an_unknown_zone_is_utc(name: str) -> None:
    request = RequestFactory().get("/")
    request.COOKIES["zone"] = name
    assert viewer_zone(request).key == "UTC"


class TestDrawing:
    def test_bars_stand_on_the_ground_and_on_each_other(self) -> None:
        chart = bar_chart("k", "t", "s", series=[("a", [10, 0]), ("b", [10, 0])], texts=["x", "y"], labels=["l", ""])
        low, high = chart.columns[0].bars
        assert low.y + low.height == pytest.approx(chart.baseline)
        assert high.y + high.height == pytest.approx(low.y)
        assert high.y == pytest.approx(chart.top_line)
        assert chart.columns[1].bars == []
        assert [label.text for label in chart.labels] == ["l"]

    def test_a_small_value_is_seen(self) -> None:
        chart = bar_chart("k", "t", "s", series=[("a", [1000, 1])], texts=["", ""], labels=["", ""])
        assert chart.columns[1].bars[0].height >= 1

    @pytest.mark.parametrize(("highest", "top"), [(0, 1), (1, 1), (3, 5), (11, 20), (99, 100), (501, 1000)])
    def test_axes_end_at_round_numbers(self, highest: float, top: float) -> None:
        assert nice_top(highest) == top
