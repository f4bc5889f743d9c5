"""A small real HTTP server that plays an edge's control listener."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class EdgeListener:
    """Records pushes (and pokes: those that name no tunnel; and questions about logs). Answers `replies`, or the
    raw `body`, with `status`."""

    def __init__(self) -> None:
        self.pushes: list[tuple[str, str, dict[str, Any]]] = []
        self.pokes: list[tuple[str, str, dict[str, Any]]] = []
        self.questions: list[tuple[str, str, dict[str, Any]]] = []
        self.replies: list[dict[str, Any]] = []
        self.status = 200
        self.body: bytes | None = None
        self.location = ""
        self.hold = threading.Event()
        self.hold.set()
        listener = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                content = self.rfile.read(int(self.headers["content-length"]))
                document = json.loads(content)
                if "tunnels" in document:
                    kept = listener.pushes if document["tunnels"] else listener.pokes
                else:
                    kept = listener.questions
                kept.append((self.path, self.headers["authorization"], document))
                listener.hold.wait(timeout=10)
                body = listener.body
                if body is None:
                    body = json.dumps({"snapshot_version": 1, "connections": listener.replies}).encode()
                self.send_response(listener.status)
                if listener.location:
                    self.send_header("location", listener.location)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self.hold.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=5)
