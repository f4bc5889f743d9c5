"""The first-login rail: a table of facts and what they mean, and the same from the database's reality."""

from __future__ import annotations

from dataclasses import replace

import pytest
from django.urls import reverse
from pytest_django import DjangoAssertNumQueries

from access.models import AccessRequest, Application, Certificate
from tests.factories import Cast
from tests.pages_kit import login, shown
from tests.world import World, make_world
from tunnels.models import Connection, DnsRecord, TunnelConfiguration
from tunnels.rail import Facts, judge_rail

NOTHING = Facts(hostname="ssh.widgetcorp.tech")
COMPLETE = Facts(
    hostname="ssh.widgetcorp.tech",
    policies=1,
    letting_policies=1,
    record_name="ssh.widgetcorp.tech",
    record_state="ok",
    record_target="x.tunnel.example.test",
    tunnel_name="ssh-pool",
    tunnel_target="x.tunnel.example.test",
    tunnel_status="healthy",
    tunnel_is_routed=True,
    serves_hostname=True,
    zone_name="widgetcorp.tech",
    authority_state="active",
    certificates_issued=True,
    session_seen=True,
)


def states(facts: Facts) -> str:
    """One letter per step: d(one), n(ext), b(roken), l(ater)."""
    return "".join(step.state.value[0] for step in judge_rail(facts).steps)


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (NOTHING, "nllllll"),
        (COMPLETE, "ddddddd"),
        (replace(COMPLETE, policies=0, letting_policies=0), "ndddddd"),
        (replace(COMPLETE, letting_policies=0), "bdddddd"),
        (replace(COMPLETE, tunnel_status="down"), "dbddddd"),
        (replace(COMPLETE, tunnel_status="inactive"), "dnddddd"),
        (replace(COMPLETE, tunnel_status="degraded"), "ddddddd"),
        (replace(COMPLETE, serves_hostname=False), "dbddddd"),
        (replace(COMPLETE, serves_hostname=None), "ddddddd"),
        (replace(COMPLETE, record_name="", tunnel_is_routed=False), "ddndddd"),
        (replace(COMPLETE, record_state="pending"), "ddndddd"),
        (replace(COMPLETE, record_state="mismatch", record_answer="NXDOMAIN"), "ddbdddd"),
        (replace(COMPLETE, record_state="error"), "ddbdddd"),
        (replace(COMPLETE, tunnel_is_routed=False), "ddbdddd"),
        (replace(COMPLETE, authority_state=""), "dddnddd"),
        (replace(COMPLETE, authority_state="pending"), "dddnddd"),
        # Hosts and laptops are set up side by side; only a login shows that the hosts trust the key.
        (replace(COMPLETE, certificates_issued=False, session_seen=False), "ddddnnl"),
        (replace(COMPLETE, session_seen=False), "ddddndl"),
        # What sshd of a host says of its own configuration counts before anybody has logged in.
        (replace(COMPLETE, certificates_issued=False, session_seen=False, hosts_seen=2, hosts_trusting=1), "dddddnl"),
        (replace(COMPLETE, certificates_issued=False, session_seen=False, hosts_seen=2), "ddddnnl"),
        (replace(COMPLETE, certificates_issued=False, session_seen=False, hosts_seen=1, hosts_ignoring=1), "ddddbll"),
        (replace(COMPLETE, hosts_seen=1, hosts_ignoring=1), "ddddddd"),
        (replace(COMPLETE, authority_state="", certificates_issued=False, session_seen=False), "dddnlll"),
    ],
)
def test_facts_become_steps(facts: Facts, expected: str) -> None:
    assert states(facts) == expected


@pytest.mark.parametrize(
    ("known", "words"),
    [
        ({"hosts_seen": 3, "hosts_trusting": 2}, "2 hosts say that their sshd trusts this authority"),
        ({"hosts_seen": 1, "hosts_trusting": 1}, "1 host says that its sshd trusts this authority, and fetches"),
        ({"hosts_seen": 1, "hosts_ignoring": 1}, "another TrustedUserCAKeys line first"),
        ({"hosts_seen": 1}, "without saying whether sshd reads them"),
        ({}, "run it on every host"),
    ],
)
def test_the_step_of_the_hosts_says_what_is_known_and_by_whom(known: dict[str, int], words: str) -> None:
    facts = replace(COMPLETE, certificates_issued=False, session_seen=False, **known)
    (step,) = [step for step in judge_rail(facts).steps if step.key == "sshd"]
    assert words in step.text


def test_a_name_that_leads_elsewhere_says_who_answered_and_what_to_publish() -> None:
    facts = replace(COMPLETE, record_state="mismatch", record_answer="CNAME other.test", record_resolver="192.0.2.53")
    step = next(step for step in judge_rail(facts).steps if step.key == "record")
    assert "192.0.2.53 said: CNAME other.test" in step.text
    assert step.command == "ssh.widgetcorp.tech. CNAME x.tunnel.example.test."


def test_every_open_step_says_what_to_do() -> None:
    for facts in (NOTHING, replace(COMPLETE, certificates_issued=False, session_seen=False)):
        for step in judge_rail(facts).steps:
            assert step.text
            assert step.command or step.page
    commands = {step.key: step.command for step in judge_rail(NOTHING).steps}
    assert commands["client"].startswith(
        "sallyport access ssh-config --hostname ssh.widgetcorp.tech --short-lived-cert"
    )
    assert "sudo sh host-setup.sh" in commands["sshd"]


def test_no_step_leads_to_the_page_of_an_authority_that_is_not_there() -> None:
    pages = [step.page for step in judge_rail(NOTHING).steps]
    assert "ssh_authorities" in pages
    assert "ssh_authority_detail" not in pages


def test_the_tunnels_command_runs_as_it_is() -> None:
    """A connector started by name alone would know neither credentials nor what to serve."""
    target = "79a60ee2-9a98-4f5f-96c7-76c88b2075be.tunnel.example.test"
    local = replace(COMPLETE, tunnel_status="inactive", tunnel_is_local=True, tunnel_target=target)
    command = judge_rail(local).steps[1].command
    assert "\ntunnel: 79a60ee2-9a98-4f5f-96c7-76c88b2075be\n" in command
    assert "\n  - hostname: ssh.widgetcorp.tech\n    service: bastion\n  - service: http_status:404\n" in command
    assert command.endswith("run --config ~/.sallyport/79a60ee2-9a98-4f5f-96c7-76c88b2075be.yml ssh-pool")
    assert judge_rail(replace(local, tunnel_status="down")).steps[1].command == "sallyport tunnel run ssh-pool"
    remote = judge_rail(replace(local, tunnel_is_local=False)).steps[1]
    assert (remote.command, remote.page) == ("", "tunnel")  # its command holds the token


def test_the_resolvers_answer_is_told() -> None:
    facts = replace(COMPLETE, record_state="mismatch", record_answer="the name does not exist")
    assert "the name does not exist" in judge_rail(facts).steps[2].text


class TestHome:
    @pytest.fixture
    def world(self, cast: Cast) -> World:
        return make_world(cast.widgetcorp, domain="widgetcorp.tech")

    @pytest.fixture
    def home(self) -> str:
        return reverse("organization_home", args=["widgetcorp"])

    def progress(self, page: str) -> str:
        return page.split('class="progress"')[1].split("</span></td>")[0]

    def test_empty(self, cast: Cast, home: str) -> None:
        assert "The way to the first SSH login" in shown(login(cast.alice), home)

    def test_reality_moves_the_rail(self, cast: Cast, world: World, home: str) -> None:
        client = login(cast.alice)
        page = shown(client, home)
        assert "6 of 7 steps done" not in page
        assert "5 of 7 steps done" in page  # nothing has connected yet: neither session nor trust of the host
        AccessRequest.objects.create(
            organization=world.organization,
            application=world.application,
            application_label="SSH bastion",
            action="connect",
            allowed=True,
            reason="allow",
            ray_id="1",
        )
        assert "7 of 7 steps done" in shown(client, home)
        Connection.objects.all().delete()
        page = shown(client, home)
        assert "ssh-pool was connected and is not any more" in page
        assert "something is broken" in page

    def test_a_refused_connection_is_no_session(self, cast: Cast, world: World, home: str) -> None:
        AccessRequest.objects.create(
            organization=world.organization,
            application=world.application,
            application_label="SSH bastion",
            action="connect",
            allowed=False,
            reason="country_not_allowed",
            ray_id="1",
        )
        assert "5 of 7 steps done" in shown(login(cast.alice), home)

    def test_wrong_configuration_and_wrong_dns_are_broken(self, cast: Cast, world: World, home: str) -> None:
        client = login(cast.alice)
        TunnelConfiguration.objects.create(
            organization=world.organization,
            tunnel=world.tunnel,
            version=2,
            config={"ingress": [{"service": "http_status:404"}]},
            source="cloudflare",
            created_by="tests",
        )
        assert "its configuration has no rule for ssh-bastion.widgetcorp.tech" in shown(client, home)
        DnsRecord.objects.update(verification="mismatch", last_answer="points at 192.0.2.1")
        assert "points at 192.0.2.1" in shown(client, home)

    def test_another_tenants_certificates_do_not_count(self, cast: Cast, world: World, home: str) -> None:
        make_world(cast.evilcorp, domain="evilcorp.tech")
        Certificate.objects.for_organization(world.organization).delete()
        assert "4 of 7 steps done" in shown(login(cast.alice), home)

    def test_viewers_see_the_rail_but_no_secret(self, cast: Cast, world: World, home: str) -> None:
        page = shown(login(cast.bob), home)
        assert "Make the hosts trust it" in page
        assert "--token" not in page

    def test_query_budget(
        self, cast: Cast, world: World, home: str, django_assert_max_num_queries: DjangoAssertNumQueries
    ) -> None:
        for number in range(30):
            Application.objects.create(
                organization=world.organization, name=f"App {number}", hostname=f"a{number}.widgetcorp.tech"
            )
        client = login(cast.alice)
        shown(client, home)
        with django_assert_max_num_queries(19):
            page = shown(client, home)
        assert "1 to 25 of 31" in page
