"""Stock ssh through client, edge and connector into a stock sshd."""

from __future__ import annotations

import hashlib
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.browser import Browser
from demo.first_login import CERTIFICATE_SECONDS, HOSTNAME, run_tunnel, wait_until
from demo.person import Person
from tests.integration.kit import CUT_SECONDS, Workshop, until_served

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def alice(workshop: Workshop) -> Person:
    """Logged in by her first ssh; later calls need no browser."""
    person = workshop.person("alice")
    done = person.ssh(workshop.remote, "echo in")
    assert done.stdout == "in\n", done
    return person


def test_the_terminal_and_the_approve_page_show_the_same_code(workshop: Workshop) -> None:
    person = workshop.person("alice")
    done = person.ssh(workshop.remote, "true")
    code = person.browser_saw()["code"]
    assert code
    assert code in done.stderr


def test_a_certificate_names_the_person_and_lives_minutes(workshop: Workshop, alice: Person) -> None:
    assert alice.ssh(workshop.remote, "true").returncode == 0
    shown = subprocess.run(
        ["ssh-keygen", "-L", "-f", str(alice.certificate(HOSTNAME))],
        capture_output=True,
        text=True,
        timeout=10,
        check=True,
    ).stdout
    assert "ssh-ed25519-cert-v01@openssh.com user certificate" in shown
    assert "\n                alice\n" in shown
    assert "permit-pty" in shown
    assert "permit-agent-forwarding" not in shown
    assert "Critical Options: (none)" in shown


def test_large_copies_arrive_unchanged_both_ways(workshop: Workshop, alice: Person) -> None:
    payload = bytes(range(256)) * 16384 * 2  # 8 MiB
    command = alice.ssh_command(workshop.remote, "cat")
    done = subprocess.run(command, input=payload, env=alice.environment, capture_output=True, timeout=60, check=False)
    assert hashlib.sha256(done.stdout).hexdigest() == hashlib.sha256(payload).hexdigest(), done.stderr


def test_sessions_run_side_by_side(workshop: Workshop, alice: Person) -> None:
    alice.ssh(workshop.remote, "true")
    command = alice.ssh_command(workshop.remote, "sleep 0.5; echo done")
    running = [
        subprocess.Popen(command, env=alice.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(6)
    ]
    answers = [process.communicate(timeout=60) for process in running]
    assert [answer[0] for answer in answers] == ["done\n"] * 6, answers


def test_someone_outside_the_policy_reads_why(workshop: Workshop) -> None:
    carol = workshop.person("carol")
    done = carol.ssh(workshop.remote, "echo never")
    assert done.returncode != 0
    assert "never" not in done.stdout
    requests = workshop.here.api("GET", "/accounts/{account}/access/logs/access_requests?limit=50")
    denied = [entry for entry in requests if not entry["allowed"] and "carol" in entry["user_email"]]
    assert denied, requests
    assert denied[0]["ray_id"] in carol.browser_saw()["text"]


def test_a_bastion_destination_outside_the_list_is_refused_with_its_reason(workshop: Workshop, alice: Person) -> None:
    facts = workshop.here.facts
    done = alice.sallyport(
        "access", "ssh", "--hostname", HOSTNAME, "--edge", facts["edge_address"], "--cacert", facts["edge_ca"],
        "--destination", "169.254.169.254:80",
    )  # fmt: skip
    assert done.returncode == 1
    assert "destination" in done.stderr.lower()


def test_a_dead_connector_is_named_and_a_new_one_serves_at_once(workshop: Workshop, alice: Person) -> None:
    here, operator = workshop.here, workshop.person("second-operator", configured=False)
    created = here.api("POST", "/accounts/{account}/cfd_tunnel", {"name": "second", "config_src": "cloudflare"})
    hostname = "second.widgetcorp.localhost"
    here.api("PUT", f"/zones/{{zone}}/tunnels/{created['id']}/routes", {"type": "dns", "user_hostname": hostname})
    policies = [{"name": "all", "decision": "allow", "include": [{"everyone": {}}], "precedence": 1}]
    here.api(
        "POST",
        "/accounts/{account}/access/apps",
        {"type": "self_hosted", "name": "Second", "domain": hostname, "policies": policies},
    )
    config = {"ingress": [{"hostname": hostname, "service": f"ssh://127.0.0.1:{workshop.server.port}"}]}
    config["ingress"].append({"service": "http_status:404"})
    here.api("PUT", f"/accounts/{{account}}/cfd_tunnel/{created['id']}/configurations", {"config": config})
    until_served(here, hostname)
    login = alice.sallyport("access", "login", f"https://{hostname}")
    assert login.returncode == 0, login.stderr
    down = alice.sallyport("access", "ssh", "--hostname", hostname)
    assert down.returncode == 1
    assert "tunnel" in down.stderr.lower()

    token = here.api("GET", f"/accounts/{{account}}/cfd_tunnel/{created['id']}/token")
    facts = here.facts
    environment = {
        **operator.environment,
        "TUNNEL_TOKEN": token,
        "TUNNEL_EDGE": ",".join([facts["tunnel_edge"]] * 4),
        "TUNNEL_CACERT": facts["edge_ca"],
    }
    process = subprocess.Popen([sys.executable, "-m", "dataplane.cli", "tunnel", "run"], env=environment)
    try:
        wait_until(lambda: _banner(alice, hostname).startswith("SSH-2.0"), "sshd's banner through the new connector")
        path = f"/accounts/{{account}}/cfd_tunnel/{created['id']}/connections"
        wait_until(
            lambda: [client["config_version"] for client in here.api("GET", path)] == [1], "version 1 acknowledged"
        )
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


def _banner(person: Person, hostname: str) -> str:
    command = ["-m", "dataplane.cli", "access", "ssh", "--hostname", hostname]
    process = subprocess.Popen(
        [sys.executable, *command], env=person.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        return process.stdout.readline() if process.stdout else ""
    finally:
        process.kill()
        process.communicate(timeout=10)


def test_one_time_pin_from_the_mailbox_opens_an_application(workshop: Workshop) -> None:
    """The whole PIN login: page, mail, code, application; and a wrong code opens nothing."""
    here = workshop.here
    hostname = "pin.widgetcorp.localhost"
    policies = [
        {"name": "Pat", "decision": "allow", "include": [{"email": {"email": "pat@example.test"}}], "precedence": 1}
    ]
    here.api(
        "POST",
        "/accounts/{account}/access/apps",
        {"type": "self_hosted", "name": "By PIN", "domain": hostname, "policies": policies},
    )
    host, _, port = here.facts["edge_address"].rpartition(":")
    browser = Browser(edge=(host, int(port)), ca_file=here.facts["edge_ca"])
    until_served(here, hostname)
    page = browser.get(f"https://{hostname}:{port}/")
    page = browser.submit(page, page.form(containing="email"), email="pat@example.test")
    pin = _newest_pin(workshop, "pat@example.test")
    wrong = browser.submit(page, page.form(containing="pin"), pin="000000" if pin != "000000" else "111111")
    assert browser.cookie(hostname, "CF_Authorization") is None
    right = browser.submit(wrong, wrong.form(containing="pin"), pin=pin)
    assert browser.cookie(hostname, "CF_Authorization"), right.plain()


def _newest_pin(workshop: Workshop, address: str) -> str:
    folder = Path(workshop.here.facts["mail_dir"])

    def found() -> str:
        for mail in sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True):
            text = mail.read_text(errors="replace")
            match = re.search(r"\b(\d{6})\b", text.split("\n\n", 1)[-1])
            if address in text and match:
                return match.group(1)
        return ""

    wait_until(lambda: bool(found()), "the mail with the PIN")
    return found()


def test_revoking_a_session_cuts_the_live_stream_and_says_so(workshop: Workshop) -> None:
    dana = workshop.person("dana")
    done = dana.ssh(workshop.remote, "true")
    assert done.returncode != 0  # dana may connect, but her principal is not this account's: sshd refuses
    process = subprocess.Popen(
        [sys.executable, "-m", "dataplane.cli", "access", "ssh", "--hostname", HOSTNAME],
        env=dana.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline().startswith("SSH-2.0")
    workshop.here.api("POST", "/accounts/{account}/access/organizations/revoke_user", {"email": "dana@widgetcorp.test"})
    assert process.wait(CUT_SECONDS) == 1
    assert process.stderr is not None
    assert "revoked" in process.stderr.read().lower()
    process.communicate(timeout=20)


@pytest.fixture
def connector_of_its_own(workshop: Workshop) -> Iterator[subprocess.Popen[bytes]]:
    with run_tunnel(workshop.operator, workshop.tunnel_id) as process:
        yield process


def test_a_killed_replica_leaves_the_other_serving(
    workshop: Workshop, alice: Person, connector_of_its_own: subprocess.Popen[bytes]
) -> None:
    path = f"/accounts/{{account}}/cfd_tunnel/{workshop.tunnel_id}/connections"
    wait_until(lambda: len(workshop.here.api("GET", path)) == 2, "the second replica")
    connector_of_its_own.kill()
    connector_of_its_own.wait(30)
    for _ in range(5):
        assert alice.ssh(workshop.remote, "echo up").stdout == "up\n"


def test_sshd_refuses_the_certificate_once_it_has_expired(workshop: Workshop, alice: Person, early: Person) -> None:
    """Last in this folder: it waits for what is left of the certificate's minute."""
    assert alice.ssh(workshop.remote, "true").returncode == 0
    assert alice.ssh_directly(HOSTNAME, workshop.server).stdout == "inside\n"
    issued_at = early.certificate(HOSTNAME).stat().st_mtime
    wait_until(lambda: time.time() > issued_at + CERTIFICATE_SECONDS, "the expiry", CERTIFICATE_SECONDS + 10)
    refused = early.ssh_directly(HOSTNAME, workshop.server)
    assert (refused.returncode != 0, refused.stdout) == (True, "")
    assert "Certificate invalid: expired" in workshop.server.log()
