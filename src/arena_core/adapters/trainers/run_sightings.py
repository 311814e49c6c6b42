"""How a run stands, by what is recorded in its folder and by whether it is watched."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from arena_core.adapters.trainers import run_records
from arena_core.adapters.trainers.endings import DAMAGED, LOST, NEVER_STARTED, Ending
from arena_core.application.trainer import RunState, Sighting

_ABSENT = Sighting(RunState.ABSENT)


def sighting_of(folder: Path) -> Sighting:
    """Return how the run in `folder` stands."""
    try:
        return _recorded(folder)
    except run_records.Damaged:
        if not run_records.is_held(folder):
            return DAMAGED
        (folder / run_records.KILL).touch()
        return Sighting(RunState.RUNNING)


def was_begun(folder: Path) -> bool:
    """Say whether it was started, or decided that it never is."""
    return (folder / run_records.STARTED).exists()


def leader_of(folder: Path) -> tuple[int, int] | None:
    """Return the pid and the start of the training; None if they are not known."""
    try:
        record = run_records.read(folder / run_records.PROCESS) or {}
    except run_records.Damaged:
        return None
    pid, started = record.get("pid"), record.get("started")
    if not isinstance(pid, int) or not isinstance(started, int):
        return None
    return pid, started


def _recorded(folder: Path) -> Sighting:
    started = run_records.read(folder / run_records.STARTED)
    if started is None:
        return _ABSENT
    if run_records.NEVER in started:
        return NEVER_STARTED.sighting()
    at = _moment(started)
    # The lock is asked before the record is read: it is let go of after it was written.
    is_held = run_records.is_held(folder)
    ending = run_records.read(folder / run_records.EXIT)
    if ending is not None:
        return _ending(ending).sighting(at)
    return Sighting(RunState.RUNNING, at) if is_held else LOST


def _moment(started: Mapping[str, Any]) -> datetime:
    try:
        return datetime.fromtimestamp(started["at"], UTC)
    except (KeyError, TypeError, ValueError, OverflowError, OSError) as error:
        raise run_records.Damaged(run_records.STARTED) from error


def _ending(record: Mapping[str, Any]) -> Ending:
    code, number, reason = map(record.get, ("code", "signal", "reason"))
    are_numbers = all(isinstance(n, int | None) for n in (code, number))
    if not are_numbers or not isinstance(reason, str | None):
        raise run_records.Damaged(run_records.EXIT)
    return Ending(code, number, reason, record.get("stopped") is True)
