"""One uvicorn server on a socket that is listening already."""

import contextlib
import socket
import threading
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp

DRAIN_S = 10
BACKLOG = 2048
KEEP_ALIVE_S = 30
"""An environment may take its time between two steps."""


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens at an address; port 0 chooses a free one."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=BACKLOG)


class Server(uvicorn.Server):
    """Serves until it is told to drain; signals are the caller's business."""

    def __init__(self, app: ASGIApp, listener: socket.socket) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                lifespan="off",
                log_level="warning",
                # Each would be paid on every request, and small policies are quick.
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_graceful_shutdown=DRAIN_S,
                timeout_keep_alive=KEEP_ALIVE_S,
            )
        )
        self._listener = listener

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the handlers alone: uvicorn would end the process with -15."""
        yield

    def drain(self) -> None:
        """Take no more connections, answer what is being asked, and return."""
        self.should_exit = True

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        super().run([self._listener] if sockets is None else sockets)

    @contextlib.contextmanager
    def in_background(self) -> Iterator[str]:
        """Serve in a thread; give the URL, and drain at the end."""
        thread = threading.Thread(target=self.run, name="arena-http", daemon=True)
        thread.start()
        host, port = self._listener.getsockname()[:2]
        try:
            yield f"http://{host}:{port}"
        finally:
            self.drain()
            thread.join()
