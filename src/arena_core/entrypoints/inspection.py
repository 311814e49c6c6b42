"""Whether weights can be loaded, found out before they are kept.

Loading may take any time and memory: a few kilobytes can ask for a multiplication of
huge constants.  A server therefore tries it in a confined process, whose end does no
harm; what has loaded there within the limits will load in the server too.
"""

import threading
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from attrs import field, frozen

from arena_core.adapters.confined import processes
from arena_core.adapters.confined.confinement import Limits
from arena_core.adapters.confined.messages import Ended, Failed
from arena_core.application import bundles
from arena_core.application.loading import Runtimes, assemble
from arena_core.application.pace import try_once
from arena_core.application.ports import Device
from arena_core.domain.checkpoint import Manifest
from arena_core.domain.errors import Rejected, Unavailable
from arena_core.domain.ids import Digest

NOBODY = Digest("00" * 32)
"""The digest of a checkpoint that is only looked at."""
LIMITS = Limits(wall_s=60, cpu_s=60)
MOST_AT_ONCE = 2
PATIENCE_S = 10.0
"""How long an upload waits for its turn."""


def inspect(runtimes: Runtimes, bundle: Path, manifest: Manifest) -> None:
    """Load the weights in this process, as the port `Inspection` says."""
    read = partial(bundles.weights, bundle)
    assemble(runtimes, manifest, NOBODY, read, try_once).close()


@frozen
class InspectionApart:
    """Loads weights in a confined process, as the port `Inspection` says.

    A few at once: whoever sends many heavy models waits for himself.
    """

    scratch: Path | None = None
    """Where that process has its folder; what a crash leaves there is swept."""
    limits: Limits = LIMITS
    _slots: threading.BoundedSemaphore = field(
        factory=partial(threading.BoundedSemaphore, MOST_AT_ONCE)
    )

    def __call__(self, bundle: Path, manifest: Manifest) -> None:
        del manifest  # the other process reads it for itself
        if not self._slots.acquire(timeout=PATIENCE_S):
            raise Unavailable("Other weights are being looked at: try again.")
        try:
            with TemporaryDirectory(prefix="inspect-", dir=self.scratch) as folder:
                self._load(bundle.resolve(), Path(folder))
        finally:
            self._slots.release()

    def _load(self, bundle: Path, folder: Path) -> None:
        task = processes.Task(
            "arena_core.entrypoints.inspection:load",
            {"bundle": str(bundle)},
            folder,
            readable=[bundle],
        )
        try:
            processes.run(task, self.limits, lambda _: None)
        except Failed as error:
            raise Rejected(
                "The weights could not be loaded: check them where they were exported.",
                field="weights",
            ) from error
        except Ended as error:
            raise Rejected(
                f"To load the weights {error}: export a smaller model.",
                field="weights",
            ) from error


def load(arguments: Mapping[str, Any], report: Callable[[str], None]) -> None:
    """Load the bundle that `arguments` name.  Called in the confined process."""
    from arena_core.entrypoints.runtimes import runtimes_of  # noqa: PLC0415 -- the parent has its own

    report("loading the weights")
    bundle = Path(arguments["bundle"])
    inspect(runtimes_of(Device.CPU), bundle, bundles.check(bundle))
