"""When a training has logged how much: moments, from which its speed can be told.

What is written within a second counts as one moment, the first of them, for some
programs write much at once, and then nothing for long.  The clock is one that nobody
sets.  It needs the standard library only, for the shim uses it.
"""

import json
import stat
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

KEPT = 120
"""Moments, the latest: the speed of an hour ago says nothing of the next."""
MOMENT_S = 1.0
_DIGITS = 3


class Moments:
    """Of one file that grows; what is known is kept beside the run."""

    def __init__(
        self, grows: Path, place: Path, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """`place`: where to keep it."""
        self._grows, self._place = grows, place
        self._monotonic = monotonic
        self._known: deque[tuple[float, int]] = deque(maxlen=KEPT)
        self._begun_at: float | None = None
        self._bytes = 0

    def look(self) -> None:
        """Take note of what was written since.  Cheap, and to be called often."""
        now = self._monotonic()
        if self._begun_at is not None and now - self._begun_at >= MOMENT_S:
            self._known.append((round(self._begun_at, _DIGITS), self._bytes))
            self._begun_at = None
            with suppress(OSError):  # without it, the speed is not told
                self._keep()
        size = _size(self._grows)
        if size > self._bytes and self._begun_at is None:
            self._begun_at = now
        self._bytes = size

    def _keep(self) -> None:
        """Put it in the place of what was kept before.  It need not survive a crash."""
        new = self._place.with_name(f".{self._place.name}")
        new.write_text(json.dumps(list(self._known)))
        new.replace(self._place)


def _size(path: Path) -> int:
    try:
        found = path.lstat()
    except OSError:
        return 0
    return found.st_size if stat.S_ISREG(found.st_mode) else 0
