"""The load generator of the benchmarks, against servers whose ways are known."""

import json
import socketserver
import subprocess
import sys
import threading
import time
from base64 import b64encode
from collections import deque
from contextlib import contextmanager
from pathlib import Path

LOAD = Path(__file__).parents[2] / "bench" / "load.py"
STALL_S = 0.6


class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        while self.rfile.readline():
            length = 0
            while (line := self.rfile.readline()) != b"\r\n":
                name, _, value = line.partition(b":")
                if name == b"Content-Length":
                    length = int(value)
            self.rfile.read(length)
            status, stall_s = self.server.next_answer()
            time.sleep(stall_s)
            self.wfile.write(b"HTTP/1.1 %d X\r\nContent-Length: 2\r\n\r\nok" % status)


class Server(socketserver.ThreadingTCPServer):
    """Stalls before its first answer; answers with `statuses`, and then with 200."""

    daemon_threads = True

    def __init__(self, *statuses, stalls_s=0.0):
        super().__init__(("127.0.0.1", 0), Handler)
        self._statuses = deque(statuses)
        self._stalls_s = deque([stalls_s])

    def next_answer(self):
        status = self._statuses.popleft() if self._statuses else 200
        return status, self._stalls_s.popleft() if self._stalls_s else 0.0


@contextmanager
def running(server):
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def load(server, *arguments):
    request = {"headers": {}, "body": b64encode(b"any").decode()}
    port = str(server.server_address[1])
    ran = subprocess.run(
        [sys.executable, str(LOAD), port, "/", *arguments],
        input=json.dumps(request).encode(),
        capture_output=True,
        check=True,
        timeout=60,
    )
    return json.loads(ran.stdout)


def test_a_closed_loop_counts_what_is_not_200_apart():
    with running(Server(200, 503, 200, 500)) as server:
        measured = load(server, "1", "0.3")
    assert measured["failures"] == 2
    assert measured["requests"] > 0


def test_an_open_loop_asks_as_often_as_it_was_told_whatever_the_server_does():
    with running(Server(500, stalls_s=STALL_S)) as server:
        measured = load(server, "1", "1", "--open", "100")
    assert (measured["requests"], measured["failures"]) == (99, 1)


def test_an_open_loop_counts_the_wait_of_those_who_could_not_ask():
    with running(Server(stalls_s=STALL_S)) as server:
        measured = load(server, "1", "1", "--open", "100")
    # Sixty were to arrive while it stalled: the median of all hundred waited 100 ms.
    assert measured["p50_ms"] > 50
