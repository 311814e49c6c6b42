"""Use cases of imports: checkpoints of what other training code has saved."""

from collections.abc import Callable, Mapping
from operator import index
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
from attrs import field, frozen

from arena_core.application import metric_points, orders
from arena_core.application.conversion import (
    MODEL_FILE,
    SPACES_FILE,
    STATISTICS_FILE,
    TRACE_FILE,
    Format,
)
from arena_core.application.handling import Change
from arena_core.application.ports import Row
from arena_core.application.progress import Doing, Progress
from arena_core.application.resources import ImportView, import_view
from arena_core.application.session import ALL, Page, Paging, Session, page
from arena_core.application.waiting import awaited
from arena_core.domain import checkpoint_import, experiment
from arena_core.domain.checkpoint_import import OPEN, Files, Order
from arena_core.domain.errors import Conflict, Rejected
from arena_core.domain.ids import ExperimentId, ImportId
from arena_core.domain.values import Scores, one_of

MOST_OPEN = 100
"""How many imports of one organisation may wait or run at a time, about."""
LOOK_AGAIN_S = 0.1
"""How often one who waits looks at what is being done: the log does not tell it."""


def _untold(what: str) -> None:
    del what


def has_ended(found: ImportView) -> bool:
    """Say whether nothing will happen to the import any more."""
    return found.status not in OPEN


def ordered(  # noqa: PLR0913 -- what can be declared
    *,
    format: Format | str,  # noqa: A002 -- the field's word
    step: int,
    algorithm: str | None = None,
    channels_last: bool = False,
    score: float | None = None,
    fitness: float | None = None,
) -> Order:
    """Return what is ordered.  Raises `Rejected` if it cannot be."""
    metric_points.check_step(step)
    metric_points.check_scores(score, fitness)
    declared = one_of(Format, format, field="format").value
    scores = Scores(score, fitness)
    return Order(declared, index(step), algorithm, channels_last, scores)


@frozen
class Imports:
    session: Session
    progress: Progress = field(repr=False)

    def request(  # noqa: PLR0913 -- what is known of what is to be converted
        self,
        experiment_id: UUID,
        path: Path | str,
        order: Order,
        *,
        spaces: Mapping[str, Any] | Path | str | None = None,
        statistics: Path | str | None = None,
        golden: Path | str | None = None,
    ) -> ImportView:
        """Ask for a checkpoint to be made of what other training code has saved.

        `path` is its file, beside which the others may be given: `spaces`, what the
        file cannot say itself, as JSON or a mapping; `statistics`, running means and
        variances; `golden`, a recorded trace.  Or it is a folder in which all of
        them lie under the names of an order, `model` and so on.

        Returns at once: whatever process serves this store does the rest.  The files
        are durable before the event that names them.  Raises `NotFound`, `Conflict`
        if too many have not ended yet, or `Rejected` for files that are no order;
        nothing of them is opened.
        """
        self.session.find(experiment.KIND, experiment_id)
        self._check_open()
        beside = {
            SPACES_FILE: _json(spaces),
            STATISTICS_FILE: _path(statistics),
            TRACE_FILE: _path(golden),
        }
        given = {name: file for name, file in beside.items() if file is not None}
        files = self._kept(Path(path), given)
        import_id = ImportId(self.session.core.new_id())
        command = checkpoint_import.RequestImport(
            import_id, ExperimentId(experiment_id), files, order
        )
        self.session.execute(Change(checkpoint_import, import_id, command))
        return self.get(import_id)

    def get(self, import_id: UUID) -> ImportView:
        """Return the import.  Raises `NotFound`."""
        return self._view(self.session.find(checkpoint_import.KIND, import_id))

    def list(self, experiment_id: UUID, *, paging: Paging = ALL) -> Page[ImportView]:
        """Return the experiment's imports, oldest first."""
        self.session.find(experiment.KIND, experiment_id)
        rows = self.session.query(
            checkpoint_import.KIND, parent=experiment_id, paging=paging
        )
        return page(rows, self._view, paging)

    def cancel(self, import_id: UUID, *, reason: str | None = None) -> ImportView:
        """Ask for nothing to come of it.  Raises `Conflict` if something has."""
        self.session.find(checkpoint_import.KIND, import_id)
        command = checkpoint_import.CancelImport()
        change = Change(checkpoint_import, import_id, command)
        self.session.execute(change, reason=reason)
        return self.get(import_id)

    def wait(
        self,
        import_id: UUID,
        *,
        timeout_s: float,
        progress: Callable[[str], None] = _untold,
    ) -> ImportView:
        """Return the import once it has ended, or as it is after the time.

        `progress` is told what is being done, in a few words, whenever that changes.
        """
        told: Doing | None = None

        def ended() -> ImportView | None:
            nonlocal told
            found = self.get(import_id)
            if found.doing not in (None, told):
                told = found.doing
                progress(told.what)
            return found if has_ended(found) else None

        store = self.session.core.store
        found = awaited(store, ended, timeout_s, look_again_s=LOOK_AGAIN_S)
        return found or self.get(import_id)

    def _check_open(self) -> None:
        rows = self.session.query(checkpoint_import.KIND)
        if sum(row.state.status in OPEN for row in rows) >= MOST_OPEN:
            raise Conflict(
                f"{MOST_OPEN} imports have not ended yet: wait for one of them, or "
                "cancel it."
            )

    def _kept(self, path: Path, beside: Mapping[str, Path | bytes]) -> Files:
        """Put what was handed in into the blob store."""
        if not path.is_dir():
            with orders.scratch(self.session.core) as folder:
                orders.lay_out(folder / "order", {MODEL_FILE: path, **beside})
                return self._keep(folder / "order")
        if beside:
            raise Rejected(
                f"The files beside {MODEL_FILE} lie in its folder or are named here, "
                "not both: put them into the folder.",
                field=next(iter(beside)),
            )
        return self._keep(path)

    def _keep(self, folder: Path) -> Files:
        orders.check(folder)
        blobs = self.session.core.blobs
        digest = blobs.put(folder)
        return Files(digest, sum(blobs.sizes(digest).values()))

    def _view(self, row: Row) -> ImportView:
        now = self.session.as_of is None
        return import_view(row, self.progress.of(row.state.id) if now else None)


def _json(spaces: Mapping[str, Any] | Path | str | None) -> Path | bytes | None:
    if not isinstance(spaces, Mapping):
        return _path(spaces)
    try:
        return msgspec.json.encode(spaces)
    except (TypeError, ValueError, OverflowError) as error:
        raise Rejected(
            "The spaces hold what JSON cannot: use texts, numbers, lists and objects.",
            field="spaces",
        ) from error


def _path(path: Path | str | None) -> Path | None:
    return None if path is None else Path(path)
