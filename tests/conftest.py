"""Fixtures for every room."""

import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

Answer = Callable[[BaseHTTPRequestHandler, dict[str, Any]], None]


@dataclass
class FaultyServer:
    """An HTTP server for faults that a real one won't produce on demand.

    `answer(handler, body)` writes whatever it wants to the socket; `requests` keeps (path, body).
    """

    answer: Answer
    requests: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    base_url: str = ""


@pytest.fixture
def faulty_server() -> Iterator[Callable[..., FaultyServer]]:
    """Start a `FaultyServer`; a GET lists `models`, by default `m`; a POST gets `answer`."""
    running: list[ThreadingHTTPServer] = []
    one = json.dumps({"object": "list", "data": [{"id": "m", "object": "model"}]})

    def start(answer: Answer, models: str = one) -> FaultyServer:
        server = FaultyServer(answer)

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                send(self, 200 if self.path == "/v1/models" else 404, models)

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                server.requests.append((self.path, body))
                server.answer(self, body)

            def log_message(self, *_: object) -> None:
                pass

        http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        running.append(http)
        threading.Thread(target=http.serve_forever, daemon=True).start()
        server.base_url = f"http://127.0.0.1:{http.server_port}/v1"
        return server

    yield start
    for http in running:
        http.shutdown()
        http.server_close()


def send(handler: BaseHTTPRequestHandler, status: int, body: str, **headers: str) -> None:
    """One whole answer."""
    handler.send_response(status)
    for name, value in {"Content-Type": "application/json", **headers}.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("Content-Length", str(len(body.encode())))
    handler.end_headers()
    handler.wfile.write(body.encode())


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Tests see the defaults, not the settings of whoever runs them."""
    kept = ("MAGICODER_CACHE_DIR", "MAGICODER_BENCHMARKS")
    for name in os.environ:
        if name.startswith("MAGICODER_") and name not in kept:
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.getbasetemp() / "config"))


@pytest.fixture(scope="session")
def needs() -> Callable[..., None]:
    """Skip the test where a program is missing; in CI, where all must be there, fail."""

    def check(*programs: str) -> None:
        missing = [program for program in programs if shutil.which(program) is None]
        if missing and os.environ.get("CI") == "true":
            pytest.fail(f"not installed: {', '.join(missing)}: requirements/*.sh installs it")
        if missing:
            pytest.skip(f"not installed: {', '.join(missing)}")

    return check
