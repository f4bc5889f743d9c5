"""`sallyport access ssh-gen`: real key files and certificates, checked with ssh-keygen."""

import json
import stat
import subprocess
from pathlib import Path

import pytest

from dataplane.client.certificates import CertificateError, read_certificate
from tests.dataplane.client.conftest import Run
from tests.dataplane.client.lab_edge import APP_HOST, AUD, SERVICE_TOKEN, TEAM_HOST, Answer, LabEdge, json_answer
from tests.dataplane.client.test_login import TOKEN_FILE, write_state

SIGN_PATH = "/cdn-cgi/access/cert_sign"


def key_file(home: Path) -> Path:
    return home / ".sallyport" / f"{APP_HOST}-cf_key"


def keygen(*words: str) -> str:
    return subprocess.run(["ssh-keygen", *words], capture_output=True, check=True, timeout=10, text=True).stdout


def logged_in(edge: LabEdge, home: Path) -> Path:
    return write_state(home, TOKEN_FILE, edge.issue("app"))


@pytest.mark.parametrize(("key_type", "label"), [("ed25519", "ssh-ed25519"), ("ecdsa", "ecdsa-sha2-nistp256")])
def test_certificate_matches_its_key(edge: LabEdge, run: Run, home: Path, key_type: str, label: str) -> None:
    logged_in(edge, home)
    done = run("access", "ssh-gen", "--hostname", edge.app, "--key-type", key_type)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    key = key_file(home)
    shown = keygen("-L", "-f", f"{key}-cert.pub")
    assert f"{label}-cert-v01@openssh.com user certificate" in shown
    assert "alice" in shown
    assert 'Key ID: "widgetcorp/ssh/alice"' in shown
    public = keygen("-y", "-f", str(key)).split()
    assert public[0] == label
    assert Path(f"{key}.pub").read_text().split() == public[:2]
    fingerprint = keygen("-l", "-f", f"{key}.pub").split()[1]
    assert (
        f"Public key: {label.split('-')[1].upper() if key_type == 'ed25519' else 'ECDSA'}-CERT {fingerprint}" in shown
    )
    modes = {stat.S_IMODE(path.stat().st_mode) for path in key.parent.iterdir()}
    assert modes == {0o600}
    sent = edge.seen("POST", TEAM_HOST, SIGN_PATH)[0]
    assert json.loads(sent.body)["public_key"] == Path(f"{key}.pub").read_text()


def test_pair_is_reused_while_a_minute_is_left(edge: LabEdge, run: Run, home: Path) -> None:
    logged_in(edge, home)
    run("access", "ssh-gen", "--hostname", edge.app)
    first, requests = key_file(home).read_text(), len(edge.requests)
    done = run("access", "ssh-gen", "--hostname", edge.app, "-v")
    assert b"certificate 1 for alice" in done.stderr
    assert key_file(home).read_text() == first
    assert len(edge.requests) == requests  # no network at all


def test_new_certificate_has_a_new_key(edge: LabEdge, run: Run, home: Path) -> None:
    logged_in(edge, home)
    edge.certificate_seconds = 20
    run("access", "ssh-gen", "--hostname", edge.app)
    first = key_file(home).read_text()
    run("access", "ssh-gen", "--hostname", edge.app)
    assert edge.certificates == 2
    second = key_file(home).with_name(f"{APP_HOST}-cf_key2")
    assert second.read_text() != first
    assert "user certificate" in keygen("-L", "-f", f"{second}-cert.pub")


def test_a_renewal_leaves_the_pair_of_a_running_ssh_alone(edge: LabEdge, run: Run, home: Path) -> None:
    """ssh has read the certificate and will read the key at authentication: neither may change in between."""
    logged_in(edge, home)
    edge.certificate_seconds = 20
    run("access", "ssh-gen", "--hostname", edge.app)
    names = ("", ".pub", "-cert.pub")
    before = [Path(f"{key_file(home)}{name}").read_text() for name in names]
    run("access", "ssh-gen", "--hostname", edge.app)
    assert [Path(f"{key_file(home)}{name}").read_text() for name in names] == before
    assert edge.certificates == 2


@pytest.mark.parametrize("damage", ["-cert.pub", ".json", ""])
def test_incomplete_pair_is_replaced(edge: LabEdge, run: Run, home: Path, damage: str) -> None:
    logged_in(edge, home)
    run("access", "ssh-gen", "--hostname", edge.app)
    Path(f"{key_file(home)}{damage}").unlink()
    assert run("access", "ssh-gen", "--hostname", edge.app).returncode == 0
    assert edge.certificates == 2


def test_pair_of_another_application_is_replaced(edge: LabEdge, run: Run, home: Path) -> None:
    """The application was deleted and made anew under the same host name: same files, another audience."""
    logged_in(edge, home)
    run("access", "ssh-gen", "--hostname", edge.app)
    note = Path(f"{key_file(home)}.json")
    note.write_text(note.read_text().replace(AUD, "b" * 64))
    run("access", "ssh-gen", "--hostname", edge.app)
    assert edge.certificates == 2


def test_revoked_session_leads_to_one_new_login(edge: LabEdge, run: Run, home: Path) -> None:
    path = write_state(home, TOKEN_FILE, edge.make_token("app"))  # well formed, but revoked at the control plane
    done = run("access", "ssh-gen", "--hostname", edge.app)
    assert done.returncode == 0, done.stderr
    assert b"401 session_revoked: this session was revoked" in done.stderr
    assert b"Approve only" in done.stderr
    assert path.read_text() in edge.valid_app_tokens
    assert len(edge.seen("POST", TEAM_HOST, SIGN_PATH)) == 2


def test_second_refusal_is_final(edge: LabEdge, run: Run, home: Path) -> None:
    logged_in(edge, home)
    refusal = {"status": 401, "reason": "session_revoked", "message": "gone"}
    edge.overrides[(TEAM_HOST, SIGN_PATH)] = lambda _request: json_answer(401, refusal)
    done = run("access", "ssh-gen", "--hostname", edge.app)
    assert done.returncode == 1
    assert len(edge.seen("POST", TEAM_HOST, SIGN_PATH)) == 2


def test_refusal_shows_status_reason_and_message(edge: LabEdge, run: Run, home: Path) -> None:
    token = logged_in(edge, home)
    refusal = {"status": 403, "reason": "policy_denied_country", "message": "Your country \x1b[31mXX is not allowed"}
    edge.overrides[(TEAM_HOST, SIGN_PATH)] = lambda _request: json_answer(403, refusal)
    done = run("access", "ssh-gen", "--hostname", edge.app)
    assert done.returncode == 1
    assert b"403 policy_denied_country: Your country [31mXX is not allowed" in done.stderr
    assert b"\x1b" not in done.stderr
    assert token.exists()
    assert not key_file(home).exists()


def test_refusal_that_is_not_json(edge: LabEdge, run: Run, home: Path) -> None:
    logged_in(edge, home)
    edge.overrides[(TEAM_HOST, SIGN_PATH)] = lambda _request: Answer(502, [("Content-Type", "text/html")], b"<html>")
    done = run("access", "ssh-gen", "--hostname", edge.app)
    assert done.returncode == 1
    assert b"502" in done.stderr
    assert b"<html>" not in done.stderr


def test_certificate_for_another_key_is_not_stored(edge: LabEdge, run: Run, home: Path, tmp_path: Path) -> None:
    logged_in(edge, home)
    keygen("-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "other"))
    other = (tmp_path / "other.pub").read_text()
    sign = edge._sign
    edge._sign = lambda document, headers: sign({**document, "public_key": other}, headers)  # type: ignore[method-assign]
    done = run("access", "ssh-gen", "--hostname", edge.app)
    assert done.returncode == 1
    assert b"for another key" in done.stderr
    assert not key_file(home).exists()


def test_expired_certificate_names_the_clock(edge: LabEdge, run: Run, home: Path) -> None:
    logged_in(edge, home)
    edge.certificate_seconds = -5
    done = run("access", "ssh-gen", "--hostname", edge.app)
    assert done.returncode == 1
    assert b"clock skew" in done.stderr


def test_wanted_principal_is_checked(edge: LabEdge, run: Run, home: Path) -> None:
    logged_in(edge, home)
    assert run("access", "ssh-gen", "--hostname", edge.app, "--principal", "alice").returncode == 0
    done = run("access", "ssh-gen", "--hostname", edge.app, "--principal", "root")
    assert done.returncode == 1
    assert f"ssh alice@{APP_HOST}".encode() in done.stderr


def test_token_of_a_foreign_issuer_is_never_posted(edge: LabEdge, run: Run, home: Path) -> None:
    token = edge.issue("app", iss=f"https://foreign.example.localhost:{edge.port}")
    write_state(home, TOKEN_FILE, token)
    assert run("access", "ssh-gen", "--hostname", edge.app).returncode == 0
    assert not [request for request in edge.requests if token.encode() in request.body]


def test_reader_refuses_truncated_certificates(edge: LabEdge, run: Run, home: Path) -> None:
    import base64

    logged_in(edge, home)
    run("access", "ssh-gen", "--hostname", edge.app)
    kind, text = Path(f"{key_file(home)}-cert.pub").read_text().split()
    blob = base64.b64decode(text)
    facts = read_certificate(f"{kind} {text}")
    assert (facts.serial, facts.key_id, facts.principals) == (1, "widgetcorp/ssh/alice", ("alice",))
    read_until = blob.index(b"permit-port-forwarding") - 12  # three lengths: options, extensions, the name's own
    for length in range(read_until):
        with pytest.raises(CertificateError):
            read_certificate(f"{kind} {base64.b64encode(blob[:length]).decode()}")


MACHINE = {"TUNNEL_SERVICE_TOKEN_ID": SERVICE_TOKEN[0], "TUNNEL_SERVICE_TOKEN_SECRET": SERVICE_TOKEN[1]}


def test_a_machine_gets_a_certificate_without_a_login(edge: LabEdge, run: Run, home: Path) -> None:
    done = run("access", "ssh-gen", "--hostname", edge.app, env=MACHINE)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    shown = keygen("-L", "-f", f"{key_file(home)}-cert.pub")
    assert f'Key ID: "widgetcorp/ssh/ci+{SERVICE_TOKEN[0]}"' in shown
    sent = edge.seen("POST", TEAM_HOST, SIGN_PATH)[0]
    assert json.loads(sent.body).keys() == {"public_key", "aud", "proof"}
    stored = "".join(path.read_text() for path in (home / ".sallyport").iterdir())
    assert SERVICE_TOKEN[1] not in stored
    secrets_sent = [request.host for request in edge.requests if "cf-access-client-secret" in request.headers]
    assert {host.partition(":")[0] for host in secrets_sent} == {TEAM_HOST}
    # The second run needs no network; a person on the same account does not get the machine's pair.
    requests = len(edge.requests)
    assert run("access", "ssh-gen", "--hostname", edge.app, env=MACHINE).returncode == 0
    assert len(edge.requests) == requests
    logged_in(edge, home)
    assert b"alice" in run("access", "ssh-gen", "--hostname", edge.app, "-v").stderr
    assert edge.certificates == 2


def test_a_machine_with_a_wrong_secret_is_told_so_and_opens_no_browser(edge: LabEdge, run: Run) -> None:
    done = run(
        "access", "ssh-gen", "--hostname", edge.app, "--service-token-id", SERVICE_TOKEN[0],
        "--service-token-secret", "wrong",
    )  # fmt: skip
    assert done.returncode == 1
    assert b"401 service_token_invalid: wrong secret" in done.stderr
    assert b"prefer TUNNEL_SERVICE_TOKEN_SECRET" in done.stderr
    assert b"log in" not in done.stderr.lower()
    half = run("access", "ssh-gen", "--hostname", edge.app, "--service-token-id", SERVICE_TOKEN[0])
    assert b"needs both its id and its secret" in half.stderr


def test_a_machine_finds_an_application_that_was_made_anew(edge: LabEdge, run: Run, home: Path) -> None:
    run("access", "ssh-gen", "--hostname", edge.app, env=MACHINE)
    memory = home / ".sallyport" / f"{APP_HOST}-app"
    remembered = json.loads(memory.read_text())
    memory.write_text(json.dumps({**remembered, "aud": "b" * 64}))
    assert run("access", "ssh-gen", "--hostname", edge.app, env=MACHINE).returncode == 0
    assert json.loads(memory.read_text())["aud"] == AUD
