"""The runner: carries on every pipeline that is at work, as far as the log allows.

It keeps in mind which stages are at work and what each waits for: an event of one other
stream, or a moment.  All of that comes from the log, so a runner that has just begun
knows what the one before it knew.  Several may run on one store: each step is recorded
once, and whoever comes too late finds nothing left to do.

A stage with which it cannot go on waits for longer and longer, and is shown; the others
do not wait for it.
"""

import logging
import threading
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from uuid import UUID

from attrs import frozen

from arena_core.application.history import pages
from arena_core.application.ports import Query, Recorded
from arena_core.application.session import Core
from arena_core.application.setting_aside import SetAside, after_failure
from arena_core.application.stage_steps import OVERTAKEN, Step
from arena_core.application.stage_work import concerns_work, place
from arena_core.domain import deployment, experiment, stage
from arena_core.domain.errors import ArenaError, Unavailable
from arena_core.domain.ids import StageId
from arena_core.domain.stage_run import AT_WORK

log = logging.getLogger(__name__)

LONGEST_PAUSE = timedelta(minutes=5)
LOOK_AT_ALL = timedelta(minutes=10)
"""How often all stages are looked at, should one have been lost from sight."""
GAVE_UP = (
    "The server could not go on with it, and its own log says why: have that mended, "
    "and retry the stage."
)
LOOK_AGAIN_S = 1.0
SHORTEST_PAUSE_S = 0.01
_NEVER = datetime.min.replace(tzinfo=UTC)


@frozen
class _Waiting:
    """What a stage at work waits for, beside events of its own."""

    stream: UUID | None
    due: datetime | None


class PipelineRunner:
    kinds = frozenset({stage.KIND, experiment.KIND, deployment.KIND})
    """Of what a change may leave something to be done."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._pass = threading.Lock()
        self._stopping = threading.Event()
        self._position = 0
        self._looked_at_all = _NEVER
        self._waiting: dict[StageId, _Waiting] = {}
        self._waits_for: dict[UUID, set[StageId]] = {}
        """By stream: an old log may have several stages of one experiment."""
        self._due: dict[StageId, datetime] = {}
        """Those that wait for a moment: most wait for news only."""
        self._news: set[StageId] = set()
        """Of which something may follow now."""
        self._overtaken: set[StageId] = set()
        """Of which somebody was faster: looked at again in the next pass."""
        self._set_aside: dict[StageId, SetAside] = {}

    @property
    def set_aside(self) -> Mapping[StageId, SetAside]:
        """The stages with which something is wrong.  Safe from any thread."""
        return dict(self._set_aside)

    def stop(self) -> None:
        """Take no further step.  Safe to call twice."""
        self._stopping.set()

    def reconcile(self) -> None:
        """Take every step that can be taken now.  Costs next to nothing if none can."""
        with self._pass:
            self._news |= self._overtaken
            self._overtaken.clear()
            self._follow()
            while self._news and not self._stopping.is_set():
                self._attend(self._news.pop())
                if not self._news:
                    self._follow()

    def look_again_s(self) -> float:
        """Return after how long to look again though the log is quiet."""
        now = self._core.clock()
        due = list(self._due.values())
        left_s = min(((at - now).total_seconds() for at in due), default=LOOK_AGAIN_S)
        return min(max(left_s, SHORTEST_PAUSE_S), LOOK_AGAIN_S)

    # --- what is to be looked at -------------------------------------------------

    def _follow(self) -> None:
        """Find the stages of which something may follow."""
        self._core.views.catch_up()
        if self._core.views.halted is not None:
            return  # what cannot be read must not be acted upon
        now, head = self._core.clock(), self._core.views.position
        if now >= self._looked_at_all + LOOK_AT_ALL:
            self._look_at_all(head)
            self._looked_at_all = now
        for recorded in pages(self._core.store, after=self._position, up_to=head):
            self._hear(recorded)
            self._position = recorded.position
        self._news.update(s for s, due in self._due.items() if due <= now)

    def _look_at_all(self, head: int) -> None:
        """Find all stages at work; afterwards the log tells which come and go."""
        rows = self._core.views.rows.find(Query(stage.KIND, organisation=None))
        self._news.update(StageId(r.id) for r in rows if r.state.status in AT_WORK)
        self._position = max(self._position, head)

    def _hear(self, recorded: Recorded) -> None:
        if recorded.name.startswith(f"{stage.KIND}."):
            self._news.add(StageId(recorded.stream))
        elif recorded.stream in self._waits_for and concerns_work(recorded.event):
            self._news |= self._waits_for[recorded.stream]

    def _wait(self, stage_id: StageId, waiting: _Waiting) -> None:
        self._forget(stage_id)
        self._waiting[stage_id] = waiting
        if waiting.stream is not None:
            self._waits_for.setdefault(waiting.stream, set()).add(stage_id)
        if waiting.due is not None:
            self._due[stage_id] = waiting.due

    def _forget(self, stage_id: StageId) -> None:
        self._due.pop(stage_id, None)
        before = self._waiting.pop(stage_id, None)
        if before is None or before.stream is None:
            return
        beside = self._waits_for.get(before.stream, set())
        beside.discard(stage_id)
        if not beside:
            self._waits_for.pop(before.stream, None)

    # --- one stage -----------------------------------------------------------------

    def _attend(self, stage_id: StageId) -> None:
        """Take all steps of one stage; whatever goes wrong is kept to that stage."""
        try:
            self._go_on(stage_id)
        except OVERTAKEN:
            self._overtaken.add(stage_id)
        except Unavailable as error:
            log.warning("Stage %s has to wait: %s", stage_id, error)
            self._put_aside(stage_id, str(error))
        except ArenaError as error:
            log.exception("The runner cannot go on with stage %s", stage_id)
            self._despair(stage_id, str(error))
        except Exception:
            log.exception("The runner met a defect at stage %s", stage_id)
            self._despair(stage_id, GAVE_UP)
        else:
            self._set_aside.pop(stage_id, None)

    def _go_on(self, stage_id: StageId) -> None:
        while (step := Step.of(self._core, stage_id)) is not None:
            if not step.take():
                self._wait(stage_id, self._waits(step))
                return
        self._forget(stage_id)

    def _waits(self, step: Step) -> _Waiting:
        """Return what a stage waits for of which nothing follows now."""
        due = stage.due_at(step.stage, step.outcome)
        # A moment that has passed and led to nothing would be due again at once.
        is_over = due is not None and due <= self._core.clock()
        return _Waiting(place(step.stage.run), None if is_over else due)

    def _despair(self, stage_id: StageId, reason: str) -> None:
        """Try it again later, or record that it has failed if that helps nothing."""
        self._put_aside(stage_id, reason, is_defect=True)
        if not self._set_aside[stage_id].is_hopeless:
            return
        try:
            step = Step.of(self._core, stage_id)
            if step is not None:
                step.give_up(reason)
        except Exception:
            log.exception("The runner cannot even end stage %s", stage_id)
        else:
            self._forget(stage_id)
            del self._set_aside[stage_id]

    def _put_aside(
        self, stage_id: StageId, reason: str, *, is_defect: bool = False
    ) -> None:
        before, now = self._set_aside.get(stage_id), self._core.clock()
        aside = after_failure(before, reason, now, LONGEST_PAUSE, is_defect=is_defect)
        self._set_aside[stage_id] = aside
        known = self._waiting.get(stage_id)
        stream = None if known is None else known.stream
        self._wait(stage_id, _Waiting(stream, aside.not_before))
