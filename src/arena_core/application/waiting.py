"""Waiting until the log says that something has come to rest."""

import time
from collections.abc import Callable
from typing import TypeVar

from arena_core.application.ports import EventStore

LOOK_AGAIN_S = 1.0
T = TypeVar("T")


def awaited(
    store: EventStore,
    look: Callable[[], T | None],
    timeout_s: float,
    *,
    look_again_s: float = LOOK_AGAIN_S,
) -> T | None:
    """Return what `look` finds, as soon as it does; None: not in that time.

    It is called at once, whenever something has happened, and every so often, for not
    all that settles something is in the log.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        seen = store.head()
        found = look()
        left_s = deadline - time.monotonic()
        if found is not None or left_s <= 0:
            return found
        store.head(beyond=seen, timeout_s=min(left_s, look_again_s))
