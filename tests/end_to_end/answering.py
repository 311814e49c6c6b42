"""A small real HTTP server that answers as a test tells it, and remembers the calls."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import numpy as np
from attrs import define, field, frozen

from arena_core.application import npy

SINGLE = {"algo": "PPO", "multi_agent": False, "recurrent": False}
TEAM = {"algo": "IPPO", "multi_agent": True, "recurrent": False}


@frozen
class Call:
    path: str
    authorization: str | None
    body: Any


@define
class Server:
    """What it answers to `/get_action`: a body, or a status and a body."""

    answer: Callable[[Any], Any]
    agent: dict[str, object] = field(factory=lambda: dict(SINGLE))
    calls: list[Call] = field(factory=list)
    url: str = ""

    @property
    def asked(self) -> list[Any]:
        """The bodies of the calls of `/get_action`, oldest first."""
        return [call.body for call in self.calls if call.body is not None]

    def answer_to(self, path: str, body: Any) -> tuple[int, Any]:
        if path.endswith("/status"):
            flags = {"llm": False, "supervised": False}
            return 200, {"success": True, "agent": {**flags, **self.agent}}
        answered = self.answer(body)
        return answered if isinstance(answered, tuple) else (200, answered)


@contextmanager
def answering(
    answer: Callable[[Any], Any], agent: dict[str, object] = SINGLE
) -> Iterator[Server]:
    server = Server(answer, agent)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.do_POST()

        def do_POST(self) -> None:
            size = int(self.headers.get("Content-Length", 0))
            body = json.loads(self.rfile.read(size)) if size else None
            authorization = self.headers["Authorization"]
            server.calls.append(Call(self.path, authorization, body))
            status, answered = server.answer_to(self.path.partition("?")[0], body)
            if status is None:  # nothing is answered: the line goes dead
                self.close_connection = True
                return
            raw = answered if isinstance(answered, bytes) else _json(answered)
            self.send_response(status)
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        listening.daemon_threads = True
        thread = Thread(target=listening.serve_forever, args=(0.01,))
        thread.start()
        server.url = f"http://127.0.0.1:{listening.server_port}/inference/1"
        try:
            yield server
        finally:
            listening.shutdown()
            thread.join()


def packed(*rows: object) -> str:
    """Return rows as they travel."""
    return npy.to_base64(np.asarray(rows))


def unpacked(text: str) -> np.ndarray:
    return npy.from_base64(text, field="test")


def _json(answered: object) -> bytes:
    return json.dumps(answered).encode()
