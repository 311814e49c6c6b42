"""/device: the page on which a person approves a sign-in, or denies it.

It asks for a personal token each time and keeps nothing, so there is no session that
another site could ride on.  Its policy lets it load and call nothing but this server.
"""

from collections.abc import Callable
from functools import cache
from importlib.resources import files

import msgspec

from arena_core.entrypoints.http.endpoints import PUBLIC, Call, Endpoint, Reply

PATH = "/device"
HTML = "text/html; charset=utf-8"
CSS = "text/css; charset=utf-8"
JAVASCRIPT = "text/javascript; charset=utf-8"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'"
)
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Opened(msgspec.Struct):
    """How the page is opened: the script reads the code, the server has no use for it.

    Whatever else stands in the address does no harm.
    """

    user_code: str = ""


def _file(name: str, media_type: str) -> Callable[[Call], Reply]:
    def show(call: Call) -> Reply:
        del call
        return Reply(_content(name), media_type=media_type, headers=HEADERS)

    return show


@cache
def _content(name: str) -> bytes:
    return files(__package__).joinpath("page", name).read_bytes()


ENDPOINTS = (
    Endpoint(
        "GET",
        PATH,
        _file("device.html", HTML),
        PUBLIC,
        "The page on which a person approves a sign-in",
        str,
        query=Opened,
        media_types=(HTML,),
    ),
    Endpoint(
        "GET",
        PATH + "/page.css",
        _file("device.css", CSS),
        PUBLIC,
        "How that page looks",
        str,
        media_types=(CSS,),
    ),
    Endpoint(
        "GET",
        PATH + "/page.js",
        _file("device.js", JAVASCRIPT),
        PUBLIC,
        "What that page does",
        str,
        media_types=(JAVASCRIPT,),
    ),
)
