"""The library's experiments: importing that waits until there is a checkpoint."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

from attrs import frozen

from arena_core.application.conversion import Format
from arena_core.application.experiments import Experiments
from arena_core.application.imports import Imports, ordered
from arena_core.application.resources import CheckpointView, ImportView
from arena_core.domain.checkpoint_import import Status
from arena_core.domain.errors import Conflict, NotFound, Rejected, Unavailable

IMPORT_TIMEOUT_S = 600.0


def untold(what: str) -> None:
    """Tell nobody what is being done."""
    del what


@frozen
class LibraryExperiments(Experiments):
    """Experiments, with an `import_checkpoint` that waits."""

    imports: Imports

    def import_checkpoint(  # noqa: PLR0913 -- what is known of a foreign file
        self,
        experiment_id: UUID,
        path: Path | str,
        *,
        format: Format | str,  # noqa: A002 -- the field's word
        step: int,
        spaces: Mapping[str, Any] | Path | str | None = None,
        statistics: Path | str | None = None,
        golden: Path | str | None = None,
        algorithm: str | None = None,
        channels_last: bool = False,
        score: float | None = None,
        fitness: float | None = None,
        progress: Callable[[str], None] = untold,
        timeout_s: float = IMPORT_TIMEOUT_S,
    ) -> CheckpointView:
        """Make a checkpoint of what other training code has saved, and return it.

        `format` is that of the file at `path`: `sb3`, `agilerl`, `torch` or
        `onnx`.  `spaces`, `statistics` and `golden` say what it cannot say itself;
        see `Imports.request`.  `progress` is told what is being done.  Raises
        `Rejected` with the reason if it cannot be converted, and `Unavailable` if
        nobody has converted it in time.
        """
        order = ordered(
            format=format,
            step=step,
            algorithm=algorithm,
            channels_last=channels_last,
            score=score,
            fitness=fitness,
        )
        asked = self.imports.request(
            experiment_id,
            path,
            order,
            spaces=spaces,
            statistics=statistics,
            golden=golden,
        )
        ended = self.imports.wait(asked.id, timeout_s=timeout_s, progress=progress)
        return self._outcome(ended)

    def _outcome(self, ended: ImportView) -> CheckpointView:
        match ended.status:
            case Status.SUCCEEDED:
                return self._made(ended)
            case Status.FAILED:
                raise Rejected(str(ended.reason), field="path")
            case Status.CANCELLED:
                raise Conflict("The import was cancelled.")
            case _:
                raise Unavailable(
                    f"The import is {ended.status.value} still: wait longer, and see "
                    "that some process serves this store."
                )

    def _made(self, ended: ImportView) -> CheckpointView:
        for checkpoint in self.checkpoints(ended.experiment_id):
            if checkpoint.digest == ended.digest and checkpoint.step == ended.step:
                return checkpoint
        raise NotFound("The checkpoint was deleted as soon as it was there.")
