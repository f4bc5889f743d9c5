"""The fetch guard: AC-66, against real sockets on loopback."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from accounts import fetch


@contextmanager
def serving(answer: Callable[[socket.socket, bytes], None], tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """One connection after another, answered by `answer(connection, request)`."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(20)
    stopping = threading.Event()

    def serve() -> None:
        while not stopping.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(20)
                try:
                    wrapped = tls.wrap_socket(connection, server_side=True) if tls else connection
                    answer(wrapped, wrapped.recv(65536))
                    wrapped.close()
                except OSError:
                    pass

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        stopping.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(25)


def saying(head: str, body: bytes = b"") -> Callable[[socket.socket, bytes], None]:
    def answer(connection: socket.socket, request: bytes) -> None:
        connection.sendall(f"HTTP/1.1 {head}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)

    return answer


@pytest.fixture
def allow(settings):
    def allowed(port: int, host: str = "127.0.0.1") -> str:
        settings.FETCH_ALLOWED_PRIVATE_HOSTS = [f"{host}:{port}"]
        return f"http://{host}:{port}/x"

    return allowed


def test_an_allowed_private_host_is_fetched(allow):
    with serving(saying("200 OK", b'{"a": 1}')) as port:
        answer = fetch.get(allow(port))
    assert (answer.status, answer.json()) == (200, {"a": 1})
    assert "a" not in repr(answer).replace("Answer(status=200)", "")


def test_localhost_names_are_this_machine(allow):
    with serving(saying("200 OK", b"{}")) as port:
        assert fetch.get(allow(port, "idp.localhost")).status == 200


@pytest.mark.parametrize(
    "url",
    [
        "http://idp.test/x",
        "ftp://idp.test/x",
        "https://user@idp.test/x",
        "https://user:p@idp.test/x",
        "https://idp.test/x#f",
        "https://idp.test:0/x",
        "https://idp.test:99999/x",
        "https:///x",
        "//idp.test/x",
        "https://idp.test/a b",
        "https://idp.test/\r\nX: y",
        "https://idp.test\\@127.0.0.1/",
        "https://[::1",
        "https://127.0.0.1/",
        "https://10.0.0.1/",
        "https://169.254.169.254/latest/meta-data",
        "https://192.168.0.1/",
        "https://172.16.0.1/",
        "https://100.64.0.1/",
        "https://0.0.0.0/",
        "https://224.0.0.1/",
        "https://[::1]/",
        "https://[::ffff:127.0.0.1]/",
        "https://[::ffff:10.0.0.1]/",
        "https://[fe80::1]/",
        "https://[fc00::1]/",
        "https://[64:ff9b::7f00:1]/",
        "https://[2002:7f00:1::]/",
        "https://" + "a" * 3000,
        "file:///etc/passwd",
    ],
)
def test_ac66_urls_that_are_refused_before_any_network(url):
    with pytest.raises(fetch.FetchError):
        fetch.check_url(url)


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "10.1.2.3", "169.254.169.254", "::1", "::ffff:192.168.1.1", "fd00::1"]
)
def test_ac66_names_that_resolve_to_private_addresses_are_not_dialled(monkeypatch, address):
    monkeypatch.setattr(fetch, "_lookup", lambda host, port: ["93.184.215.14", address])
    monkeypatch.setattr(socket, "create_connection", lambda *a, **k: pytest.fail("dialled"))
    with pytest.raises(fetch.FetchError, match="private address"):
        fetch.get("https://idp.test/x")


@pytest.mark.parametrize("host", ["0x7f000001", "2130706433", "0177.0.0.1", "127.1", "localhost", "a.localhost"])
def test_ac66_other_spellings_of_loopback_are_refused(host, monkeypatch):
    dialled = []
    monkeypatch.setattr(socket, "create_connection", lambda *a, **k: dialled.append(a) or pytest.fail("dialled"))
    with pytest.raises(fetch.FetchError):
        fetch.get(f"https://{host}/x")
    assert not dialled


def test_ac66_the_checked_address_is_the_dialled_one(allow, settings, monkeypatch):
    """Rebinding: the second resolution would say something else; there is none."""
    with serving(saying("200 OK", b"{}")) as port:
        allow(port, "rebind.test")
        answers = iter([["127.0.0.1"], ["203.0.113.1"]])
        monkeypatch.setattr(fetch, "_lookup", lambda host, port: next(answers))
        assert fetch.get(f"http://rebind.test:{port}/x").status == 200
    assert next(answers) == ["203.0.113.1"]


def test_ac66_redirects_are_not_followed(allow):
    hits = []

    def redirect(connection: socket.socket, request: bytes) -> None:
        hits.append(request)
        saying("302 Found\r\nLocation: /elsewhere")(connection, request)

    with serving(redirect) as port, pytest.raises(fetch.FetchError, match="redirect"):
        fetch.get(allow(port))
    assert len(hits) == 1


def test_ac66_large_answers_are_cut_off(allow):
    with (
        serving(saying("200 OK", b"x" * (fetch.MAX_BODY_BYTES + 1))) as port,
        pytest.raises(fetch.FetchError, match="more than 256 KiB"),
    ):
        fetch.get(allow(port))


def test_ac66_a_trickle_ends_at_the_deadline(allow, monkeypatch):
    monkeypatch.setattr(fetch, "TIMEOUT_SECONDS", 0.5)

    def trickle(connection: socket.socket, request: bytes) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n")
        for number in range(200):
            connection.sendall(f"X-{number}: y\r\n".encode())
            time.sleep(0.05)

    started = time.monotonic()
    with serving(trickle) as port, pytest.raises(fetch.FetchError):
        fetch.get(allow(port))
    assert time.monotonic() - started < 5


def test_half_an_answer_is_refused(allow):
    def cut(connection: socket.socket, request: bytes) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{}")

    with serving(cut) as port, pytest.raises(fetch.FetchError, match="half-way"):
        fetch.get(allow(port))


def test_a_silent_server_times_out(allow, monkeypatch):
    monkeypatch.setattr(fetch, "TIMEOUT_SECONDS", 0.3)
    release = threading.Event()
    with serving(lambda connection, request: release.wait(10) and None) as port:
        with pytest.raises(fetch.FetchError, match="127.0.0.1"):
            fetch.get(allow(port))
        release.set()


def test_nothing_listening_is_named(allow):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(fetch.FetchError, match="connection refused"):
        fetch.get(allow(port))


def test_an_untrusted_certificate_is_refused(settings, tmp_path):
    tls = _self_signed(tmp_path)
    with serving(saying("200 OK", b"{}"), tls) as port:
        settings.FETCH_ALLOWED_PRIVATE_HOSTS = [f"127.0.0.1:{port}"]
        with pytest.raises(fetch.FetchError, match="certificate not trusted"):
            fetch.get(f"https://127.0.0.1:{port}/x")


@pytest.mark.parametrize("body", [b"", b"{", b"[" * 100_000, b"\xff"])
def test_answers_that_are_no_json_are_refused(body):
    with pytest.raises(fetch.FetchError, match="not JSON"):
        fetch.Answer(200, body).json()


def _self_signed(directory) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "idp.test")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = directory / "server.pem"
    path.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context
