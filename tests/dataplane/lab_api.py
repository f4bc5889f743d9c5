"""A small /client/v4 in memory, with the envelope and rules of product.md 3.1, for the tunnel commands."""

import base64
import json
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

ACCOUNT = "0123456789abcdef0123456789abcdef"
TOKEN = "lab-token_" + "x" * 40
ZONES = [{"id": "1" * 32, "name": "localhost"}, {"id": "2" * 32, "name": "widgetcorp.localhost"}]


class LabApi:
    def __init__(self) -> None:
        self.tunnels: dict[str, dict[str, Any]] = {}
        self.secrets: dict[str, str] = {}
        self.routes: dict[str, str] = {}
        self.accounts = [{"id": ACCOUNT, "name": "Widget Corp"}]
        self.calls: list[tuple[str, str, Any]] = []
        self.bearers: set[str] = set()
        self.per_page = 2
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler_class())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/client/v4"

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    def answer(self, method: str, path: str, query: dict[str, str], body: Any) -> tuple[int, Any, list[dict[str, Any]]]:
        """(status, result, errors)"""
        tunnels = f"/accounts/{ACCOUNT}/cfd_tunnel"
        if path == "/user/tokens/verify":
            return 200, {"id": "t1", "status": "active"}, []
        if path == "/accounts":
            return 200, self.accounts, []
        if path == "/zones":
            return 200, ZONES, []
        if path == tunnels:
            return self._create(body) if method == "POST" else self._list(query)
        if path.startswith(f"{tunnels}/"):
            identifier, _, rest = path.removeprefix(f"{tunnels}/").partition("/")
            return self._one(method, identifier, rest)
        if method == "PUT" and path.startswith("/zones/") and path.endswith("/routes"):
            return self._route(path.split("/")[2], path.split("/")[4], body)
        return 404, None, [{"code": 7003, "message": "no route for that URI"}]

    def _create(self, body: Any) -> tuple[int, Any, list[dict[str, Any]]]:
        if any(tunnel["name"] == body["name"] for tunnel in self.tunnels.values() if not tunnel["deleted_at"]):
            return 409, None, [{"code": 1013, "message": "You already have a tunnel with this name"}]
        identifier = str(uuid.uuid4())
        self.secrets[identifier] = body["tunnel_secret"]
        self.tunnels[identifier] = {
            "id": identifier,
            "account_tag": ACCOUNT,
            "name": body["name"],
            "created_at": "2026-11-22T12:00:00Z",
            "deleted_at": None,
            "status": "healthy",
            "connections": [{"colo_name": "home", "is_pending_reconnect": False}] * 2,
        }
        return 200, self.tunnels[identifier], []

    def _list(self, query: dict[str, str]) -> tuple[int, Any, list[dict[str, Any]]]:
        found = [
            tunnel
            for tunnel in self.tunnels.values()
            if ("is_deleted" not in query or not tunnel["deleted_at"])
            and tunnel["name"] == query.get("name", tunnel["name"])
        ]
        return 200, found, []

    def _one(self, method: str, identifier: str, rest: str) -> tuple[int, Any, list[dict[str, Any]]]:
        tunnel = self.tunnels.get(identifier)
        if tunnel is None:
            return 404, None, [{"code": 1003, "message": "Tunnel not found"}]
        if rest == "token":
            document = {"a": ACCOUNT, "t": identifier, "s": self.secrets[identifier]}
            return 200, base64.b64encode(json.dumps(document).encode()).decode(), []
        if rest == "connections":
            connector = {
                "id": str(uuid.uuid4()),
                "run_at": "2026-11-22T12:00:00Z",
                "arch": "linux_amd64",
                "version": "0.1.0",
                "conns": [{"colo_name": "home", "origin_ip": "127.0.0.1", "is_pending_reconnect": False}],
            }
            return 200, None if method == "DELETE" else [connector], []
        if method == "DELETE":
            tunnel["deleted_at"] = "2026-11-22T13:00:00Z"
        return 200, tunnel, []

    def _route(self, zone: str, identifier: str, body: Any) -> tuple[int, Any, list[dict[str, Any]]]:
        host = body["user_hostname"]
        if host in self.routes and not body["overwrite_existing"]:
            return 400, None, [{"code": 81053, "message": "An A, AAAA, or CNAME record with that host already exists."}]
        change = "updated" if host in self.routes else "new"
        self.routes[host] = f"{zone}/{identifier}"
        return 200, {"cname": change, "name": host}, []

    def _handler_class(self) -> type[BaseHTTPRequestHandler]:
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
                return

            def _serve(self) -> None:
                parts = urlsplit(self.path)
                query = {name: values[0] for name, values in parse_qs(parts.query).items()}
                raw = self.rfile.read(int(self.headers.get("content-length") or 0))
                path, body = parts.path.removeprefix("/client/v4"), json.loads(raw) if raw else None
                api.calls.append((self.command, path + (f"?{parts.query}" if parts.query else ""), body))
                bearer = self.headers.get("authorization", "")
                api.bearers.add(bearer)
                if bearer != f"Bearer {TOKEN}":
                    self._reply(403, None, [{"code": 10000, "message": "Authentication error"}], {})
                    return
                status, result, errors = api.answer(self.command, path, query, body)
                info: dict[str, int] = {}
                if isinstance(result, list) and "page" in query:
                    page = int(query["page"])
                    info = {"page": page, "per_page": api.per_page, "total_count": len(result)}
                    result = result[(page - 1) * api.per_page : page * api.per_page]
                self._reply(status, result, errors, info)

            def _reply(self, status: int, result: Any, errors: list[dict[str, Any]], info: dict[str, int]) -> None:
                document = {
                    "success": status == 200,
                    "errors": errors,
                    "messages": [],
                    "result": result,
                    "result_info": info,
                }
                payload = json.dumps(document).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(payload)))
                self.end_headers()
                self.wfile.write(payload)

            do_GET = do_POST = do_PUT = do_DELETE = _serve  # noqa: N815 - names fixed by http.server

        return Handler
