"""Answers to orders that take their time: at once, or when they are carried out."""

from collections.abc import Callable

import msgspec
from attrs import evolve

from arena_core.application.ports import EventStore
from arena_core.entrypoints.http.endpoints import Call, Reply
from arena_core.entrypoints.http.fields import Seconds


class Wait(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """`wait`: seconds to hold the answer until nothing is under way any more."""

    wait: Seconds = 0.0


def awaited(call: Call, reply: Reply, settled: Callable[[], Reply | None]) -> Reply:
    """Return `settled`'s reply as soon as there is one, if the caller waits for that.

    Who does not wait has it too, if it is there at once; else `reply`.
    """
    if call.query.wait > 0:
        return evolve(reply, until=settled, wait_s=call.query.wait)
    return settled() or reply


def as_it_grows(
    store: EventStore, settled: Callable[[], Reply | None]
) -> Callable[[], Reply | None]:
    """Return `settled`, which is asked only where the log has grown since.

    For what nothing but the log decides: who waits a minute asks thousands of times.
    """
    seen = -1

    def look() -> Reply | None:
        nonlocal seen
        head = store.head()
        if head == seen:
            return None
        seen = head
        return settled()

    return look
