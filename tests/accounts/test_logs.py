"""The three logs: filters, pages by key, files, saved views, the viewer's zone; and that long logs stay quick."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from access.models import AccessRequest, Certificate
from accounts import logbook
from accounts.actor import system
from accounts.audit import record
from accounts.models import AuditEvent, SavedLogView, User
from tests.factories import Cast
from tests.pages_kit import EVIL_NAME, last_event, login, shown, text_of
from tests.world import World, make_world

LOGS = ("access_log", "certificates", "audit_log")


def url(name: str, *args: object) -> str:
    return reverse(name, args=["widgetcorp", *args])


@pytest.fixture
def world(cast: Cast) -> World:
    return make_world(cast.widgetcorp, domain="widgetcorp.tech")


@pytest.fixture
def alice(cast: Cast) -> Client:
    return login(cast.alice)


def decisions(world: World, count: int, **values: Any) -> list[AccessRequest]:
    """One a minute, the last one now."""
    now = timezone.now()
    common = {
        "application": world.application,
        "application_label": "SSH bastion",
        "action": "login",
        "reason": "allow",
    }
    rows = AccessRequest.objects.bulk_create(
        AccessRequest(
            **{
                **common,
                "organization": world.organization,
                "email": f"p{number}@people.test",
                "allowed": True,
                "reason": "allow",
                "ray_id": f"{number:016x}",
                **values,
            }
        )
        for number in range(count)
    )
    for number, row in enumerate(rows):
        row.created_at = now - timedelta(minutes=count - number)
    AccessRequest.objects.bulk_update(rows, ["created_at"])
    return rows


def body(response: Any) -> str:
    return b"".join(response.streaming_content).decode()


class TestFilters:
    @pytest.fixture(autouse=True)
    def _rows(self, world: World) -> None:
        decisions(world, 1, email="dan@people.test", allowed=False, reason="no_policy", country="DE", action="connect")
        decisions(world, 1, email="eve@people.test", application_label="Wiki", policy_label="Writers", country="FR")

    @pytest.mark.parametrize(
        ("query", "found", "missing"),
        [
            ("decision=denied", "dan@", "eve@"),
            ("action=connect", "dan@", "eve@"),
            ("application=wik", "eve@", "dan@"),
            ("person=dan@people.test", "dan@", "eve@"),
            ("person=DAN@People.test", "dan@", "eve@"),
            ("person=ev", "eve@", "dan@"),
            ("country=Germany", "dan@", "eve@"),
            ("country=de", "dan@", "eve@"),
            ("policy=writ", "eve@", "dan@"),
            ("q=no_policy", "dan@", "eve@"),
            ("q=wiki&decision=allowed", "eve@", "dan@"),
        ],
    )
    def test_access(self, alice: Client, query: str, found: str, missing: str) -> None:
        page = shown(alice, f"{url('access_log')}?{query}")
        assert found in page.split("<tbody>")[1]
        assert missing not in page.split("<tbody>")[1]

    def test_unknown_country_finds_nothing_and_keeps_the_input(self, alice: Client) -> None:
        page = shown(alice, f"{url('access_log')}?country=Atlantis")
        assert "Nothing matches" in page
        assert 'value="Atlantis"' in page

    def test_values_outside_the_lists_are_ignored(self, alice: Client) -> None:
        """AC-109: no name of a column, no lookup, no odd value reaches the database as such."""
        odd = (
            "decision=x'&email__contains=a&order_by=secret&range=ever&before=zz&after=1-x&since=0001-01-01T00:00&q=%00"
        )
        assert "dan@" in shown(alice, f"{url('access_log')}?{odd}")
        for name in LOGS:
            assert alice.get(f"{url(name)}?before={'9' * 30}-1&since=9999-12-31T23:59").status_code == 200

    def test_time_range(self, alice: Client, world: World) -> None:
        old = decisions(world, 1, email="old@people.test")[0]
        AccessRequest.objects.filter(pk=old.pk).update(created_at=datetime(2026, 3, 1, 12, 0, tzinfo=UTC))
        assert "old@" not in shown(alice, f"{url('access_log')}?range=month")
        window = "since=2026-03-01T11:59&until=2026-03-01T12:01"
        assert "old@" in shown(alice, f"{url('access_log')}?{window}")
        # The same address means the same instants to somebody in another zone, whose form shows their own times.
        User.objects.filter(email="alice@widgetcorp.test").update(time_zone="Asia/Tokyo")
        assert "old@" not in shown(alice, f"{url('access_log')}?{window}").split("<tbody>")[-1]
        page = shown(alice, f"{url('access_log')}?{window}&tz=UTC")
        assert "old@" in page
        assert 'value="2026-03-01T20:59"' in page

    def test_audit(self, alice: Client, world: World) -> None:
        record("accounts.member.removed", organization=world.organization, actor=system("sweeper"), target_label="zed")
        assert "zed" in shown(alice, f"{url('audit_log')}?event=accounts.member.removed").split("<tbody>")[1]
        assert "zed" in shown(alice, f"{url('audit_log')}?actor=sweep&kind=system").split("<tbody>")[1]
        assert "zed" not in shown(alice, f"{url('audit_log')}?event=access.group.created").split("<tbody>")[1]

    @pytest.mark.parametrize("query", ["state=valid", "application=bast", "person=carol", "person=carol@people.test"])
    def test_certificates(self, alice: Client, world: World, query: str) -> None:
        assert world.certificate.serial in shown(alice, f"{url('certificates')}?{query}")
        assert world.certificate.serial in shown(alice, f"{url('certificates')}?q={world.certificate.serial}")
        assert "Nothing matches" in shown(alice, f"{url('certificates')}?state=revoked")
        assert "Nothing matches" in shown(alice, f"{url('certificates')}?person=nobody")
        assert "carol" in shown(alice, f"{url('certificates')}?q=carol")

    def test_each_entry_opens_its_trace(self, alice: Client, world: World) -> None:
        address = url("access_log_entry", world.access_request.pk)
        assert address in shown(alice, url("access_log"))
        assert "Engineers get in" in shown(alice, address)


class TestPages:
    def _links(self, page: str) -> dict[str, str]:
        nav = page.split('aria-label="Pages"')[-1] if 'aria-label="Pages"' in page else ""
        found = {}
        for part in nav.split('<a class="button tiny" href="')[1:]:
            address, rest = part.split('"', 1)
            found[rest.split(">")[1].split("<")[0]] = address.replace("&amp;", "&")
        return found

    def _emails(self, page: str) -> list[str]:
        return [part.split("<")[0] for part in page.split('data-label="Who">')[1:]]

    def test_there_and_back_again_without_gaps(self, alice: Client, world: World) -> None:
        AccessRequest.objects.all().delete()
        rows = decisions(world, 120)
        # Same instant: the key decides, nothing is lost between pages.
        same = rows[60].created_at
        AccessRequest.objects.filter(pk__in=[row.pk for row in rows[55:75]]).update(created_at=same)
        seen: list[str] = []
        address = url("access_log")
        addresses = [address]
        while True:
            page = shown(alice, address)
            seen += self._emails(page)
            links = self._links(page)
            if "Older" not in links:
                break
            address = url("access_log") + links["Older"]
            addresses.append(address)
        assert len(seen) == len(set(seen)) == 120
        assert seen[0] == "p119@people.test"
        assert len(addresses) == 3
        back = self._emails(shown(alice, url("access_log") + links["Newer"]))
        assert back == seen[50:100]

    def test_filters_stay_on_the_way(self, alice: Client, world: World) -> None:
        decisions(world, 60, allowed=False)
        links = self._links(shown(alice, f"{url('access_log')}?decision=denied&q="))
        assert links["Older"].startswith("?decision=denied&before=")

    def test_a_rare_answer_is_looked_for_a_stretch_at_a_time(self, alice: Client, world: World, monkeypatch) -> None:
        monkeypatch.setattr(logbook, "SCAN_ROWS", 40)
        AccessRequest.objects.all().delete()
        rows = decisions(world, 100)
        AccessRequest.objects.filter(pk=rows[3].pk).update(country="IS")
        page = shown(alice, f"{url('access_log')}?country=Iceland")
        assert "Looked through 40 entries" in page
        steps = 0
        while "p3@people.test" not in page:
            address = page.split("before=")[1].split('"')[0]
            page = shown(alice, f"{url('access_log')}?country=IS&before={address}")
            steps += 1
        assert steps == 2

    def test_no_page_counts_or_skips(self, alice: Client, world: World) -> None:
        """What makes a page slow with a million rows: COUNT over all of them, OFFSET without a bound."""
        decisions(world, 60)
        for name in LOGS:
            for query in ("", "?q=nobody&country=PT&actor=x", "?person=carol"):
                with CaptureQueriesContext(
                    connection,
                ) as captured:
                    shown(alice, url(name) + query)
                statements = [entry["sql"] for entry in captured.captured_queries]
                assert not [sql for sql in statements if "COUNT(" in sql], name
                assert len(statements) <= 11, "\n".join(statements)

    @pytest.mark.parametrize("model", [AccessRequest, Certificate, AuditEvent])
    def test_the_first_page_is_read_off_an_index(self, world: World, model: Any) -> None:
        rows = model.objects.for_organization(world.organization).order_by("-created_at", "-pk")[:51]
        plan = rows.explain()
        if connection.vendor == "sqlite":
            assert "USING INDEX" in plan
            assert "TEMP B-TREE" not in plan, plan
        else:
            with connection.cursor() as cursor:
                cursor.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off")
            assert "_by_time" in rows.explain()


class TestWords:
    """Lists and details speak in words; the code is the filter's value and stands in the detail and the file."""

    def test_a_refusal(self, alice: Client, world: World) -> None:
        entry = decisions(world, 1, allowed=False, reason="group_not_allowed", connection="okta")[0]
        decisions(world, 1, allowed=False, reason="country_not_allowed")
        page = shown(alice, url("access_log") + "?reason=group_not_allowed")
        assert "Login · Not in a required group" in page and "Okta" in page
        assert "Login · Wrong country" not in page
        assert '<option value="group_not_allowed" selected>Not in a required group</option>' in page
        assert "<code>group_not_allowed</code>" in shown(alice, url("access_log_entry", entry.pk))
        assert "group_not_allowed" in b"".join(alice.get(url("access_log") + "?format=csv")).decode()

    def test_a_code_without_words(self, alice: Client, world: World) -> None:
        decisions(world, 1, allowed=False, reason="some_new_code")
        assert "Login · Some new code" in shown(alice, url("access_log"))

    def test_revoke_is_offered_where_it_does_something(self, alice: Client, world: World) -> None:
        detail, revoke = (
            url("certificate_detail", world.certificate.pk),
            url("certificate_revoke", world.certificate.pk),
        )
        assert revoke in shown(alice, url("certificates")) and revoke in shown(alice, detail)
        Certificate.objects.update(valid_before=timezone.now() - timedelta(minutes=1))
        assert revoke not in shown(alice, url("certificates")) and revoke not in shown(alice, detail)


class TestFiles:
    @pytest.fixture(autouse=True)
    def _rows(self, world: World) -> None:
        decisions(world, 3, email="=cmd|' /C calc'!A0", application_label="  @SUM(1+1)", purpose="x")

    def test_csv_is_safe_to_open(self, alice: Client, cast: Cast) -> None:
        """AC-107: nothing in a file is a formula to a spreadsheet."""
        response = alice.get(f"{url('access_log')}?format=csv&decision=allowed")
        assert response["Content-Type"] == "text/csv; charset=utf-8"
        assert 'attachment; filename="access-log-' in response["Content-Disposition"]
        rows = list(csv.DictReader(io.StringIO(body(response))))
        assert len(rows) == 4
        mine = [row for row in rows if "cmd" in row["person"]]
        assert {row["person"] for row in mine} == {"'=cmd|' /C calc'!A0"}
        assert {row["application"] for row in mine} == {"'  @SUM(1+1)"}
        event = last_event(cast.widgetcorp)
        assert event.name == "accounts.log.exported"
        assert event.new == {"log": "access", "format": "csv", "filters": "decision=allowed"}

    @pytest.mark.parametrize("name", LOGS)
    def test_json_has_what_the_page_has(self, alice: Client, world: World, name: str) -> None:
        rows = json.loads(body(alice.get(f"{url(name)}?format=json")))
        assert rows
        assert all(row["time"].endswith("Z") for row in rows)
        if name == "audit_log":
            created = next(row for row in rows if row["event"] == "access.group.created")
            assert created["new"] == {"name": "Engineering", "is_default": False}

    def test_filters_apply_and_an_empty_file_is_a_file(self, alice: Client) -> None:
        assert json.loads(body(alice.get(f"{url('access_log')}?format=json&decision=denied"))) == []
        assert len(body(alice.get(f"{url('access_log')}?format=csv&decision=denied")).splitlines()) == 1

    def test_files_are_bounded_and_complete_across_batches(self, alice: Client, world: World, monkeypatch) -> None:
        monkeypatch.setattr(logbook, "_EXPORT_BATCH", 7)
        AccessRequest.objects.all().delete()
        decisions(world, 30)
        assert len(json.loads(body(alice.get(f"{url('access_log')}?format=json")))) == 30
        monkeypatch.setattr(logbook, "EXPORT_ROWS", 12)
        kept = json.loads(body(alice.get(f"{url('access_log')}?format=json")))
        assert [row["person"] for row in kept] == [f"p{number}@people.test" for number in range(29, 17, -1)]

    def test_another_tenants_rows_are_in_no_file(self, alice: Client, cast: Cast) -> None:
        make_world(cast.evilcorp, domain="evilcorp.tech")
        for name in LOGS:
            assert "evilcorp" not in body(alice.get(f"{url(name)}?format=json"))

    def test_viewers_get_no_file_and_leave_no_event(self, cast: Cast, world: World) -> None:
        before = AuditEvent.objects.count()
        assert login(cast.bob).get(f"{url('access_log')}?format=csv").status_code == 403
        assert AuditEvent.objects.count() == before


class TestSavedViews:
    def test_saved_used_and_deleted(self, alice: Client, cast: Cast, world: World) -> None:
        save = url("log_view_save", "access")
        query = "decision=denied&person=dan%40people.test&before=1-2&csrfmiddlewaretoken=x"
        answer = alice.post(save, {"name": "Dan's refusals", "query": query}, follow=True)
        assert "is saved" in text_of(answer)
        view = SavedLogView.objects.get(name="Dan's refusals")
        assert view.query == "decision=denied&person=dan%40people.test"
        assert last_event(cast.widgetcorp).name == "accounts.log_view.saved"
        page = shown(login(cast.ada), url("access_log"))
        assert "Dan&#x27;s refusals" in page
        assert "Dan&#x27;s" not in shown(alice, url("certificates"))
        delete = url("log_view_delete", view.pk)
        assert "Delete the saved view" in shown(alice, delete)
        alice.post(delete)
        assert not SavedLogView.objects.filter(pk=view.pk).exists()
        assert last_event(cast.widgetcorp).name == "accounts.log_view.deleted"

    @pytest.mark.parametrize(
        ("name", "query", "says"),
        [
            ("", "q=x", "1 to 80"),
            ("x", "", "no filter"),
            ("Denied", "q=x", "Choose another"),
            ("x", "q=" + "é" * 999, ""),
        ],
    )
    def test_refusals_say_why(self, alice: Client, world: World, name: str, query: str, says: str) -> None:
        answer = alice.post(url("log_view_save", "access"), {"name": name, "query": query}, follow=True)
        assert says in text_of(answer)
        assert SavedLogView.objects.filter(log="access").count() <= 2

    def test_auditors_save_nothing(self, cast: Cast, world: World) -> None:
        client = login(cast.ada)
        assert client.post(url("log_view_save", "access"), {"name": "mine", "query": "q=x"}).status_code == 403
        assert "Save view" not in shown(client, f"{url('access_log')}?q=x")

    def test_names_are_escaped(self, alice: Client, world: World) -> None:
        SavedLogView.objects.update(name=EVIL_NAME, query="q=%22%3E%3Cscript%3Ealert")
        assert "<script>alert" not in shown(alice, url("access_log"))


class TestZone:
    """2026-07-01 12:00 UTC is 13:00 in Lisbon and 21:00 in Tokyo."""

    @pytest.fixture(autouse=True)
    def _noon(self, world: World) -> None:
        AccessRequest.objects.update(created_at=datetime(2026, 7, 1, 12, 0, tzinfo=UTC))

    def test_without_anything_it_is_utc_and_says_so(self, alice: Client) -> None:
        page = shown(alice, url("access_log"))
        assert ">2026-07-01 12:00:00 UTC</time>" in page
        assert "Times are UTC." in page

    def test_the_browsers_zone(self, alice: Client) -> None:
        alice.cookies["zone"] = "Europe%2FLisbon"
        page = shown(alice, url("access_log"))
        assert ">2026-07-01 13:00:00</time>" in page
        assert 'title="2026-07-01 13:00:00 Europe/Lisbon (2026-07-01 12:00:00 UTC)"' in page
        assert 'datetime="2026-07-01T12:00:00+00:00"' in page

    def test_the_members_own_choice_wins(self, alice: Client, cast: Cast) -> None:
        alice.cookies["zone"] = "Europe%2FLisbon"
        User.objects.filter(pk=cast.alice.pk).update(time_zone="Asia/Tokyo")
        assert ">2026-07-01 21:00:00</time>" in shown(alice, url("access_log"))

    @pytest.mark.parametrize("name", ["../../etc/passwd", "Mars/Olympus", "x" * 5000, "<script>", "", "posixrules/"])
    def test_anything_else_is_utc(self, alice: Client, name: str) -> None:
        alice.cookies["zone"] = name
        assert "12:00:00 UTC" in shown(alice, url("access_log"))

    def test_one_persons_zone_is_not_the_next_ones(self, alice: Client, cast: Cast) -> None:
        alice.cookies["zone"] = "Asia/Tokyo"
        shown(alice, url("access_log"))
        assert "12:00:00 UTC" in shown(login(cast.ada), url("access_log"))
