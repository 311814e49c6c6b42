"""The limit that the data plane is held against: a bare Starlette echo under uvicorn.

python bench/echo.py PORT
"""

import socket
import sys

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

PATIENCE_S = 60
"""A connection may rest for so long: until it is the echo's turn again."""


async def echo(request: Request) -> Response:
    return Response(await request.body(), media_type="application/json")


def main() -> None:
    listener = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=2048)
    app = Starlette(routes=[Route("/echo", echo, methods=["POST"])])
    config = uvicorn.Config(
        app,
        lifespan="off",
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=PATIENCE_S,
    )
    uvicorn.Server(config).run([listener])


if __name__ == "__main__":
    main()
