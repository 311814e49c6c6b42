"""One uvicorn server on a socket that is listening already."""

import contextlib
import gc
import socket
import threading
import time
from collections.abc import Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import uvicorn
from starlette.types import ASGIApp

from arena_core.entrypoints.http.app import App
from arena_core.entrypoints.settings import Tls

if TYPE_CHECKING:
    from arena_core.entrypoints.http.protocol import Protocol

DRAIN_S = 10
BACKLOG = 2048
TICKS_A_SECOND = 10
"""Of uvicorn's main loop."""
KEEP_ALIVE_S = 30
"""An environment may take its time between two steps."""


def listen(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """Return a socket that listens at an address; port 0 chooses a free one.

    `shared`: beside others that listen there, all of them `shared` (SO_REUSEPORT).
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server(
        (host, port), family=family, backlog=BACKLOG, reuse_port=shared
    )


class Server(uvicorn.Server):
    """Serves until it is told to drain; signals are the caller's business.

    Calls to the data plane of an app that `build_app` made do not go through all of it.
    """

    def __init__(
        self, app: ASGIApp, listener: socket.socket, tls: Tls | None = None
    ) -> None:
        self._feed = app.feed if isinstance(app, App) else None
        self._protocol = _protocol(app)
        self._is_frozen = False
        super().__init__(
            uvicorn.Config(
                app,
                http=self._protocol or "auto",
                lifespan="off",
                ws="none",
                log_level="warning",
                log_config=None,  # whoever runs it says where its lines go
                # Each would be paid on every request, and small policies are quick.
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_graceful_shutdown=DRAIN_S,
                timeout_keep_alive=KEEP_ALIVE_S,
                **_tls_options(tls),
            )
        )
        self._listener = listener

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the handlers alone: uvicorn would end the process with -15."""
        yield

    async def on_tick(self, counter: int) -> bool:
        is_over = await super().on_tick(counter)
        if self._protocol is not None and counter % TICKS_A_SECOND == 0:
            self._once_a_second(self._protocol)
        return is_over

    def _once_a_second(self, protocol: "type[Protocol]") -> None:
        headers = self.server_state.default_headers
        protocol.date = b"".join(b"%b: %b\r\n" % header for header in headers)
        now = time.perf_counter()
        for connection in list(self.server_state.connections):
            if isinstance(connection, protocol):
                connection.sweep(now)
        if not self._is_frozen and protocol.plane.is_live():
            # What was imported and loaded stays: to look through all of it for
            # garbage, again and again, is what the slowest answers would wait for.
            self._is_frozen = True
            gc.collect()
            gc.freeze()

    def drain(self) -> None:
        """Take no more connections, answer what is being asked, and return."""
        if self._feed is not None:
            self._feed.end()
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
            yield f"{'https' if self.config.is_ssl else 'http'}://{host}:{port}"
        finally:
            self.drain()
            thread.join()


def _protocol(app: ASGIApp) -> "type[Protocol] | None":
    """Return the quicker protocol; None without the parser that it is made for."""
    if not isinstance(app, App) or find_spec("httptools") is None:
        return None
    from arena_core.entrypoints.http.protocol import protocol_of  # noqa: PLC0415 -- needs that parser

    return protocol_of(app.data_plane, app.hosts)


def _tls_options(tls: Tls | None) -> dict[str, Any]:
    """Return what uvicorn is to be given; the ciphers are those of Python."""
    if tls is None:
        return {}
    return {
        "ssl_certfile": tls.certificate,
        "ssl_keyfile": tls.key,
        "ssl_keyfile_password": tls.password,
        "ssl_ciphers": None,
    }
