"""Trainings that are any program, and what is left of them on this machine."""

import os
import signal
from pathlib import Path

from arena_core.adapters.trainers.process import Limits, ProcessTrainer, Program

from contract.trainer import an_order, until

ZOMBIE = "Z"


def shell(folder, **limits):
    """Return a trainer of shell scripts, which are what an order names as `sh`."""
    more = {k: limits.pop(k) for k in ("ends_with_us",) if k in limits}
    return ProcessTrainer(
        folder,
        lambda order: Program(["/bin/sh", "-c", order.config["sh"]]),
        Limits(**{"grace_s": 0.5, "wall_s": 120.0, **limits}),
        **more,
    )


def a_script(text, **more):
    return an_order("of a shell", sh=text, **more)


def left(word):
    """Return the pids of processes that have `word` in their arguments or variables."""
    found = []
    for place in Path("/proc").iterdir():
        if place.name.isdecimal() and int(place.name) != os.getpid():
            try:
                told = (place / "cmdline").read_bytes() + (
                    place / "environ"
                ).read_bytes()
            except OSError:
                continue
            if str(word).encode() in told:
                found.append(int(place.name))
    return found


def nothing_left(word):
    """Wait for the shim itself to be gone, which ends right after it has said so."""
    until(lambda: not left(word))


def zombies():
    """Return the pids of our children that have ended, and that nobody asked about."""
    found = []
    for place in Path("/proc").iterdir():
        if place.name.isdecimal():
            try:
                text = (place / "stat").read_text()
            except OSError:
                continue
            state, parent = text.rpartition(")")[2].split()[:2]
            if state == ZOMBIE and int(parent) == os.getpid():
                found.append(int(place.name))
    return found


def kill(pid):
    os.kill(pid, signal.SIGKILL)
