"""HTTPS_PROXY: discovery, login and the WebSocket all go through it; TLS still ends at the edge."""

import base64
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from tests.dataplane.client.conftest import Run
from tests.dataplane.client.lab_edge import LabEdge, Request

HOST = "ssh.example.test"  # a name that no resolver knows: only the proxy can reach it


@dataclass
class LabProxy:
    """Answers every CONNECT by connecting to the lab edge."""

    edge_port: int
    status: str = "200 Connection established"
    heads: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def stop(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(20)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._threads.append(threading.Thread(target=self._serve, args=(client,), daemon=True))
            self._threads[-1].start()

    def _serve(self, client: socket.socket) -> None:
        client.settimeout(20)
        with client:
            head = b""
            while b"\r\n\r\n" not in head:
                head += client.recv(65536)
            self.heads.append(head.decode())
            client.sendall(f"HTTP/1.1 {self.status}\r\n\r\n".encode())
            if not self.status.startswith("200"):
                return
            with socket.create_connection(("127.0.0.1", self.edge_port), timeout=20) as edge:
                back = threading.Thread(target=_copy, args=(edge, client), daemon=True)
                back.start()
                _copy(client, edge)
                back.join(20)


def _copy(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        return


@pytest.fixture
def proxy(edge: LabEdge) -> Iterator[LabProxy]:
    lab = LabProxy(edge.port)
    team, app = edge._team, edge._route

    def route(request: Request):  # type: ignore[no-untyped-def]
        return team(request) if request.host_name == "team.example.test" else app(request)

    edge._route = route  # type: ignore[method-assign]
    edge.metadata_claims = {"auth_domain": "team.example.test"}
    issue = edge.issue
    edge.issue = lambda kind, **changes: issue(kind, iss="https://team.example.test", **changes)  # type: ignore[method-assign]
    yield lab
    lab.stop()


def test_login_and_stream_go_through_the_proxy(edge: LabEdge, run: Run, proxy: LabProxy) -> None:
    env = {"HTTPS_PROXY": f"http://user:p%40ss@127.0.0.1:{proxy.port}"}
    done = run("access", "ssh", "--hostname", HOST, stdin=b"hello", env=env)
    assert (done.returncode, done.stdout) == (0, b"hello"), done.stderr
    targets = [head.split(" ")[1] for head in proxy.heads]
    assert set(targets) == {f"{HOST}:443", "team.example.test:443"}
    secret = base64.b64encode(b"user:p@ss").decode()
    assert all(f"Proxy-Authorization: Basic {secret}\r\n" in head for head in proxy.heads)
    assert not [request for request in edge.requests if "proxy-authorization" in request.headers]


def test_proxy_that_refuses(edge: LabEdge, run: Run, proxy: LabProxy) -> None:
    proxy.status = "407 Proxy Authentication Required"
    done = run("access", "login", HOST, env={"https_proxy": f"127.0.0.1:{proxy.port}"})
    assert done.returncode == 1
    assert f"refused the way to {HOST}:443: 407".encode() in done.stderr


@pytest.mark.parametrize("no_proxy", ["*", HOST, "other,.example.test"])
def test_excepted_hosts_are_dialled_directly(edge: LabEdge, run: Run, proxy: LabProxy, no_proxy: str) -> None:
    env = {"HTTPS_PROXY": f"http://127.0.0.1:{proxy.port}", "NO_PROXY": no_proxy}
    done = run("access", "token", HOST, env=env)
    assert done.returncode == 1
    assert b"cannot resolve" in done.stderr
    assert proxy.heads == []


def test_edge_and_loopback_names_need_no_proxy(edge: LabEdge, run: Run, proxy: LabProxy) -> None:
    env = {"HTTPS_PROXY": f"http://127.0.0.1:{proxy.port}"}
    run("access", "token", HOST, "--edge", f"127.0.0.1:{edge.port}", env=env)
    run("access", "token", edge.app, env=env)
    assert len(edge.requests) >= 2
    assert proxy.heads == []


def test_proxy_url_that_cannot_be_used(edge: LabEdge, run: Run) -> None:
    done = run("access", "token", HOST, env={"HTTPS_PROXY": "socks5://127.0.0.1:1"})
    assert done.returncode == 1
    assert b"HTTPS_PROXY must be" in done.stderr
