"""Whatever takes access away cuts live streams within five seconds, says why on the client's stderr, and leaves
everybody else's streams alone (issue 3, "Continuous"). Real client, edge, connector and sshd in every test."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from demo.browser import Browser, Page
from demo.first_login import wait_until
from demo.installation import Installation
from demo.person import Person
from demo.scim import ScimPush
from tests.integration.kit import CUT_SECONDS, Workshop, query, until_served

pytestmark = pytest.mark.integration
HOSTNAME = "live.widgetcorp.localhost"
MOVED = "moved.widgetcorp.localhost"
ALICE, DANA, BOB = "alice@widgetcorp.test", "dana@widgetcorp.test", "bob@widgetcorp.test"
APPS = "/accounts/{account}/access/apps"


def email(address: str) -> dict[str, Any]:
    return {"email": {"email": address}}


@dataclass
class Stream:
    """A client with a stream through edge and connector; its first line is sshd's own."""

    process: subprocess.Popen[str]

    @classmethod
    def open(cls, person: Person, **extra: str) -> Stream:
        command = [sys.executable, "-m", "dataplane.cli", "access", "ssh", "--hostname", HOSTNAME]
        process = subprocess.Popen(
            command, env={**person.environment, **extra}, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stdout is not None
        first = process.stdout.readline()
        assert first.startswith("SSH-2.0"), process.communicate(timeout=20)
        return cls(process)

    def reason(self, since: float) -> str:
        """What the client said when it was cut."""
        try:
            assert self.process.wait(since + CUT_SECONDS - time.monotonic()) == 1
        finally:
            self.process.kill()
        return self.process.communicate(timeout=20)[1]

    def is_alive(self) -> bool:
        return self.process.poll() is None

    def close(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=20)


@dataclass
class Stage:
    """One application with two policies: the first is each test's own, the second lets Dana in."""

    here: Installation
    workshop: Workshop
    application: dict[str, Any]
    alice: Person
    dana: Person

    @property
    def path(self) -> str:
        return f"{APPS}/{self.application['id']}"

    def let_in(self, **policy: Any) -> dict[str, Any]:
        """Replace the test's own policy."""
        for old in self.here.api("GET", f"{self.path}/policies"):
            if old["name"] == "Own":
                self.here.api("DELETE", f"{self.path}/policies/{old['id']}")
        body = {"name": "Own", "decision": "allow", "precedence": 1, **policy}
        made: dict[str, Any] = self.here.api("POST", f"{self.path}/policies", body)
        return made

    def make(self, kind: str, **values: Any) -> dict[str, Any]:
        made: dict[str, Any] = self.here.api("POST", f"/accounts/{{account}}/{kind}", values)
        return made

    def browser(self) -> Browser:
        host, _, port = self.here.facts["edge_address"].rpartition(":")
        return Browser(edge=(host, int(port)), ca_file=self.here.facts["edge_ca"])

    @property
    def port(self) -> str:
        return self.here.facts["edge_address"].rpartition(":")[2]


@pytest.fixture(scope="module")
def stage(workshop: Workshop) -> Iterator[Stage]:
    here = workshop.here
    application = here.api("POST", APPS, {
        "type": "self_hosted", "name": "Live", "domain": HOSTNAME,
        "allowed_idps": [workshop.application["allowed_idps"][0]],
        "policies": [
            {"name": "Own", "decision": "allow", "include": [email(ALICE)], "precedence": 1},
            {"name": "Dana", "decision": "allow", "include": [email(DANA)], "precedence": 9},
        ],
    })  # fmt: skip
    tunnel = here.api("POST", "/accounts/{account}/cfd_tunnel", {"name": "live", "config_src": "cloudflare"})
    for hostname in (HOSTNAME, MOVED):
        here.api("PUT", f"/zones/{{zone}}/tunnels/{tunnel['id']}/routes", {"type": "dns", "user_hostname": hostname})
    rule = {"service": f"ssh://127.0.0.1:{workshop.server.port}"}
    here.api("PUT", f"/accounts/{{account}}/cfd_tunnel/{tunnel['id']}/configurations", {"config": {"ingress": [rule]}})
    facts = here.facts
    environment = {
        **workshop.person("second-operator", configured=False).environment,
        "TUNNEL_TOKEN": here.api("GET", f"/accounts/{{account}}/cfd_tunnel/{tunnel['id']}/token"),
        "TUNNEL_EDGE": ",".join([facts["tunnel_edge"]] * 4),
        "TUNNEL_CACERT": facts["edge_ca"],
    }
    connector = subprocess.Popen([sys.executable, "-m", "dataplane.cli", "tunnel", "run"], env=environment)
    try:
        status = f"/accounts/{{account}}/cfd_tunnel/{tunnel['id']}"
        wait_until(lambda: here.api("GET", status)["status"] != "inactive", "the second tunnel's connector")
        alice = workshop.person("alice", configured=False)
        dana = workshop.person("dana", configured=False)
        made = Stage(here, workshop, application, alice, dana)
        until_served(here, HOSTNAME)
        for person in (alice, dana):
            _log_in(person)
        yield made
    finally:
        connector.terminate()
        connector.wait(20)


def _log_in(person: Person) -> None:
    done = person.sallyport("access", "login", f"https://{HOSTNAME}")
    assert done.returncode == 0, done.stderr


@pytest.fixture
def dana(stage: Stage) -> Iterator[Stream]:
    """Allowed by a policy of her own throughout: her stream must outlive every test's change."""
    stream = Stream.open(stage.dana)
    yield stream
    assert stream.is_alive(), stream.process.communicate(timeout=20)[1]
    stream.close()


def test_a_policy_edit(stage: Stage, dana: Stream) -> None:
    policy = stage.let_in(include=[email(ALICE)])
    stream = Stream.open(stage.alice)
    started = time.monotonic()
    body = {"name": "Own", "decision": "allow", "include": [email(BOB)], "precedence": 1}
    stage.here.api("PUT", f"{stage.path}/policies/{policy['id']}", body)
    told = stream.reason(started)
    assert "email_not_allowed" in told
    reference = told.partition("(reference ")[2].partition(")")[0]
    log = stage.here.api("GET", "/accounts/{account}/access/logs/access_requests?limit=50")
    (entry,) = [entry for entry in log if entry["ray_id"] == reference]
    assert (entry["action"], entry["allowed"], entry["user_email"]) == ("cut", False, ALICE)


def test_a_reusable_policy_edit_and_its_detachment(stage: Stage, dana: Stream) -> None:
    stage.let_in(include=[email(BOB)])
    reusable = stage.make("access/policies", name="Shared", decision="allow", include=[email(ALICE)])
    dana_id = next(row["id"] for row in stage.here.api("GET", f"{stage.path}/policies") if row["name"] == "Dana")
    everything = {key: stage.application[key] for key in ("type", "name", "domain", "allowed_idps")}
    attached = {**everything, "policies": [{"id": dana_id, "precedence": 2}, {"id": reusable["id"], "precedence": 3}]}
    stage.here.api("PUT", stage.path, attached)
    stream = Stream.open(stage.alice)
    started = time.monotonic()
    path = f"/accounts/{{account}}/access/policies/{reusable['id']}"
    stage.here.api("PUT", path, {"name": "Shared", "decision": "allow", "include": [email(BOB)]})
    assert "email_not_allowed" in stream.reason(started)
    stage.here.api("PUT", path, {"name": "Shared", "decision": "allow", "include": [email(ALICE)]})
    stream = Stream.open(stage.alice)
    started = time.monotonic()
    stage.here.api("PUT", stage.path, {**everything, "policies": [{"id": dana_id, "precedence": 2}]})
    assert "email_not_allowed" in stream.reason(started)


def test_an_edit_of_a_group_within_a_group(stage: Stage, dana: Stream) -> None:
    inner = stage.make("access/groups", name="Inner", include=[email(ALICE)])
    outer = stage.make("access/groups", name="Outer", include=[{"group": {"id": inner["id"]}}])
    stage.let_in(include=[{"group": {"id": outer["id"]}}])
    stream = Stream.open(stage.alice)
    started = time.monotonic()
    path = f"/accounts/{{account}}/access/groups/{inner['id']}"
    stage.here.api("PUT", path, {"name": "Inner", "include": [email(BOB)]})
    assert "email_not_allowed" in stream.reason(started)


def test_an_entry_taken_out_of_a_list(stage: Stage, dana: Stream) -> None:
    people = stage.make("gateway/lists", name="People", type="EMAIL", items=[{"value": ALICE}, {"value": BOB}])
    stage.let_in(include=[{"email_list": {"id": people["id"]}}])
    stream = Stream.open(stage.alice)
    started = time.monotonic()
    stage.here.api("PATCH", f"/accounts/{{account}}/gateway/lists/{people['id']}", {"remove": [ALICE]})
    assert "email_not_allowed" in stream.reason(started)


def test_a_range_taken_out_of_a_list_of_addresses(stage: Stage, dana: Stream) -> None:
    ranges = stage.make("gateway/lists", name="Offices", type="IP", items=[{"value": "127.0.0.0/8"}])
    stage.let_in(include=[email(ALICE)], require=[{"ip_list": {"id": ranges["id"]}}])
    stream = Stream.open(stage.alice)
    started = time.monotonic()
    replaced = {"name": "Offices", "items": [{"value": "192.0.2.0/24"}]}
    stage.here.api("PUT", f"/accounts/{{account}}/gateway/lists/{ranges['id']}", replaced)
    assert "ip_not_allowed" in stream.reason(started)


def test_groups_changed_by_the_provider_over_scim(stage: Stage, dana: Stream, push: ScimPush) -> None:
    provider_id = stage.workshop.application["allowed_idps"][0]
    claim = {"identity_provider_id": provider_id, "claim_name": "groups", "claim_value": "on-call"}
    user = push.send("POST", "/Users", {"userName": ALICE, "externalId": "user-alice"})
    members = [{"value": user["id"]}]
    group = push.send("POST", "/Groups", {"displayName": "on-call", "members": members})
    stage.let_in(include=[{"oidc": claim}])
    stream = Stream.open(stage.alice)
    started = time.monotonic()
    push.patch(f"/Groups/{group['id']}", {"op": "remove", "path": f'members[value eq "{user["id"]}"]'})
    assert "group" in stream.reason(started)


def _log_in_anew(person: Person) -> None:
    for token in (person.home / ".sallyport").glob("*token*"):
        token.unlink()
    _log_in(person)


def test_a_disabled_service_token(stage: Stage, dana: Stream) -> None:
    token = stage.make("access/service_tokens", name="job")
    other = stage.make("access/service_tokens", name="other job")
    stage.let_in(decision="non_identity", include=[{"any_valid_service_token": {}}])
    nobody = Person.at("nobody", stage.workshop.base / "jobs", stage.here)
    stream, spared = (
        Stream.open(
            nobody,
            TUNNEL_SERVICE_TOKEN_ID=made["client_id"],
            TUNNEL_SERVICE_TOKEN_SECRET=made["client_secret"],
        )
        for made in (token, other)
    )
    started = time.monotonic()
    stage.here.api("PUT", f"/accounts/{{account}}/access/service_tokens/{token['id']}", {"enabled": False})
    assert "disabled" in stream.reason(started).lower()
    started = time.monotonic()
    stage.here.api("POST", f"/accounts/{{account}}/access/service_tokens/{other['id']}/rotate", {})
    assert "replaced" in spared.reason(started).lower()


def test_temporary_access_that_an_admin_ends_early(stage: Stage, dana: Stream) -> None:
    stage.let_in(**APPROVED_BY_BOB, include=[email(ALICE)])
    alice = _get_approval(stage)
    stream = Stream.open(stage.alice)
    admin = stage.browser()
    url = f"{stage.here.facts['dashboard_url']}/accounts/login/"
    page = admin.get(url)
    facts = stage.here.facts
    page = admin.submit(
        page, page.form(containing="password"), login=facts["admin_email"], password=facts["admin_password"]
    )
    team = page.url.split("/o/")[1].split("/")[0]
    page = admin.get(f"{facts['dashboard_url']}/o/{team}/access/approvals/?state=active")
    (end,) = [address for address, text in page.links if text.startswith("End now")]
    page = admin.get(f"{facts['dashboard_url']}{end}")
    started = time.monotonic()
    page = admin.submit(page, page.form(containing="form_id"))
    assert "is ended" in page.plain()
    assert "temporary access has ended" in stream.reason(started).lower()
    assert "Ask for temporary access" in alice.get(f"https://{HOSTNAME}:{stage.port}/").plain()


def test_temporary_access_that_runs_out(stage: Stage, dana: Stream) -> None:
    """The edge knows the end: nothing changes in between, and no periodic re-check is near."""
    stage.let_in(**APPROVED_BY_BOB, include=[email(ALICE)])
    _get_approval(stage)
    # The shortest time to ask for is five minutes; this row says twelve seconds.
    _shorten_approvals(stage.here, datetime.now(UTC) + timedelta(seconds=12))
    ends = time.monotonic() + 12
    stream = Stream.open(stage.alice)
    assert time.monotonic() < ends, "too slow to show anything"
    assert stream.is_alive()
    assert "temporary access has ended" in stream.reason(ends).lower()
    assert time.monotonic() > ends - 1, "not before its time"


APPROVED_BY_BOB = {
    "approval_required": True,
    "approval_groups": [{"approvals_needed": 1, "email_addresses": [BOB]}],
}


def _get_approval(stage: Stage) -> Browser:
    """Alice asks, Bob approves, both at the team domain; then Alice's client gets its token anew. Her browser."""
    alice, bob = stage.browser(), stage.browser()
    page = _through_provider(alice, alice.get(f"https://{HOSTNAME}:{stage.port}/"), "alice")
    page = alice.submit(page, page.form(containing="reason"), reason="Fix the disk", duration="1800")
    assert "Waiting for approval" in page.plain()
    request_id = _newest_request(stage.here)
    team = stage.here.facts["team_domain"]
    url = f"https://{team}:{stage.port}/cdn-cgi/access/approvals/{request_id}"
    page = _through_provider(bob, bob.get(url), "bob")
    page = bob.submit(page, page.form(containing="approve"), decision="approve")
    assert "Your answer is kept" in page.plain()
    _log_in_anew(stage.alice)
    return alice


def _through_provider(browser: Browser, page: Page, username: str) -> Page:
    """The application's login page, or the provider's own when it is the only one."""
    for _ in range(3):
        if any("username" in form.fields for form in page.forms):
            return browser.submit(page, page.form(containing="username"), username=username)
        link = next((address for address, text in page.links if "Demo IdP" in text), None)
        assert link is not None, page.plain()
        page = browser.get(link if link.startswith("http") else "/".join(page.url.split("/")[:3]) + link)
    raise AssertionError(page.plain())


def _newest_request(here: Installation) -> str:
    ((found,),) = query(here, "SELECT id FROM access_approvalrequest ORDER BY created_at DESC LIMIT 1")
    text = str(found).replace("-", "")
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _shorten_approvals(here: Installation, end: datetime) -> None:
    text = end.strftime("%Y-%m-%d %H:%M:%S.%f")
    postgres = os.environ.get("DATABASE_URL", "").startswith("postgres")
    query(
        here,
        f"UPDATE access_approvalrequest SET ends_at = '{text}{'+00' if postgres else ''}' WHERE status = 'approved'",
    )


def test_an_application_moved_to_another_hostname(stage: Stage) -> None:
    """Last but one: afterwards nothing is at the old name."""
    stage.let_in(include=[email(ALICE)])
    stream = Stream.open(stage.alice)
    started = time.monotonic()
    everything = {key: stage.application[key] for key in ("type", "name", "allowed_idps")}
    stage.here.api("PUT", stage.path, {**everything, "domain": MOVED})
    assert "no longer leads" in stream.reason(started)
    stage.here.api("PUT", stage.path, {**everything, "domain": HOSTNAME})
    until_served(stage.here, HOSTNAME)


def test_a_deleted_application(stage: Stage) -> None:
    stream = Stream.open(stage.alice)
    started = time.monotonic()
    stage.here.api("DELETE", stage.path)
    assert "deleted" in stream.reason(started)
