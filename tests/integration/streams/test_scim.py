"""What a provider pushes over SCIM reaches live SSH streams within five seconds, and the reason is on the terminal."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from demo.first_login import HOSTNAME
from demo.person import Person
from demo.scim import ScimPush
from tests.integration.kit import CUT_SECONDS, Workshop

pytestmark = pytest.mark.integration


def pushed(push: ScimPush, name: str) -> str:
    """The id of this user, whom a test of another file may have pushed already."""
    address = f"{name}@widgetcorp.test"
    found = push.send("GET", f"/Users?filter=userName%20eq%20%22{address}%22")["Resources"]
    user = found[0] if found else push.send("POST", "/Users", {"userName": address, "externalId": f"user-{name}"})
    return str(user["id"])


def live_stream(person: Person) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "dataplane.cli", "access", "ssh", "--hostname", HOSTNAME],
        env=person.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline().startswith("SSH-2.0")
    return process


def reason_of_its_end(process: subprocess.Popen[str], started: float) -> str:
    try:
        assert process.wait(started + CUT_SECONDS - time.monotonic()) == 1
    finally:
        process.kill()
    return process.communicate(timeout=20)[1]


def test_leaving_a_group_cuts_the_live_stream(workshop: Workshop, push: ScimPush) -> None:
    user_id = pushed(push, "dana")
    members = [{"value": user_id}]
    group = push.send("POST", "/Groups", {"displayName": "engineering", "members": members})
    dana = workshop.person("dana")
    dana.ssh(workshop.remote, "true")  # logs in; sshd has no account of hers
    process = live_stream(dana)
    started = time.monotonic()
    push.patch(f"/Groups/{group['id']}", {"op": "remove", "path": f'members[value eq "{user_id}"]'})
    assert "group" in reason_of_its_end(process, started).lower()
    push.patch(f"/Groups/{group['id']}", {"op": "add", "path": "members", "value": members})


def test_deactivation_cuts_the_live_stream_and_refuses_the_next_login(workshop: Workshop, push: ScimPush) -> None:
    user_id = pushed(push, "alice")
    # The provider manages this group since the test before, so alice has to be pushed into it too.
    (group,) = push.send("GET", "/Groups?filter=displayName%20eq%20%22engineering%22")["Resources"]
    push.patch(f"/Groups/{group['id']}", {"op": "add", "path": "members", "value": [{"value": user_id}]})
    alice = workshop.person("alice")
    assert alice.ssh(workshop.remote, "echo in").stdout == "in\n"
    process = live_stream(alice)
    started = time.monotonic()
    push.patch(f"/Users/{user_id}", {"op": "replace", "path": "active", "value": False})
    assert reason_of_its_end(process, started)
    refused = alice.ssh(workshop.remote, "echo never")
    assert refused.returncode != 0
    assert "disabled" in refused.stderr + alice.browser_saw()["text"]
    updates = workshop.here.api("GET", "/accounts/{account}/access/logs/scim/updates")
    assert (updates[0]["request_method"], updates[0]["status"]) == ("PATCH", "SUCCESS")
    push.patch(f"/Users/{user_id}", {"op": "replace", "path": "active", "value": True})
    assert alice.ssh(workshop.remote, "echo in").stdout == "in\n"
