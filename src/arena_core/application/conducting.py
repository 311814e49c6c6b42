"""Conducting one training: it is started, listened to and ended as the log says.

What it says is recorded before it is acknowledged, and recording it again changes
nothing; the end is recorded last.  So a conductor may die at any moment, and whoever
takes the training on does the rest.  All is recorded under a claim: who has lost it
comes too late.
"""

from collections.abc import Sequence

from attrs import define, evolve, field

from arena_core.application.handling import Change
from arena_core.application.keeping import keep_trained
from arena_core.application.log_excerpt import with_end_of_log
from arena_core.application.ports import Context, Measured, MetricPoint, Row
from arena_core.application.session import Core
from arena_core.application.trainer import Found, RunState, Sighting
from arena_core.application.training_orders import (
    bundles_of,
    laying_out,
    order_of,
    resumable_of,
)
from arena_core.application.trust import REFUSAL, may_begin
from arena_core.domain import experiment
from arena_core.domain.course import Origin, Source
from arena_core.domain.errors import Corrupt, NotFound, Rejected
from arena_core.domain.experiment import Experiment, Status, Training
from arena_core.domain.ids import RunId
from arena_core.domain.values import Claim, system

LINES = 50
"""Of the log, looked at for the end of it that says something."""
MOST_PARTS = 100
"""Of the news of one training at one time, so that others are listened to as well."""
VANISHED = (
    "Nothing is left of the training: the folder of the runs was emptied or moved. "
    "Resume it, or train a copy of it."
)
UNASKED = (
    "It was made to end, but nobody had asked for that here. Resume it, or train a "
    "copy of it."
)


@define
class Conducting:
    """One training, as long as this process has the claim on it."""

    _core: Core
    row: Row
    _asked: Context
    """Of the request that it carries out."""
    doom: str | None = None
    """Why it is to end, whatever else it says."""
    _is_told_to_end: bool = field(default=False, init=False)

    def go_on(self, row: Row) -> None:
        """Do what is outstanding.  Returns at once where nothing has happened.

        Raises `Unavailable` where something may pass, and `Conflict` if the training is
        somebody else's by now.
        """
        self.row = row
        seen = self._core.trainer.look(self._run_id)
        match seen.state:
            case RunState.ABSENT:
                self._begin()
            case RunState.RUNNING:
                self._listen_to_it()
            case _:
                self._conclude(seen)

    # --- how it stands -------------------------------------------------------------

    @property
    def _state(self) -> Experiment:
        state: Experiment = self.row.state
        return state

    @property
    def _run_id(self) -> RunId:
        run_id: RunId = self.row.state.run_id
        return run_id

    @property
    def _training(self) -> Training:
        training: Training = self.row.state.training
        return training

    @property
    def _claim(self) -> Claim:
        claim: Claim = self.row.state.training.claim
        return claim

    @property
    def _has_to_end(self) -> bool:
        return self.doom is not None or self._state.status is Status.STOPPING

    # --- its life ------------------------------------------------------------------

    def _begin(self) -> None:
        if self._has_to_end:
            # From now on nobody can start it.
            self._core.trainer.stop(self._run_id)
            self._conclude(Sighting(RunState.ENDED, stopped=True))
        elif self._state.status is not Status.PENDING:
            self._fail(VANISHED)
        elif not may_begin(self._core, self._state, self._asked.actor):
            self._fail(REFUSAL)
        else:
            self._start()

    def _start(self) -> None:
        bundles = laying_out(self._core.blobs, bundles_of(self._state))
        try:
            self._core.trainer.start(order_of(self._state), bundles)
        except (Rejected, NotFound, Corrupt) as refusal:
            self._fail(str(refusal))
        else:
            self._record(self._started())

    def _listen_to_it(self) -> None:
        if self._state.status is Status.PENDING:
            self._record(self._started())
        # Before it is listened to: what cannot be understood must end all the same.
        if self._has_to_end and not self._is_told_to_end:
            self._core.trainer.stop(self._run_id)
            self._is_told_to_end = True
        self._listen()

    def _conclude(self, seen: Sighting) -> None:
        """Record the end, once all has been heard."""
        heard = 0
        while self._listen():
            heard += 1
            if heard == MOST_PARTS:
                return
        if self.doom is not None:
            self._fail(self.doom)
        elif self._state.status is Status.STOPPING and _is_quiet(seen):
            self._end(
                experiment.AcknowledgeStop(self._claim.worker, self._claim.number)
            )
        elif self._state.status is not Status.STOPPING and _is_done(seen):
            self._succeed()
        else:
            self._fail(UNASKED if seen.reason is None else seen.reason)

    def _succeed(self) -> None:
        finish = experiment.FinishTraining(self._claim.worker, self._claim.number)
        if self._state.status is Status.PENDING:
            self._end(self._started(), finish)
        else:
            self._end(finish)

    def _fail(self, reason: str) -> None:
        lines = self._core.trainer.log(self._run_id, LINES)
        told = with_end_of_log(reason, lines)
        claim = self._claim
        self._end(experiment.FailTraining(claim.worker, claim.number, told))

    def _end(self, *commands: object) -> None:
        self._record(*commands)
        self._core.trainer.tidy(self._state.run_ids, resumable_of(self._state))

    def _started(self) -> experiment.StartTraining:
        return experiment.StartTraining(self._claim.worker, self._claim.number)

    # --- what it says --------------------------------------------------------------

    def _listen(self) -> bool:
        """Record what it has said; return whether there may be more."""
        if self.doom is not None:
            return False
        news = self._core.trainer.news(self._run_id)
        if news.points:
            self._measured(news.points)
        self._keep(news.checkpoints)
        if self.doom is None:
            self.doom = news.fault
        if self.doom is not None or not news.is_further:
            return False
        self._core.trainer.acknowledge(self._run_id, news.mark)
        return True

    def _measured(self, points: Sequence[MetricPoint]) -> None:
        """Record them as this training's own, also where another has begun by now."""
        origin = Origin(self._training.number, Source.TRAINING)
        measured = [Measured(point, origin) for point in points]
        head = self._core.store.head()
        self._core.metrics.record(self._state.id, measured, log_position=head)

    def _keep(self, checkpoints: Sequence[Found]) -> None:
        """Record them up to one that cannot be kept, which is the end of it all."""
        kept: list[object] = []
        for found in checkpoints:
            try:
                kept.append(self._kept(found))
            except (Rejected, NotFound, Corrupt) as refusal:
                self.doom = f"Its checkpoint at step {found.step} is refused: {refusal}"
                break
        if kept:
            self._record(*kept)

    def _kept(self, found: Found) -> experiment.RecordTrainedCheckpoint:
        state, claim = self._state, self._claim
        return keep_trained(self._core, found.folder, found.step, state.setup, claim)

    # --- the log -------------------------------------------------------------------

    def _record(self, *commands: object) -> None:
        changes = (Change(experiment, self.row.id, command) for command in commands)
        handled = self._core.handler.handle(self._context(), *changes)
        self.row = evolve(self.row, state=handled.states[self.row.id])

    def _context(self) -> Context:
        """Return on whose behalf it is done: whoever asked, by the hand of a policy."""
        return evolve(
            self._asked, actor=system("trainer"), command_id=self._core.new_id()
        )


def _is_done(seen: Sighting) -> bool:
    """Say whether it has ended by itself, with all done."""
    return seen.succeeded and not seen.stopped


def _is_quiet(seen: Sighting) -> bool:
    """Say whether the end is what a stop may look like."""
    return seen.succeeded or seen.stopped or seen.state is RunState.LOST
