"""Reading what callers send: bounded before it is parsed, and parsed by type."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar, get_origin
from urllib.parse import parse_qsl

import msgspec
from attrs import define
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message, Receive

from arena_core.application import strict_json
from arena_core.application.choices import choices
from arena_core.application.decoding import convert
from arena_core.domain.errors import (
    Rejected,
    StorageFull,
    TooLarge,
    TooSlow,
    UnsupportedMediaType,
)
from arena_core.domain.values import shown
from arena_core.entrypoints.library import Arena

MOST_ITEMS = 1000
MOST_FIELDS = 100
"""Of a form."""
MOST_LEVELS = 64
"""How deep what callers send may be nested."""
MOST_PARTS = 1_000_000
"""Of JSON: its values and keys, about.  Each is many times larger once decoded."""
SLOW = "The body took too long to come: send it at once."
NOT_KEPT = "The upload could not be kept: see that the server's disk has space."
LEAST_BYTES_PER_S = 500
"""How fast a body must come: each byte earns its caller some more time."""
_JSON_TYPES = ("application/json", "text/json", "application/octet-stream")
"""Octets are what they are; whoever sends a form, or text, has meant something else."""
_LONGEST_PROBLEM = 300
_GZIP = b"\x1f\x8b"
_INDEX = re.compile(r"\[(\d+)\]")
S = TypeVar("S", bound=msgspec.Struct)


def parse_query(request: Request, kind: type[S]) -> S:
    """Return the query string as a `kind`.  Raises `Rejected`, naming the parameter."""
    params, several = request.query_params, _several(kind)
    given: dict[str, str | list[str]] = dict(params)
    once = [name for name, _ in params.multi_items() if name not in several]
    if len(once) > len(set(once)):
        raise Rejected("A query parameter is given more than once.", field="query")
    given |= {name: params.getlist(name) for name in several & given.keys()}
    return _converted(given, kind, strict=False)


@cache
def _several(kind: type[msgspec.Struct]) -> frozenset[str]:
    """Return the parameters that may be given more than once."""
    fields = msgspec.structs.fields(kind)
    return frozenset(f.encode_name for f in fields if get_origin(f.type) is list)


async def parse_body(
    request: Request, kind: type[S], *, limit_bytes: int, timeout_s: float
) -> S:
    """Return the JSON body as a `kind`; no body counts as an empty object.

    Raises `UnsupportedMediaType` for a body that says that it is something else.
    """
    announced = request.headers.get("content-length")
    body = await read(
        request.receive, announced, limit_bytes=limit_bytes, timeout_s=timeout_s
    )
    if body:
        _check_encoding(request.headers.get("content-encoding"))
        _check_media_type(request.headers.get("content-type"))
    if sum(map(body.count, (b",", b"[", b"{"))) > MOST_PARTS:
        raise TooLarge(f"The body has more than {MOST_PARTS} parts: send less.")
    try:
        parsed = strict_json.decode(body or b"{}", most_levels=MOST_LEVELS)
    except Rejected as error:
        raise Rejected(f"The body cannot be read. {error}", field="body") from error
    return _converted(parsed, kind, strict=True)


def _check_encoding(content_encoding: str | None) -> None:
    encoding = (content_encoding or "identity").strip().lower()
    if encoding != "identity":
        raise UnsupportedMediaType(
            f"The body is encoded as {shown(encoding)}, and is not read so: send it "
            "as it is, without a Content-Encoding.",
            field="Content-Encoding",
        )


def _check_media_type(content_type: str | None) -> None:
    essence = (content_type or "").partition(";")[0].strip().lower()
    if essence and not (essence in _JSON_TYPES or essence.endswith("+json")):
        raise UnsupportedMediaType(
            f"The body is said to be {shown(essence)}, and no file or form is taken "
            "here: send JSON, with the Content-Type application/json.",
            field="Content-Type",
        )


async def parse_form(
    request: Request, kind: type[S], *, limit_bytes: int, timeout_s: float
) -> S:
    """Return the body, a form, as a `kind`; of a field given twice the last counts."""
    announced = request.headers.get("content-length")
    body = await read(
        request.receive, announced, limit_bytes=limit_bytes, timeout_s=timeout_s
    )
    try:
        fields = parse_qsl(
            body.decode(),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=MOST_FIELDS,
        )
    except ValueError as error:
        raise Rejected(
            "The body cannot be read: send a form in UTF-8.", field="body"
        ) from error
    return _converted(dict(fields), kind, strict=False)


async def read(
    receive: Receive, content_length: str | None, *, limit_bytes: int, timeout_s: float
) -> bytes:
    """Return the whole body.  Raises `TooLarge` before, or as soon as, it is.

    Raises `TooSlow` if the next part does not come in time, and `ClientDisconnect` if
    the caller leaves before it is complete.
    """
    check_announced(content_length, limit_bytes)
    whole = bytearray()  # a list of chunks of few bytes each would be far larger
    parts = _Parts(receive, limit_bytes, timeout_s)
    while True:
        chunk = await parts.next()
        if parts.is_over and not whole:
            return chunk
        whole += chunk
        if parts.is_over:
            return bytes(whole)


TIMERS = 1000
"""Each part takes one, and a body may come in hundreds of thousands of parts."""


@define
class _Parts:
    """The parts of a body, as they come."""

    _receive: Receive
    _limit_bytes: int
    _timeout_s: float
    is_over: bool = False
    _size: int = 0
    _waited_s: float = 0.0
    _timers: int = 0

    async def next(self) -> bytes:
        message = await self._message()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk: bytes = message.get("body", b"")
        self.is_over = not message.get("more_body", False)
        self._size += len(chunk)
        if self._size > self._limit_bytes:
            raise too_large(self._limit_bytes)
        return chunk

    async def _message(self) -> Message:
        """Return what comes next; what takes its time must have come fast enough.

        Only the time counts that is spent waiting for the caller.
        """
        earned_s = self._timeout_s + self._size / LEAST_BYTES_PER_S
        begun_s = time.perf_counter()
        self._timers += 1
        if self._timers % TIMERS == 0:
            await asyncio.sleep(0)  # where the loop forgets the timers that are over
        try:
            # Of asyncio, for anyio's takes several times as long.
            async with asyncio.timeout(min(self._timeout_s, earned_s - self._waited_s)):
                return await self._receive()
        except TimeoutError as error:
            raise TooSlow(SLOW) from error
        finally:
            self._waited_s += time.perf_counter() - begun_s


@asynccontextmanager
async def uploaded(
    request: Request, arena: Arena, single: str | None
) -> AsyncIterator[Path]:
    """Stream a tar archive to disk and give the folder that it was unpacked in.

    `single`: how a file that is no archive is called in the folder; None: it must be
    one.  The folder is gone afterwards, whatever happens.
    """
    limit_bytes = arena.settings.max_upload_bytes
    check_announced(request.headers.get("content-length"), limit_bytes)
    scratch = await run_in_threadpool(_scratch, arena)
    try:
        path = Path(scratch.name) / "upload"
        parts = _Parts(request.receive, limit_bytes, arena.settings.body_timeout_s)
        await _stream_to(path, parts)
        folder = Path(scratch.name) / "files"
        await run_in_threadpool(_lay_out, arena, path, folder, single)
        yield folder
    finally:
        await run_in_threadpool(scratch.cleanup)


def _scratch(arena: Arena) -> "TemporaryDirectory[str]":
    try:
        return arena.scratch()
    except OSError as error:
        raise StorageFull(NOT_KEPT) from error


def _lay_out(arena: Arena, path: Path, folder: Path, single: str | None) -> None:
    if single is None or _is_archive(path):
        arena.unpack(path, folder)
        return
    try:
        folder.mkdir(mode=0o700)
        path.rename(folder / single)
    except OSError as error:
        raise StorageFull(NOT_KEPT) from error


def _is_archive(path: Path) -> bool:
    """Say whether it is a tar archive, plain (POSIX, GNU) or in gzip."""
    with path.open("rb") as file:
        head = file.read(512)
    return head.startswith(_GZIP) or head[257:262] == b"ustar"


async def _stream_to(path: Path, parts: _Parts) -> None:
    try:
        with path.open("wb") as file:
            while not parts.is_over:
                await run_in_threadpool(file.write, await parts.next())
    except OSError as error:
        raise StorageFull(NOT_KEPT) from error


def check_announced(content_length: str | None, limit_bytes: int) -> None:
    """Raise `TooLarge` if the body is said to be larger than the limit."""
    if (
        content_length is not None
        and content_length.isascii()
        and content_length.isdigit()
        and int(content_length[:20]) > limit_bytes
    ):
        raise too_large(limit_bytes)


def too_large(limit_bytes: int) -> TooLarge:
    return TooLarge(f"The body is larger than {limit_bytes} bytes: send less.")


def _converted(given: object, kind: type[S], *, strict: bool) -> S:
    try:
        return convert(given, kind, strict=strict)
    except msgspec.ValidationError as error:
        text, _, where = str(error).partition(" - at ")
        field = _field(text, where)
        told = _sentence(text, field, choices(kind, field))
        raise Rejected(told, field=field) from error


def _sentence(text: str, field: str, known: Sequence[str]) -> str:
    """Return what msgspec complains of as a sentence with its remedy."""
    named = shown(_named(text))
    if text.startswith("Object contains unknown field"):
        return f"The field {named} is not known: leave it out."
    if text.startswith("Object missing required field"):
        return f"The field {named} is missing: give it."
    where = "body" if field == "body" else f"field {shown(field)}"
    if text == "Invalid UUID":
        return f"The {where} is no id: give a UUID."
    if text.startswith("Invalid enum value") and known:
        return f"The {where} is wrong: {_plain(text)}: use one of {', '.join(known)}."
    return f"The {where} is wrong: {_plain(text)}."


def _field(text: str, where: str) -> str:
    """Return the name of the field that msgspec complains of."""
    path = _INDEX.sub(r".\1", where.strip("`")).removeprefix("$").lstrip(".")
    return _plain(".".join(part for part in (path, _named(text)) if part)) or "body"


def _named(text: str) -> str:
    return text.split("`")[1] if "field `" in text else ""


def _plain(text: str) -> str:
    return text.replace("`", "")[:_LONGEST_PROBLEM]
