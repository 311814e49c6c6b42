"""The training loop: sees to it that what is to be trained runs, and is recorded.

It stands to trainings as the importer to imports, but there are many at once, and each
runs in a process of its own that outlives this one.  Whoever holds the claim listens
to it; a worker that has died is known by its presence, and another takes its trainings
on as they are.

A training with which it cannot go on waits for longer and longer, and is shown.  After
`MOST_DEFECTS` it waits until something else is asked of it, or for another process.
"""

import logging
import threading
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from uuid import UUID

from attrs import evolve

from arena_core.application.conducting import Conducting
from arena_core.application.handling import Change
from arena_core.application.open_trainings import OpenTrainings
from arena_core.application.ports import Context, Presence, Row
from arena_core.application.queueing import came
from arena_core.application.session import Core
from arena_core.application.setting_aside import SetAside, after_failure
from arena_core.application.trainer import Trainer
from arena_core.application.training_orders import resumable_of
from arena_core.domain import experiment
from arena_core.domain.errors import (
    ArenaError,
    ConcurrentWrite,
    Conflict,
    NotFound,
    Unavailable,
)
from arena_core.domain.experiment import (
    ClaimTraining,
    Training,
    TrainingRequested,
)
from arena_core.domain.ids import OrganisationId, RunId, WorkerId
from arena_core.domain.values import Claim, system

log = logging.getLogger(__name__)

LEASE = timedelta(hours=1)
"""Death is known at once, so this is only for a process that hangs."""
MOST_LOSSES = 100
LOOK_AGAIN_S = 1.0
LISTEN_AGAIN_S = 0.05
LONGEST_PAUSE = timedelta(minutes=1)
DEFECT = "The server met a defect: its own log says which."


class TrainingLoop:
    """Carries out, in this process, what the log says is to be trained."""

    kinds = frozenset({experiment.KIND})
    """Of what a change may leave something to be done."""

    def __init__(
        self,
        core: Core,
        presence: Presence,
        trainer: Trainer,
        worker: WorkerId,
        *,
        most: int,
    ) -> None:
        """`most`: trainings at the same time, over all processes of the store."""
        self._core = core
        self._presence = presence
        self._trainer = trainer
        self._worker = worker
        self._most = most
        self._pass = threading.Lock()
        self._stopping = threading.Event()
        self._open = OpenTrainings(core)
        self._conducted: dict[UUID, Conducting] = {}
        self._set_aside: dict[UUID, SetAside] = {}

    @property
    def set_aside(self) -> Mapping[UUID, SetAside]:
        """What waits because something is wrong, by experiment.  From any thread."""
        return dict(self._set_aside)

    def stop(self) -> None:
        """Begin nothing more.  Trainings go on without us.  Safe to call twice."""
        self._stopping.set()

    def look_again_s(self) -> float:
        """Return how long to wait though the log is quiet: trainings may not be."""
        heard = self._conducted.keys() - self._set_aside.keys()
        return LISTEN_AGAIN_S if heard else LOOK_AGAIN_S

    def reconcile(self) -> None:
        """Look at every training that has not ended, and do what is outstanding."""
        with self._pass:
            if not self._open.follow():
                return
            self._clear_away()
            for row in list(self._open.rows.values()):
                if self._is_to_be_done(row) and not self._rests(row):
                    self._attend(row)
            for row in self._waiting():
                self._attend(row)
            self._forget_what_is_over()

    # --- whose turn it is ----------------------------------------------------------

    def _is_to_be_done(self, row: Row) -> bool:
        """Say whether it is ours, or nobody's any more."""
        claim = _training(row).claim
        if claim is None or self._stopping.is_set():
            return False
        return claim.worker == self._worker or not self._is_held(row, claim)

    def _is_held(self, row: Row, claim: Claim) -> bool:
        """Say whether somebody sees to it, as far as can be told."""
        is_leased = experiment.react(row.state, self._core.clock()) is None
        return is_leased and self._presence.is_alive(claim.worker)

    def _waiting(self) -> Iterable[Row]:
        """Yield what may begin now: organisations take turns, whoever came first."""
        rows = self._open.rows.values()
        held = Counter(row.organisation for row in rows if self._takes_a_place(row))
        if held.total() >= self._most:
            return
        queues = self._queues()
        while queues and held.total() < self._most and not self._stopping.is_set():
            turn = min(queues, key=lambda o: (held[o], came(queues[o][0])))
            held[turn] += 1
            yield queues[turn].popleft()
            if not queues[turn]:
                del queues[turn]

    def _takes_a_place(self, row: Row) -> bool:
        """Say whether somebody has taken it on, and has not given it up."""
        aside = self._set_aside.get(row.id)
        given_up = aside is not None and aside.is_hopeless and aside.seen == row.state
        return _training(row).claim is not None and not given_up

    def _queues(self) -> dict[OrganisationId, deque[Row]]:
        """Return what waits, of each organisation in the order in which it came."""
        queues: dict[OrganisationId, deque[Row]] = {}
        for row in sorted(self._open.rows.values(), key=came):
            if _training(row).claim is None and not self._rests(row):
                queues.setdefault(row.organisation, deque()).append(row)
        return queues

    # --- one training --------------------------------------------------------------

    def _attend(self, row: Row) -> None:
        """Go on with one training; whatever goes wrong is kept to that one."""
        try:
            self._go_on(row)
        except (Unavailable, ConcurrentWrite) as error:
            log.warning("The training of %s has to wait: %s", row.id, error)
            self._put_aside(row, str(error))
        except (Conflict, NotFound):
            log.info("The training of %s has moved on meanwhile", row.id)
            self._conducted.pop(row.id, None)
        except Exception:
            log.exception("The training loop met a defect at %s", row.id)
            self._put_aside(row, DEFECT, is_defect=True)
        else:
            self._set_aside.pop(row.id, None)

    def _go_on(self, row: Row) -> None:
        conducted = self._conducted.get(row.id)
        if conducted is None or not self._is_safe(_training(row).claim):
            conducted = self._claim(row)
            row = conducted.row
        conducted.go_on(row)

    def _is_safe(self, claim: Claim | None) -> bool:
        """Say whether the claim is ours for long enough."""
        if claim is None or claim.worker != self._worker:
            return False
        return self._core.clock() < claim.lease_until - LEASE / 2

    def _claim(self, row: Row) -> Conducting:
        """Take the training on, or go on holding it."""
        asked = self._asked(row)
        held = _training(row).claim
        lost = None if held is None or self._is_held(row, held) else held.worker
        claim = ClaimTraining(self._worker, self._core.clock() + LEASE, lost)
        handled = self._core.handler.handle(
            evolve(asked, actor=system("trainer"), command_id=self._core.new_id()),
            Change(experiment, row.id, claim),
        )
        claimed = evolve(row, state=handled.states[row.id])
        known = self._conducted.get(row.id)
        doom = _doom(_training(claimed)) if known is None else known.doom
        conducted = Conducting(self._core, claimed, asked, doom)
        self._conducted[row.id] = conducted
        self._open.rows[row.id] = claimed
        return conducted

    def _asked(self, row: Row) -> Context:
        """Return the context of the request, and that it is because of it."""
        requests = (
            recorded
            for recorded in reversed(self._core.store.read(row.id))
            if isinstance(recorded.event, TrainingRequested)
        )
        asked = next(requests)
        return evolve(asked.context, causation_id=asked.event_id, reason=None)

    def _rests(self, row: Row) -> bool:
        """Say whether it has been set aside, and it is not yet time to try it again."""
        aside = self._set_aside.get(row.id)
        if aside is None:
            return False
        if not aside.is_hopeless:
            return self._core.clock() < aside.not_before
        if aside.seen == row.state:
            return True
        # What this process knows of it may be what is wrong.
        self._conducted.pop(row.id, None)
        del self._set_aside[row.id]
        return False

    def _put_aside(self, row: Row, reason: str, *, is_defect: bool = False) -> None:
        aside = after_failure(
            self._set_aside.get(row.id),
            reason,
            self._core.clock(),
            LONGEST_PAUSE,
            is_defect=is_defect,
        )
        seen = self._open.rows[row.id].state
        self._set_aside[row.id] = evolve(aside, seen=seen)
        if aside.is_hopeless:
            log.error("The training of %s is tried no more by this process", row.id)

    # --- what is over --------------------------------------------------------------

    def _forget_what_is_over(self) -> None:
        at_work = self._open.rows
        for known in (self._conducted, self._set_aside):
            for experiment_id in known.keys() - at_work.keys():
                del known[experiment_id]
        for experiment_id in list(self._conducted):
            claim = _training(at_work[experiment_id]).claim
            if claim is not None and claim.worker != self._worker:
                del self._conducted[experiment_id]

    def _clear_away(self) -> None:
        """Remove what nobody needs of trainings that are over."""
        while self._open.over and not self._stopping.is_set():
            state = self._open.over.pop()
            with _leaving(state.run_id):
                self._trainer.tidy(state.run_ids, resumable_of(state))
        while self._open.unwanted and not self._stopping.is_set():
            run_id = self._open.unwanted.pop()
            with _leaving(run_id):
                self._trainer.discard(run_id)


@contextmanager
def _leaving(run_id: RunId | None) -> Iterator[None]:
    """Leave what cannot be removed, and say so."""
    try:
        yield
    except ArenaError as error:
        log.warning("What is left of run %s stays: %s", run_id, error)


def _training(row: Row) -> Training:
    training: Training = row.state.training
    return training


def _doom(training: Training) -> str | None:
    """Return why it is given up, if it is: it may be what ends those who train it."""
    if training.losses <= MOST_LOSSES:
        return None
    return (
        f"Gave up: {training.losses} processes that saw to it have ended since its "
        "last checkpoint. Train it again if that was not its doing."
    )
