"""A CI job's ssh with a service token: stock ssh, no browser, a certificate that names the token, and its end."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any

import pytest

from demo.first_login import HOSTNAME
from demo.person import Person
from tests.integration.kit import CUT_SECONDS, Workshop

pytestmark = pytest.mark.integration


@dataclass(frozen=True)
class Job(Person):
    """A machine: no person at the identity provider, no browser, credentials in the environment."""

    credentials: tuple[str, str] = ("", "")

    @property
    def environment(self) -> dict[str, str]:
        return super().environment | {
            "BROWSER": "/bin/false",
            "TUNNEL_SERVICE_TOKEN_ID": self.credentials[0],
            "TUNNEL_SERVICE_TOKEN_SECRET": self.credentials[1],
        }


@pytest.fixture(scope="module")
def token(workshop: Workshop) -> dict[str, Any]:
    here = workshop.here
    made: dict[str, Any] = here.api("POST", "/accounts/{account}/access/service_tokens", {"name": "CI deploy"})
    here.api(
        "POST",
        f"/accounts/{{account}}/access/apps/{workshop.application['id']}/policies",
        {
            "name": "CI",
            "decision": "non_identity",
            "include": [{"service_token": {"token_id": made["id"]}}],
            "connection_rules": {"ssh": {"usernames": ["pat"]}},
        },
    )
    return made


def job(workshop: Workshop, credentials: tuple[str, str]) -> Job:
    home = workshop.base / f"job-{time.monotonic_ns()}"
    (home / ".ssh").mkdir(parents=True, mode=0o700)
    made = Job("nobody", home, workshop.here, credentials)
    made.configure(HOSTNAME)
    return made


def test_a_job_runs_stock_ssh_without_a_person(workshop: Workshop, token: dict[str, Any]) -> None:
    machine = job(workshop, (token["client_id"], token["client_secret"]))
    done = machine.ssh("-o", "BatchMode=yes", workshop.remote, "echo deployed")
    assert (done.returncode, done.stdout) == (0, "deployed\n"), done.stderr
    shown = subprocess.run(
        ["ssh-keygen", "-L", "-f", str(machine.certificate(HOSTNAME))],
        capture_output=True, text=True, timeout=10, check=True,
    ).stdout  # fmt: skip
    assert f"CI-deploy+{token['client_id']}" in shown
    assert "\n                pat\n" in shown
    assert f"CI-deploy+{token['client_id']}" in workshop.server.log()
    assert not list((machine.home / ".sallyport").glob("*token*"))


def test_both_secrets_work_during_an_overlap(workshop: Workshop, token: dict[str, Any]) -> None:
    until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 600))
    path = f"/accounts/{{account}}/access/service_tokens/{token['id']}/rotate"
    fresh = workshop.here.api("POST", path, {"previous_client_secret_expires_at": until})
    for secret in (token["client_secret"], fresh["client_secret"]):
        done = job(workshop, (token["client_id"], secret)).ssh("-o", "BatchMode=yes", workshop.remote, "echo in")
        assert done.stdout == "in\n", done.stderr


def test_disabling_the_token_cuts_its_live_stream_and_stops_new_ones(workshop: Workshop, token: dict[str, Any]) -> None:
    machine = job(workshop, (token["client_id"], token["client_secret"]))
    process = subprocess.Popen(
        [sys.executable, "-m", "dataplane.cli", "access", "ssh", "--hostname", HOSTNAME],
        env=machine.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline().startswith("SSH-2.0")
    path = f"/accounts/{{account}}/access/service_tokens/{token['id']}"
    workshop.here.api("PUT", path, {"enabled": False})
    assert process.wait(CUT_SECONDS) == 1
    assert "disabled" in process.stderr.read()
    process.communicate(timeout=20)
    refused = job(workshop, (token["client_id"], token["client_secret"])).ssh(
        "-o", "BatchMode=yes", workshop.remote, "echo never"
    )
    assert refused.returncode != 0
    assert "service_token_invalid" in refused.stderr
    assert refused.stdout == ""
