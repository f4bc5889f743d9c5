"""`sallyport access login | token`: discovery, exchange, browser transfer, files."""

import json
import os
import stat
import subprocess
import time
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from dataplane.wire.confirmation import confirmation_code
from tests.dataplane.client.conftest import Run
from tests.dataplane.client.lab_edge import APP_HOST, AUD, FOREIGN_HOST, TEAM_HOST, Answer, LabEdge, Request

TOKEN_FILE = f"{APP_HOST}-{AUD}-token"
ORG_FILE = f"{TEAM_HOST}-org-token"


def write_state(home: Path, name: str, text: str) -> Path:
    directory = home / ".sallyport"
    directory.mkdir(mode=0o700, exist_ok=True)
    path = directory / name
    path.write_text(text)
    path.chmod(0o600)
    return path


def browser_url(stderr: bytes) -> str:
    return next(line for line in stderr.decode().splitlines() if line.startswith("https://"))


def test_login_through_browser_stores_both_tokens(edge: LabEdge, run: Run, home: Path) -> None:
    edge.polls_before_approval = 1
    done = run("access", "login", edge.app, "--no-verbose")
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode() in edge.valid_app_tokens
    state = home / ".sallyport"
    assert (state / TOKEN_FILE).read_text() == done.stdout.decode()
    assert (state / ORG_FILE).read_text() in edge.valid_org_tokens
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in state.iterdir()} == {0o600}
    assert not [path for path in state.iterdir() if path.suffix in (".tmp", ".url")]
    polls = edge.seen("GET", TEAM_HOST, "/cdn-cgi/access/transfer/")
    assert len(polls) == 2


def test_browser_url_and_code_belong_to_the_polled_key(edge: LabEdge, run: Run) -> None:
    done = run("access", "login", f"https://{edge.app}/admin?x=1", "-q")
    assert done.returncode == 0
    assert done.stdout == b""
    url = urlsplit(browser_url(done.stderr))
    query = parse_qs(url.query, strict_parsing=True)
    public_key = query["token"][0]
    assert (url.netloc, url.path) == (edge.app, "/cdn-cgi/access/cli")
    assert query["aud"] == [AUD]
    assert query["edge_token_transfer"] == query["send_org_token"] == ["true"]
    assert query["redirect_url"] == [f"https://{edge.app}/admin?x=1"]
    assert edge.requests[-2].path == f"/cdn-cgi/access/transfer/{public_key}"
    assert confirmation_code(public_key) in done.stderr.decode()


@pytest.mark.parametrize(
    ("browser", "before"),
    [
        ("{opener}", ""),
        ("{opener} --edge 127.0.0.1:8443 --as 'a b'", "--edge|127.0.0.1:8443|--as|a b|"),
        ("{opener} --open=%s --new", None),
        ("no-such-browser:{opener}", ""),
    ],
)
def test_browser_is_opened_with_the_url(
    edge: LabEdge, run: Run, tmp_path: Path, browser: str, before: str | None
) -> None:
    opener, opened = tmp_path / "opener", tmp_path / "opened"
    opener.write_text(f'#!/bin/sh\nprintf "%s|" "$@" > {opened}.part && mv {opened}.part {opened}\n')
    opener.chmod(0o755)
    edge.polls_before_approval = 1
    done = run("access", "login", edge.app, env={"SALLYPORT_NO_BROWSER": "", "BROWSER": browser.format(opener=opener)})
    assert done.returncode == 0
    url = browser_url(done.stderr)
    assert opened.read_text() == (f"{before}{url}|" if before is not None else f"--open={url}|--new|")


def test_ac42_browser_in_the_working_directory_is_not_run(edge: LabEdge, run: Run, tmp_path: Path) -> None:
    planted = tmp_path / "cwd" / "planted"
    planted.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    planted.chmod(0o755)
    for browser in ("./planted", "planted"):
        done = run("access", "login", edge.app, env={"SALLYPORT_NO_BROWSER": "", "BROWSER": browser})
        assert done.returncode == 0
    assert not (tmp_path / "ran").exists()


def test_each_login_uses_a_fresh_key(edge: LabEdge, run: Run, home: Path) -> None:
    keys = set()
    for _ in range(2):
        done = run("access", "login", edge.app, "-q")
        keys.add(parse_qs(urlsplit(browser_url(done.stderr)).query)["token"][0])
        for path in (home / ".sallyport").iterdir():
            path.unlink()
    assert len(keys) == 2


def test_stored_token_needs_no_login(edge: LabEdge, run: Run, home: Path) -> None:
    write_state(home, TOKEN_FILE, edge.issue("app") + "\n")
    done = run("access", "login", edge.app)
    assert done.returncode == 0
    assert done.stdout.startswith(b"Successfully fetched your token:\n\n")
    assert not edge.seen("GET", TEAM_HOST, "/cdn-cgi/access/transfer/")


def test_org_token_is_exchanged_without_browser(edge: LabEdge, run: Run, home: Path) -> None:
    org_token = edge.issue("org")
    write_state(home, ORG_FILE, org_token)
    done = run("access", "login", edge.app, "--no-verbose")
    assert done.returncode == 0
    assert done.stdout.decode() in edge.valid_app_tokens
    assert not edge.seen("GET", TEAM_HOST, "/cdn-cgi/access/transfer/")
    login = edge.seen("HEAD", TEAM_HOST, "/cdn-cgi/access/login/")
    authorized = edge.seen("HEAD", APP_HOST, "/cdn-cgi/access/authorized")
    assert [request.headers["cookie"] for request in login] == [f"CF_Authorization={org_token}"]
    assert [request.headers["cookie"] for request in authorized] == ["CF_AppSession=sess1"]
    carriers = [request for request in edge.requests if org_token in str(request.headers) + request.path]
    assert carriers == login


def test_exchange_follows_links_with_the_edges_port(edge: LabEdge, run: Run, home: Path) -> None:
    write_state(home, ORG_FILE, edge.issue("org"))
    done = run("access", "login", APP_HOST, "-q", "--edge", f"127.0.0.1:{edge.port}")
    assert done.returncode == 0, done.stderr
    assert not edge.seen("GET", TEAM_HOST, "/cdn-cgi/access/transfer/")
    assert [request.host for request in edge.seen("HEAD", APP_HOST, "/")] == [APP_HOST, APP_HOST, edge.app]


@pytest.mark.parametrize(
    "location",
    [
        "https://{foreign}/cdn-cgi/access/login/x?kid=1",
        "https://{team_host}:1/cdn-cgi/access/login/x",
        "http://{team}/cdn-cgi/access/login/x",
        "https://{team}@{foreign}/cdn-cgi/access/login/x",
        "https://{team}/cdn-cgi/access/login-help",
        "https://{team}/other?next=/cdn-cgi/access/login",
    ],
)
def test_org_token_goes_only_to_the_team_domain_login(edge: LabEdge, run: Run, home: Path, location: str) -> None:
    org_token = edge.issue("org")
    write_state(home, ORG_FILE, org_token)
    url = location.format(foreign=f"{FOREIGN_HOST}:{edge.port}", team=edge.team, team_host=TEAM_HOST)

    def redirect(request: Request) -> Answer:
        if request.method == "GET" or request.headers.get("cf-access-metadata-request"):
            return edge._route(request)
        return Answer(302, [("Location", url)])

    edge.overrides[(APP_HOST, "/")] = redirect
    done = run("access", "login", edge.app, "-q")
    assert done.returncode == 0, done.stderr
    assert edge.seen("GET", TEAM_HOST, "/cdn-cgi/access/transfer/")
    assert not [request for request in edge.requests if org_token in str(request.headers) + request.path]


@pytest.mark.parametrize(
    ("claims", "text"),
    [
        ({"hostname": "other.widgetcorp.localhost"}, "another host"),
        ({"hostname": None}, "another host"),
        ({"type": "no_match"}, "no Access application matches"),
        ({"aud": [AUD]}, "audience"),
        ({"aud": ""}, "audience"),
        ({"auth_domain": ""}, "team domain"),
        ({"app_hostname": "ssh.victim.localhost"}, "another host"),
        ({"iat": 1}, "clock is probably ahead"),
        ({"iat": int(time.time()) + 4000}, "clock is probably behind"),
        ({"iat": time.time()}, "integer"),
    ],
)
def test_unbelievable_metadata_is_refused(
    edge: LabEdge, run: Run, home: Path, claims: dict[str, object], text: str
) -> None:
    token = edge.issue("app")
    write_state(home, TOKEN_FILE, token)
    edge.metadata_claims = claims
    done = run("access", "login", edge.app)
    assert done.returncode == 1
    assert text in done.stderr.decode()
    assert token.encode() not in done.stdout
    assert not [request for request in edge.requests if token in str(request.headers)]


def test_metadata_with_unknown_key_id_is_refused(edge: LabEdge, run: Run) -> None:
    edge.metadata_kid = "key-of-nobody"
    done = run("access", "login", edge.app)
    assert done.returncode == 1
    assert b"does not publish" in done.stderr


def test_metadata_with_wrong_signature_is_refused(edge: LabEdge, run: Run) -> None:
    edge.metadata_key = edge.keys.other_key
    done = run("access", "login", edge.app)
    assert done.returncode == 1
    assert b"signature is wrong" in done.stderr


@pytest.mark.parametrize("header", [{"alg": "none"}, {"alg": "HS256", "kid": "key-1"}])
def test_metadata_that_is_not_rs256_is_refused(edge: LabEdge, run: Run, header: dict[str, str]) -> None:
    import jwt

    key = None if header["alg"] == "none" else "k" * 32
    text = jwt.encode({"type": "match", "hostname": APP_HOST}, key, algorithm=header["alg"], headers=header)
    edge.overrides[(APP_HOST, "/")] = lambda _request: Answer(200, [("Cf-Access-Metadata", text)])
    done = run("access", "login", edge.app)
    assert done.returncode == 1
    assert b"RS256" in done.stderr


def test_ac43_malicious_host_gets_no_token_of_another_team(edge: LabEdge, run: Run, home: Path) -> None:
    """A host with a team domain of its own names the victim's audience: the victim's token stays here (AC-43)."""
    token = edge.make_token("app", iss="https://victim.access.localhost")
    write_state(home, f"{FOREIGN_HOST}-{AUD}-token", token)
    done = run("access", "login", f"{FOREIGN_HOST}:{edge.port}", "-q")
    assert done.returncode == 0
    assert not [request for request in edge.requests if token in str(request.headers)]


def test_host_without_application(edge: LabEdge, run: Run) -> None:
    edge.overrides[(APP_HOST, "/")] = lambda _request: Answer(404)
    done = run("access", "login", edge.app)
    assert done.returncode == 1
    assert b"no Access application" in done.stderr


def test_rotated_keys_are_fetched_again(edge: LabEdge, run: Run, home: Path) -> None:
    import jwt

    old = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(edge.keys.other_key.public_key()))
    path = write_state(home, f"{TEAM_HOST}-jwks", json.dumps({"keys": [{**old, "kid": "old"}]}))
    an_hour_ago = time.time() - 3600
    os.utime(path, (an_hour_ago, an_hour_ago))
    write_state(home, TOKEN_FILE, edge.issue("app"))
    done = run("access", "token", edge.app)
    assert done.returncode == 0, done.stderr
    assert len(edge.seen("GET", TEAM_HOST, "/cdn-cgi/access/certs")) == 1
    assert "key-1" in path.read_text()


def test_rejected_token_is_replaced_once(edge: LabEdge, run: Run, home: Path) -> None:
    path = write_state(home, TOKEN_FILE, edge.make_token("app"))  # looks good, but the edge does not know it
    done = run("access", "login", edge.app, "-q")
    assert done.returncode == 0, done.stderr
    assert path.read_text() in edge.valid_app_tokens


def test_token_prints_only_a_valid_token(edge: LabEdge, run: Run, home: Path) -> None:
    token = edge.issue("app")
    path = write_state(home, TOKEN_FILE, token)
    good = run("access", "token", edge.app)
    assert (good.returncode, good.stdout.decode()) == (0, token)
    for bad in (edge.make_token(seconds=-10), edge.make_token(aud=["b" * 64]), "garbage"):
        path.write_text(bad)
        done = run("access", "token", f"--app={edge.app}")
        assert (done.returncode, done.stdout) == (1, b"")
        assert b"sallyport access login" in done.stderr
        assert not path.exists()


def test_edge_override_keeps_names_and_fixes_the_browser_port(edge: LabEdge, run: Run) -> None:
    """Names that no resolver knows: every connection goes to --edge, verified and addressed by name."""
    edge.metadata_claims = {"auth_domain": "team.example.test"}
    refused = Answer(410, [("Content-Type", "application/json")], b'{"reason":"denied","message":"login was denied"}')
    ask_team, ask_app = edge._team, edge._route

    def route(request: Request) -> Answer:
        if "/transfer/" in request.path:
            return refused
        return ask_team(request) if request.host_name == "team.example.test" else ask_app(request)

    edge._route = route  # type: ignore[method-assign]
    done = run("access", "login", "ssh.example.test", env={"SALLYPORT_EDGE": f"127.0.0.1:{edge.port}"})
    assert done.returncode == 1
    assert b"410 denied: login was denied" in done.stderr
    assert browser_url(done.stderr).startswith(f"https://ssh.example.test:{edge.port}/cdn-cgi/access/cli?")
    hosts = [request.host for request in edge.requests]
    assert hosts == ["ssh.example.test", "team.example.test", "team.example.test"]
    flag = run("access", "token", "ssh.example.test", "--edge", f"localhost:{edge.port}")
    assert b"no valid token" in flag.stderr


def test_untrusted_certificate_is_refused(edge: LabEdge, run: Run) -> None:
    done = run("access", "login", edge.app, env={"SALLYPORT_CACERT": ""})
    assert done.returncode == 1
    assert b"certificate not trusted" in done.stderr
    assert b"--cacert" in done.stderr


def test_ac42_working_directory_is_never_read(edge: LabEdge, run: Run, tmp_path: Path) -> None:
    """Planted keys, tokens and modules: none is opened (AC-42)."""
    trap = tmp_path / "cwd"
    for name in ("cloudflared_priv.pem", "cloudflared_pub.pem", "config.yml", TOKEN_FILE, ORG_FILE, "cert.pem"):
        (trap / name).write_text(edge.make_token("app"))
        (trap / name).chmod(0o000)
    for name in ("jwt.py", "nacl.py", "ssl.py", "dataplane.py"):
        (trap / name).write_text("raise SystemExit('planted module was imported')")
    before = {path.name for path in trap.iterdir()}
    done = run("access", "login", edge.app, "-q")
    assert done.returncode == 0, done.stderr
    assert {path.name for path in trap.iterdir()} == before


def test_file_that_others_may_write_is_refused(edge: LabEdge, run: Run, home: Path) -> None:
    write_state(home, TOKEN_FILE, edge.issue("app")).chmod(0o666)
    done = run("access", "token", edge.app)
    assert done.returncode == 1
    assert b"can be written by others" in done.stderr


def test_parallel_logins_share_one_browser(edge: LabEdge, environment: dict[str, str], tmp_path: Path) -> None:
    import sys

    edge.polls_before_approval = 2
    words = [sys.executable, "-P", "-m", "dataplane.cli", "access", "login", edge.app, "--no-verbose"]
    processes = [
        subprocess.Popen(words, env=environment, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    results = [process.communicate(timeout=40) for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], results
    assert len({stdout for stdout, _ in results}) == 1
    assert sum(b"/cdn-cgi/access/cli?" in stderr and b"Approve only" in stderr for _, stderr in results) == 1


def test_login_result_for_another_key_is_refused(edge: LabEdge, run: Run) -> None:
    edge._transfer = lambda _text: Answer(200, [("service-public-key", "A" * 43 + "=")], b"AAAA")  # type: ignore[method-assign]
    done = run("access", "login", edge.app)
    assert done.returncode == 1
    assert b"cannot be opened" in done.stderr


def test_login_result_for_another_application_is_refused(edge: LabEdge, run: Run, home: Path) -> None:
    edge.issue = lambda kind, **changes: edge.make_token(kind, aud=["b" * 64])  # type: ignore[method-assign]
    done = run("access", "login", edge.app)
    assert done.returncode == 1
    assert b"for another application" in done.stderr
    assert not (home / ".sallyport" / TOKEN_FILE).exists()
