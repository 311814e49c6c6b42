"""Which environments Gymnasium knows, asked in a process of its own.

Importing it imports whatever else is installed and calls itself a plugin of it: that
is for a training to do, and not for the server.
"""

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from difflib import get_close_matches
from typing import TypeAlias

from arena_core.adapters.trainers.programs import Limits, Program, environment
from arena_core.domain.errors import Rejected
from arena_core.domain.values import shown

PATIENCE_S = 5.0
"""Pipelines wait for it too; what it does not say, a training finds out."""
AGAIN_S = 10.0
"""So long it is not asked again: what is unknown may be installed meanwhile."""
_PROGRAM = "import gymnasium\nprint(*gymnasium.registry, sep='\\n')"
_ARGV = (sys.executable, "-P", "-c", _PROGRAM)
Ask: TypeAlias = Callable[[], frozenset[str]]


def ask() -> frozenset[str]:
    """Return the names that it knows; none if it does not say."""
    try:
        told = subprocess.run(  # noqa: S603 -- our own interpreter
            _ARGV,
            check=True,
            capture_output=True,
            env=environment(Program(_ARGV), {}, Limits()),
            text=True,
            timeout=PATIENCE_S,
        )
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return frozenset()
    return frozenset(told.stdout.splitlines())


class KnownEnvironments:
    """Safe to use from several threads."""

    def __init__(
        self, ask: Ask = ask, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._ask = ask
        self._monotonic = monotonic
        self._known: frozenset[str] = frozenset()
        self._asked_at = -AGAIN_S
        self._lock = threading.Lock()

    def check(self, name: str) -> None:
        """Raise `Rejected` for an environment that Gymnasium does not know."""
        if ":" in name or self._is_known(name):
            return  # one that is named with its module is for the training to find
        with self._lock:
            if self._monotonic() - self._asked_at >= AGAIN_S:
                # Who does not say has not forgotten what it said before.
                self._known = self._ask() or self._known
                self._asked_at = self._monotonic()
        if not self._known or self._is_known(name):
            return
        near = get_close_matches(name, sorted(self._known), n=1)
        meant = f" Did you mean {near[0]}?" if near else ""
        raise Rejected(
            f"Gymnasium knows no environment {shown(name)} here: name another one, or "
            f"install what brings it.{meant}",
            field="source.name",
        )

    def _is_known(self, name: str) -> bool:
        """Say whether it is there: without a version, whether any version is."""
        return name in self._known or any(
            known.rpartition("-v")[0] == name for known in self._known
        )
