"""`sallyport access ssh | tcp`: the handshake, the stream, and every way it can end."""

import os
import select
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.dataplane.client.conftest import Run
from tests.dataplane.client.lab_edge import APP_HOST, TEAM_HOST, Answer, LabEdge, json_answer
from tests.dataplane.client.test_login import TOKEN_FILE, write_state

BULK = os.urandom(3 * 1024 * 1024 + 17)


def upgrades(edge: LabEdge) -> list[dict[str, str]]:
    return [request.headers for request in edge.requests if "upgrade" in request.headers]


@pytest.fixture
def logged_in(edge: LabEdge, home: Path) -> str:
    token = edge.issue("app")
    write_state(home, TOKEN_FILE, token)
    return token


def test_token_goes_with_the_first_upgrade(edge: LabEdge, run: Run, logged_in: str) -> None:
    done = run("access", "ssh", "--hostname", edge.app, stdin=b"hello")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"hello", b"")
    headers = upgrades(edge)
    assert len(headers) == 1
    assert headers[0]["cf-access-token"] == logged_in
    assert headers[0]["host"] == edge.app
    assert headers[0]["connection"] == "Upgrade"
    assert "cf-access-jump-destination" not in headers[0]


def test_second_connection_is_a_single_request(edge: LabEdge, run: Run, logged_in: str) -> None:
    run("access", "ssh", "--hostname", edge.app)
    edge.requests.clear()
    assert run("access", "ssh", "--hostname", edge.app, stdin=b"x").stdout == b"x"
    assert len(edge.requests) == 1


def test_bulk_passes_both_ways_unchanged(edge: LabEdge, run: Run, logged_in: str) -> None:
    done = run("access", "tcp", "--hostname", edge.app, stdin=BULK)
    assert done.returncode == 0, done.stderr
    assert done.stdout == BULK


def test_reply_after_end_of_input_is_not_lost(edge: LabEdge, run: Run, logged_in: str) -> None:
    """cloudflared loses this (access-client.md 8.5)."""
    edge.websocket_mode = "after-close"
    done = run("access", "tcp", "--hostname", edge.app, stdin=BULK)
    assert done.returncode == 0
    assert done.stdout == BULK


def test_input_and_output_may_be_files(
    edge: LabEdge, environment: dict[str, str], logged_in: str, tmp_path: Path
) -> None:
    (tmp_path / "in").write_bytes(BULK)
    with (tmp_path / "in").open("rb") as source, (tmp_path / "out").open("wb") as sink:
        subprocess.run(
            [sys.executable, "-P", "-m", "dataplane.cli", "access", "tcp", "--hostname", edge.app],
            stdin=source,
            stdout=sink,
            env=environment,
            timeout=40,
            check=True,
        )
    assert (tmp_path / "out").read_bytes() == BULK


def test_bytes_with_the_handshake_are_not_lost(edge: LabEdge, run: Run, logged_in: str) -> None:
    edge.websocket_mode = "banner"
    assert run("access", "ssh", "--hostname", edge.app).stdout == b"SSH-2.0-lab\r\n"


def test_destination_and_extra_headers(edge: LabEdge, run: Run, logged_in: str) -> None:
    run(
        "access",
        "ssh",
        "--hostname",
        f"{edge.app}/path?x=1",
        "--destination",
        "ssh://db.internal:22",
        "-H",
        "X-Note: a:b,c",
    )
    headers = upgrades(edge)[0]
    assert headers["cf-access-jump-destination"] == "ssh://db.internal:22"
    assert headers["x-note"] == "a:b,c"
    assert edge.requests[-1].path == "/path?x=1"


def test_service_token_needs_no_discovery_and_no_files(edge: LabEdge, run: Run, home: Path) -> None:
    env = {"TUNNEL_SERVICE_TOKEN_ID": "id1", "TUNNEL_SERVICE_TOKEN_SECRET": "s1"}
    done = run("access", "ssh", "--hostname", edge.app, stdin=b"x", env=env)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"x", b"")
    assert len(edge.requests) == 1
    assert not (home / ".sallyport").exists()


def test_service_secret_on_the_command_line_warns(edge: LabEdge, run: Run) -> None:
    done = run("access", "ssh", "--hostname", edge.app, "--id", "id1", "--secret", "s1", stdin=b"x")
    assert (done.returncode, done.stdout) == (0, b"x")
    assert b"visible to every user" in done.stderr


def test_refused_service_token_does_not_start_a_login(edge: LabEdge, run: Run) -> None:
    done = run("access", "ssh", "--hostname", edge.app, "--id", "id1", "--secret", "wrong")
    assert done.returncode == 1
    assert b"does not accept this service token" in done.stderr
    assert len(edge.requests) == 1


def test_half_a_service_token_is_refused(edge: LabEdge, run: Run) -> None:
    done = run("access", "ssh", "--hostname", edge.app, env={"TUNNEL_SERVICE_TOKEN_ID": "id1"})
    assert done.returncode == 1
    assert b"both its id and its secret" in done.stderr


def test_own_token_header_is_used_as_is(edge: LabEdge, run: Run, home: Path) -> None:
    token = edge.issue("app")
    done = run("access", "ssh", "--hostname", edge.app, "-H", f"cf-access-token: {token}", stdin=b"x")
    assert done.stdout == b"x"
    assert len(edge.requests) == 1


def test_login_redirect_renews_the_token_once(edge: LabEdge, run: Run, home: Path) -> None:
    path = write_state(home, TOKEN_FILE, edge.make_token("app"))  # the edge does not know it
    done = run("access", "ssh", "--hostname", edge.app, stdin=b"x")
    assert (done.returncode, done.stdout) == (0, b"x")
    assert path.read_text() in edge.valid_app_tokens
    assert len(upgrades(edge)) == 2


def test_endless_login_redirect_ends_at_once(edge: LabEdge, run: Run, logged_in: str) -> None:
    """No waiting for our own lock (access-client.md 11)."""
    edge.upgrade_refusal = Answer(302, [("Location", f"https://{edge.team}/cdn-cgi/access/login/{APP_HOST}")])
    done = run("access", "ssh", "--hostname", edge.app)
    assert done.returncode == 1
    assert b"does not accept the token it just gave" in done.stderr
    assert len(upgrades(edge)) == 2


def test_policy_refusal_shows_the_edges_words(edge: LabEdge, run: Run, logged_in: str, home: Path) -> None:
    edge.upgrade_refusal = Answer(
        403,
        [("Sallyport-Error", "policy_denied"), ("Content-Type", "text/plain")],
        b"Policy 'staff' refused: country\x1b[2J XX",
    )
    done = run("access", "ssh", "--hostname", edge.app)
    assert done.returncode == 1
    assert done.stdout == b""
    assert b"403 policy_denied: Policy 'staff' refused: country [2J XX" in done.stderr
    assert (home / ".sallyport" / TOKEN_FILE).read_text() == logged_in
    assert len(upgrades(edge)) == 1


@pytest.mark.parametrize(("status", "hint"), [(502, b"behind the tunnel"), (503, b"no connector is online")])
def test_unreachable_server_says_what_to_do(edge: LabEdge, run: Run, logged_in: str, status: int, hint: bytes) -> None:
    edge.upgrade_refusal = json_answer(
        status, {"reason": "origin_refused", "message": "connection refused", "reference": "ray1"}
    )
    done = run("access", "ssh", "--hostname", edge.app)
    assert done.returncode == 1
    assert f"{status} origin_refused: connection refused (reference ray1)".encode() in done.stderr
    assert hint in done.stderr


def test_remembered_application_that_changed_is_discovered_again(
    edge: LabEdge, run: Run, logged_in: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("access", "ssh", "--hostname", edge.app)
    edge.valid_app_tokens.clear()
    edge.metadata_claims = {"aud": "b" * 64}
    issue = edge.issue
    monkeypatch.setattr(edge, "issue", lambda kind: issue(kind, **({"aud": ["b" * 64]} if kind == "app" else {})))
    monkeypatch.setattr(
        edge, "_login_redirect", lambda _request: Answer(403, [("Sallyport-Error", "wrong_application")])
    )
    done = run("access", "ssh", "--hostname", edge.app, stdin=b"x")
    assert (done.returncode, done.stdout) == (0, b"x"), done.stderr


@pytest.mark.parametrize(
    ("code", "reason", "shown"),
    [
        (1008, "session revoked by admin@widgetcorp.example", "session revoked by admin@widgetcorp.example"),
        (1001, "the edge is restarting", "the edge is restarting"),
        (1011, "", "closed the connection with code 1011"),
        (1008, "bad\x1b[2J", "bad [2J"),
    ],
)
def test_close_reason_is_shown(
    edge: LabEdge, environment: dict[str, str], logged_in: str, code: int, reason: str, shown: str
) -> None:
    edge.close_first = (code, reason)
    process = start(edge, environment, "ssh")
    assert process.wait(timeout=30) == 1  # with its input still open
    _, stderr = process.communicate(timeout=30)
    assert f"{APP_HOST}: " in stderr.decode()
    assert shown in stderr.decode()
    assert b"\x1b" not in stderr


def test_normal_close_is_silent(edge: LabEdge, environment: dict[str, str], logged_in: str) -> None:
    edge.close_first = (1000, "bye")
    process = start(edge, environment, "ssh")
    assert process.wait(timeout=30) == 0
    assert process.communicate(timeout=30) == (b"", b"")


def test_lost_connection_is_an_error(edge: LabEdge, environment: dict[str, str], logged_in: str) -> None:
    edge.websocket_mode = "vanish"
    process = start(edge, environment, "ssh")
    assert process.wait(timeout=30) == 1  # with its input still open
    _, stderr = process.communicate(timeout=30)
    assert b"without a close frame" in stderr


def test_wrong_handshake_answer_is_refused(edge: LabEdge, run: Run, logged_in: str) -> None:
    edge.upgrade_refusal = Answer(101, [("Sec-WebSocket-Accept", "nonsense")])
    done = run("access", "ssh", "--hostname", edge.app)
    assert done.returncode == 1
    assert b"handshake wrongly" in done.stderr


@pytest.mark.parametrize(
    "header", ["Host: other", "Sec-WebSocket-Key: x", "no-colon", "X-A: b\r\nCf-Access-Token: x", ": v"]
)
def test_headers_that_would_break_the_request_are_refused(edge: LabEdge, run: Run, logged_in: str, header: str) -> None:
    done = run("access", "ssh", "--hostname", edge.app, "-H", header)
    assert done.returncode == 1
    assert not upgrades(edge)


def start(edge: LabEdge, environment: dict[str, str], *words: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "dataplane.cli", "access", *words, "--hostname", edge.app],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
    )


def test_hangup_says_goodbye_to_the_edge(edge: LabEdge, environment: dict[str, str], logged_in: str) -> None:
    """ssh ends its ProxyCommand with SIGHUP."""
    process = start(edge, environment, "ssh")
    assert process.stdin and process.stdout
    process.stdin.write(b"ping")
    process.stdin.flush()
    assert process.stdout.read(4) == b"ping"
    process.send_signal(signal.SIGHUP)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGHUP
    assert stderr == b""


def test_reader_that_goes_away_ends_the_stream(edge: LabEdge, environment: dict[str, str], logged_in: str) -> None:
    process = start(edge, environment, "ssh")
    assert process.stdin and process.stdout and process.stderr
    process.stdin.write(b"ping")
    process.stdin.flush()
    assert process.stdout.read(4) == b"ping"
    process.stdout.close()
    assert process.wait(timeout=30) == 0
    process.stdin.close()
    process.stderr.close()


def test_slow_reader_holds_the_sender_back(edge: LabEdge, environment: dict[str, str], logged_in: str) -> None:
    """Nobody reads stdout: input stops being taken long before 32 MiB are in, so memory stays bounded."""
    process = start(edge, environment, "tcp")
    assert process.stdin and process.stdout and process.stderr
    os.set_blocking(process.stdin.fileno(), False)
    accepted = 0
    while accepted < 32 * 1024 * 1024 and select.select([], [process.stdin], [], 1.0)[1]:
        accepted += os.write(process.stdin.fileno(), BULK[:65536])
    assert accepted < 24 * 1024 * 1024
    process.kill()
    process.communicate(timeout=30)


def test_listener_carries_each_connection(edge: LabEdge, environment: dict[str, str], logged_in: str) -> None:
    process = start(edge, environment, "tcp", "--url", "tcp://localhost:0")
    assert process.stderr
    port = int(process.stderr.readline().rpartition(b":")[2])
    answers: list[bytes] = []

    def talk(text: bytes) -> None:
        with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
            connection.sendall(text)
            connection.shutdown(socket.SHUT_WR)
            data = b""
            while piece := connection.recv(65536):
                data += piece
            answers.append(data)

    texts = [bytes([65 + number]) * 100_000 for number in range(4)]
    threads = [threading.Thread(target=talk, args=(text,)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert sorted(answers) == texts
    assert len(upgrades(edge)) == 4
    assert not edge.seen("GET", TEAM_HOST, "/cdn-cgi/access/transfer/")


@pytest.mark.parametrize("closed", ["<&-", ">&-"])
def test_closed_standard_descriptors_are_refused(
    edge: LabEdge, environment: dict[str, str], logged_in: str, closed: str
) -> None:
    command = f"{sys.executable} -P -m dataplane.cli access tcp --hostname {edge.app} {closed}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, env=environment, timeout=30, check=False)
    assert done.returncode == 1
    assert b"must be open" in done.stderr
    assert not upgrades(edge)


def test_null_device_as_input_and_output(edge: LabEdge, environment: dict[str, str], logged_in: str) -> None:
    words = [sys.executable, "-P", "-m", "dataplane.cli", "access", "tcp", "--hostname", edge.app]
    done = subprocess.run(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=environment, timeout=30, check=False
    )
    assert done.returncode == 0


def test_terminal_as_input_and_output(edge: LabEdge, environment: dict[str, str], logged_in: str) -> None:
    """A terminal stays blocking and still works in both directions."""
    ours, theirs = os.openpty()
    words = [sys.executable, "-P", "-m", "dataplane.cli", "access", "tcp", "--hostname", edge.app]
    with subprocess.Popen(words, stdin=theirs, stdout=theirs, stderr=subprocess.PIPE, env=environment) as process:
        os.close(theirs)
        os.write(ours, b"hello\n")
        seen = b""
        while seen.count(b"hello") < 2 and select.select([ours], [], [], 20)[0]:
            seen += os.read(ours, 1000)
        assert seen.count(b"hello") == 2  # the terminal's own echo and the edge's
        os.write(ours, b"\x04")
        assert process.wait(30) == 0
    os.close(ours)
