"""Proof of possession at the signing endpoint: the key to be certified, and the device a token is bound to."""

from __future__ import annotations

import base64
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from django.db import connection
from django.http import HttpResponse
from django.utils import timezone

from access import tokens
from access.models import AccessRequest, Application, Certificate, HandOver
from accounts.models import AccessSession
from dataplane.client.possession import device_thumbprint, prove
from dataplane.client.signing import FreshKey
from dataplane.state import State
from dataplane.wire.possession import SSHSIG_NAMESPACE, statement, thumbprint
from tests.access.edge_client import TEAM, EdgeBrowser
from tests.access.login_flows import log_in_with_pin, pin_provider, start_at_application
from tests.access.makers import app_token, make_application, make_session, post_cert_sign, public_key_line
from tests.factories import Cast, make_cast


def ask(
    application: Application,
    token: str,
    key: FreshKey,
    proof: Any,
    *,
    public_line: str | None = None,
) -> HttpResponse:
    body = {"public_key": public_line or key.public_line, "jwt": token, "issuer": application.organization.team_url}
    return post_cert_sign(application.organization, {**body, **({"proof": proof} if proof is not None else {})})


def proof_of(application: Application, token: str, key: FreshKey, state: State, **changes: Any) -> dict[str, Any]:
    said: dict[str, Any] = {
        "issuer": application.organization.team_url,
        "audience": application.aud,
        "credential": token,
    }
    return prove(state, key.key, key.public_line, **(said | changes))


def bound_token(application: Application, session: AccessSession, state: State) -> str:
    return tokens.mint_application_token(
        application,
        session,
        now=timezone.now(),
        lifetime_seconds=3600,
        country="",
        device=device_thumbprint(state),
    )


@pytest.fixture
def state(tmp_path: Path) -> State:
    return State(tmp_path / "client")


class TestKeyProof:
    @pytest.mark.parametrize("key_type", ["ed25519", "ecdsa"])
    def test_ac_22_the_holder_of_the_key_gets_the_certificate(self, cast: Cast, state: State, key_type: str) -> None:
        application = make_application(cast.widgetcorp, require_key_proof=True)
        key, token = FreshKey.generate(key_type), app_token(application, make_session(cast.widgetcorp))
        assert ask(application, token, key, proof_of(application, token, key, state)).status_code == 200

    def test_ac_22_without_a_proof_the_application_that_wants_one_refuses(self, cast: Cast) -> None:
        application = make_application(cast.widgetcorp, require_key_proof=True)
        token = app_token(application, make_session(cast.widgetcorp))
        answer = ask(application, token, FreshKey.generate("ed25519"), None)
        assert (answer.status_code, answer.json()["reason"]) == (403, "key_proof_required")
        entry = AccessRequest.objects.get(action="certificate")
        assert (entry.allowed, entry.reason) == (False, "key_proof_required")
        assert not Certificate.objects.exists()

    def test_ac_22_a_colleagues_public_key_is_refused(self, cast: Cast, state: State) -> None:
        application = make_application(cast.widgetcorp)
        key, token = FreshKey.generate("ed25519"), app_token(application, make_session(cast.widgetcorp))
        proof = proof_of(application, token, key, state)
        answer = ask(application, token, key, proof, public_line=public_key_line())
        assert (answer.status_code, answer.json()["reason"]) == (403, "key_proof_invalid")

    @pytest.mark.parametrize("name", ["issuer", "audience", "credential"])
    def test_ac_22_a_proof_made_for_something_else_is_refused(self, cast: Cast, state: State, name: str) -> None:
        application = make_application(cast.widgetcorp)
        key, token = FreshKey.generate("ed25519"), app_token(application, make_session(cast.widgetcorp))
        proof = proof_of(application, token, key, state, **{name: "https://else.where"})
        assert ask(application, token, key, proof).json()["reason"] == "key_proof_invalid"

    @pytest.mark.parametrize(
        "change",
        [
            {"timestamp": 0},
            {"timestamp": "now"},
            {"timestamp": True},
            {"nonce": "short"},
            {"nonce": 7},
            {"signature": ""},
            {"signature": "U1NIU0lH"},
            {"signature": "A" * 9000},
            {"signature": None},
        ],
        ids=str,
    )
    def test_ac_22_malformed_proofs_are_refused_not_skipped(self, cast: Cast, state: State, change: Any) -> None:
        application = make_application(cast.widgetcorp)
        key, token = FreshKey.generate("ed25519"), app_token(application, make_session(cast.widgetcorp))
        proof = proof_of(application, token, key, state) | change
        assert ask(application, token, key, proof).json()["reason"] == "key_proof_invalid"

    def test_ac_22_a_proof_that_is_no_object_is_refused(self, cast: Cast) -> None:
        application = make_application(cast.widgetcorp)
        token = app_token(application, make_session(cast.widgetcorp))
        for proof in ([], "x", 1, {}, False):
            answer = ask(application, token, FreshKey.generate("ed25519"), proof)
            assert answer.json()["reason"] == "key_proof_invalid", proof

    def test_ac_22_a_proof_is_good_once(self, cast: Cast, state: State) -> None:
        application = make_application(cast.widgetcorp)
        key, token = FreshKey.generate("ed25519"), app_token(application, make_session(cast.widgetcorp))
        proof = proof_of(application, token, key, state)
        assert ask(application, token, key, proof).status_code == 200
        again = ask(application, token, key, proof)
        assert (again.status_code, again.json()["reason"]) == (403, "key_proof_invalid")
        assert Certificate.objects.count() == 1

    def test_ac_22_an_old_proof_says_that_clocks_disagree(
        self, cast: Cast, state: State, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        application = make_application(cast.widgetcorp)
        key, token = FreshKey.generate("ed25519"), app_token(application, make_session(cast.widgetcorp))
        past = time.time() - 400
        with monkeypatch.context() as clock:
            clock.setattr(time, "time", lambda: past)
            proof = proof_of(application, token, key, state)
        assert "clock" in ask(application, token, key, proof).json()["message"]

    def test_openssh_can_make_the_proof(self, cast: Cast, tmp_path: Path) -> None:
        """Somebody else's tool: whoever scripts with curl needs nothing of ours."""
        application = make_application(cast.widgetcorp, require_key_proof=True)
        token = app_token(application, make_session(cast.widgetcorp))
        path = tmp_path / "id"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True, timeout=20)
        line = path.with_suffix(".pub").read_text().strip()
        timestamp, nonce = int(time.time()), "0123456789abcdef"
        said = statement(
            issuer=application.organization.team_url,
            audience=application.aud,
            credential=token,
            public_line=line,
            timestamp=timestamp,
            nonce=nonce,
        )
        signed = subprocess.run(
            ["ssh-keygen", "-Y", "sign", "-f", str(path), "-n", SSHSIG_NAMESPACE],
            input=said,
            capture_output=True,
            check=True,
            timeout=20,
        )
        proof = {"timestamp": timestamp, "nonce": nonce, "signature": signed.stdout.decode()}
        key = FreshKey("", line, ed25519.Ed25519PrivateKey.generate())
        answer = ask(application, token, key, proof)
        assert answer.status_code == 200, answer.content

    def test_clients_that_know_nothing_of_it_go_on(self, cast: Cast) -> None:
        application = make_application(cast.widgetcorp)
        token = app_token(application, make_session(cast.widgetcorp))
        assert ask(application, token, FreshKey.generate("ed25519"), None).status_code == 200

    def test_ac_22_a_key_of_another_curve_is_not_taken_for_the_named_one(self, cast: Cast, state: State) -> None:
        application = make_application(cast.widgetcorp)
        token = app_token(application, make_session(cast.widgetcorp))
        real = FreshKey.generate("ecdsa")
        other = FreshKey("", real.public_line, ec.generate_private_key(ec.SECP256R1()))
        assert ask(application, token, real, proof_of(application, token, other, state)).status_code == 403


class TestBoundTokens:
    def test_ac_34_the_device_itself_gets_its_certificate(self, cast: Cast, state: State) -> None:
        application = make_application(cast.widgetcorp)
        token, key = bound_token(application, make_session(cast.widgetcorp), state), FreshKey.generate("ed25519")
        assert ask(application, token, key, proof_of(application, token, key, state)).status_code == 200
        assert state.path("device_key").stat().st_mode & 0o777 == 0o600

    def test_ac_34_a_stolen_token_gets_none_without_the_device_key(
        self, cast: Cast, state: State, tmp_path: Path
    ) -> None:
        application = make_application(cast.widgetcorp)
        token, key = bound_token(application, make_session(cast.widgetcorp), state), FreshKey.generate("ed25519")
        thief = State(tmp_path / "thief")
        keyless = proof_of(application, token, key, thief)
        device_thumbprint(thief)
        own_key = proof_of(application, token, key, thief)
        named = own_key | {"device_key": proof_of(application, token, key, state)["device_key"]}
        for proof in (None, keyless, own_key, named):
            answer = ask(application, token, key, proof)
            assert (answer.status_code, answer.json()["reason"]) == (403, "token_bound_to_another_device")
        assert not Certificate.objects.exists()

    def test_ac_34_a_proof_seen_on_the_way_is_no_use_for_another_key(self, cast: Cast, state: State) -> None:
        application = make_application(cast.widgetcorp)
        token, key = bound_token(application, make_session(cast.widgetcorp), state), FreshKey.generate("ed25519")
        proof = proof_of(application, token, key, state)
        thiefs = FreshKey.generate("ed25519")
        answer = ask(application, token, thiefs, proof)
        assert answer.status_code == 403

    def test_ac_34_the_binding_survives_the_exchange_for_another_application(self, cast: Cast, state: State) -> None:
        """Else a stolen organization token would be turned into a bearer token for the asking."""
        pin_provider(cast.widgetcorp)
        application = make_application(cast.widgetcorp, hostname="ssh.widgetcorp.test", authority=False)
        browser = EdgeBrowser()
        log_in_with_pin(browser, start_at_application(browser, application), "alice@widgetcorp.test")
        session = AccessSession.objects.get()
        bound = tokens.mint_organization_token(session, now=timezone.now(), device=device_thumbprint(state))
        client = EdgeBrowser()
        client.set_cookie(TEAM, "CF_Authorization", bound)
        answer = client.head(start_at_application(client, application))
        done = client.head(answer["Location"])
        token = client.cookie("ssh.widgetcorp.test", "CF_Authorization")
        assert done.status_code == 302
        assert HandOver.objects.latest("created_at").device == device_thumbprint(state)
        claims = tokens.verify(cast.widgetcorp, token, now=timezone.now(), audience=application.aud)
        assert claims.device == device_thumbprint(state)


@pytest.mark.django_db(transaction=True)
def test_ac_22_of_fifty_uses_at_once_of_one_proof_exactly_one_is_signed(tmp_path: Path) -> None:
    application = make_application(make_cast().widgetcorp)
    state, key = State(tmp_path / "client"), FreshKey.generate("ed25519")
    token = app_token(application, make_session(application.organization))
    proof = proof_of(application, token, key, state)

    def once(_: int) -> int:
        try:
            return ask(application, token, key, proof).status_code
        finally:
            connection.close()

    with ThreadPoolExecutor(10) as pool:
        codes = list(pool.map(once, range(50)))
    assert codes.count(200) == 1
    assert codes.count(403) == 49


def test_the_thumbprint_is_that_of_rfc_8037() -> None:
    raw = base64.urlsafe_b64decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo=")
    assert thumbprint(raw) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
