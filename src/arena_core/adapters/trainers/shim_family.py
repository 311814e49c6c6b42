"""Which processes a training has begun, written down for when the shim is killed.

Who has left both the session of the training and its environment behind can be told
from others only while the shim is above it.  It needs the standard library only.
"""

import json
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from arena_core.adapters.trainers import process_tree, run_records
from arena_core.adapters.trainers.process_tree import Process

LOOK_S = 0.5
MOST = 1000
"""Are written down, of those who fork without an end."""


class Family:
    """All below this process.  What is not known of them yet is looked for at times."""

    def __init__(self, folder: Path) -> None:
        self._place = folder / run_records.FAMILY
        self._known: set[tuple[int, int]] = set()
        self._look_at = 0.0

    def look(self) -> None:
        """Write down who is there, if somebody is new and it is time to look."""
        if time.monotonic() < self._look_at:
            return
        self._look_at = time.monotonic() + LOOK_S
        found = process_tree.below(os.getpid())
        members = {(p.pid, p.started) for p in found[:MOST]}
        if not members <= self._known:
            self._write(members)

    def _write(self, members: set[tuple[int, int]]) -> None:
        record = {"boot": process_tree.boot_id(), "members": sorted(members)}
        new = self._place.with_name(f".{self._place.name}")
        # Nobody waits for the disk: after a power cut there is nobody to end.
        with suppress(OSError):
            new.write_text(json.dumps(record))
            new.replace(self._place)
            self._known = members


def remembered(folder: Path) -> Sequence[Process]:
    """Return those of a run whose shim is gone who are alive, with all below them."""
    try:
        record = run_records.read(folder / run_records.FAMILY) or {}
        if record.get("boot") != process_tree.boot_id():
            return []
        members = [(int(pid), int(started)) for pid, started in record["members"]]
    except (run_records.Damaged, KeyError, TypeError, ValueError, OverflowError):
        return []
    return [
        each
        for pid, started in members
        if (found := process_tree.process(pid)) and found.started == started
        for each in (found, *process_tree.below(pid))
        if each.is_alive
    ]
