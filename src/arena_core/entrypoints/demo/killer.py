"""A training that is killed on the way, for the demo to go on from what it left."""

import os
import signal
from uuid import UUID

from attrs import define

from arena_core.adapters.trainers import process_tree, run_records
from arena_core.application.pipeline_views import PipelineView
from arena_core.entrypoints.library import Arena
from arena_core.entrypoints.settings import Settings


@define
class Killer:
    """Kills a training with SIGKILL, as a machine without memory does.

    Once: as soon as it has left a checkpoint to go on from.
    """

    arena: Arena
    settings: Settings
    experiment_id: UUID
    after: int
    """The step at which it writes its first checkpoint."""
    has_killed: bool = False

    def look(self, pipeline: PipelineView) -> None:
        del pipeline
        training = self.arena.experiments.get(self.experiment_id).training
        # What comes behind a checkpoint is only told once that has been written.
        if training and (training.step or 0) > self.after:
            self._kill(training.run_id)

    def _kill(self, run_id: UUID) -> None:
        folder = self.settings.runs_folder
        record = folder and run_records.read(folder / str(run_id) / run_records.PROCESS)
        if self.has_killed or not record:
            return
        found = process_tree.process(record["pid"])
        # The number alone may be that of another process by now.
        if found is not None and found.started == record["started"]:
            os.kill(record["pid"], signal.SIGKILL)
            self.has_killed = True
