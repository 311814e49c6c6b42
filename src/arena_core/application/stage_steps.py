"""One step of a stage: what its state calls for, recorded in one append.

A step reads whatever it decides by from the log, and is recorded only if all of that is
still so; whoever was faster has done it.  It acts in the name of the runner, and says
whose order it carries out.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import assert_never

from attrs import frozen

from arena_core.application.ending import Ending
from arena_core.application.handling import Change
from arena_core.application.ports import Context, Recorded
from arena_core.application.session import Core, Session
from arena_core.application.stage_agents import live
from arena_core.application.stage_work import outcome, place, stopping
from arena_core.application.starting import start
from arena_core.application.streams import Streams
from arena_core.application.trainer import RunState
from arena_core.domain import stage
from arena_core.domain.errors import (
    ConcurrentWrite,
    Conflict,
    NotFound,
    Overtaken,
    PreconditionFailed,
    Rejected,
)
from arena_core.domain.ids import StageId, training_of
from arena_core.domain.stage import Stage
from arena_core.domain.stage_commands import (
    CheckCondition,
    RequestApproval,
    TimeStageOut,
)
from arena_core.domain.stage_events import StageTriggered
from arena_core.domain.stage_run import AT_WORK, Outcome, Reaction, Status, Verdict
from arena_core.domain.values import Caller, Role, system

ACTOR = system("runner")
OVERTAKEN = (ConcurrentWrite, PreconditionFailed, Overtaken)
"""What a step raises that others have taken, or below which something has changed."""
_AFTER_ITS_WORK = (Reaction.SUCCEED, Reaction.FAIL, Reaction.STOP)


@frozen
class Step:
    """A stage that is at work, as the log has it now."""

    core: Core
    streams: Streams
    stage: Stage
    outcome: Outcome | None

    @classmethod
    def of(cls, core: Core, stage_id: StageId) -> "Step | None":
        """Look at a stage.  None: it is not at work, so nothing follows."""
        streams = Streams(core.store)
        state = streams.state(stage, stage_id)
        if state is None or state.status not in AT_WORK:
            return None
        return cls(core, streams, state, outcome(streams, state))

    def take(self) -> bool:
        """Do what follows now; say whether there was anything.

        Raises one of `OVERTAKEN` if somebody was faster.
        """
        now = self.core.clock()
        reaction = stage.react(self.stage, self.outcome, now)
        try:
            changes = self._changes(reaction, now)
            self._record(changes, reaction)
        except OVERTAKEN:
            raise
        except (Rejected, Conflict, NotFound) as refusal:
            if reaction is not Reaction.START:
                raise
            # What is refused now will be refused again.
            self._fail_for_good(str(refusal))
            return True
        return bool(changes)

    def give_up(self, reason: str) -> None:
        """End the run as failed, whatever else would have followed."""
        self._fail_for_good(reason)

    def _changes(self, reaction: Reaction | None, now: datetime) -> Sequence[Change]:
        state, run = self.stage, self.stage.run
        match reaction:
            case None:
                asked = state.status is Status.STOPPING and self._goes_on()
                return stopping(self.streams, state) if asked else ()
            case Reaction.CHECK_CONDITION:
                return self._of_stage(
                    CheckCondition(run.id, live(self.streams, state.id))
                )
            case Reaction.REQUEST_APPROVAL:
                return self._of_stage(
                    RequestApproval(run.id, live(self.streams, state.id))
                )
            case Reaction.START:
                return start(self.streams, state)
            case Reaction.TIME_OUT:
                if self._has_ended_by_itself():
                    return ()
                over = self._of_stage(TimeStageOut(run.id))
                return (*over, *stopping(self.streams, state))
            case Reaction.SUCCEED:
                return self._ending().succeeded(now)
            case Reaction.FAIL:
                return self._ending().failed(self._why())
            case Reaction.STOP:
                return self._ending().stopped(self._why())
            case _:
                assert_never(reaction)

    def _goes_on(self) -> bool:
        return self.outcome is not None and self.outcome.verdict is Verdict.ONGOING

    def _has_ended_by_itself(self) -> bool:
        """Say whether its training is over, and only has to be recorded.

        While nobody served the store, nobody could see that it ended in time.
        """
        run, bound = self.stage.run, self.stage.run.settings.experiment_id
        if run.training is None or bound is None:
            return False
        seen = self.core.trainer.look(training_of(bound, run.training))
        return seen.state in (RunState.ENDED, RunState.LOST)

    def _why(self) -> str:
        run = self.stage.run
        if run.timed_out:
            limit_s = run.settings.time_limit_s
            return f"It took longer than its time limit of {limit_s:g} s."
        if self.stage.status is Status.STOPPING:
            return "It was stopped."
        reason = None if self.outcome is None else self.outcome.reason
        return reason or "It has ended without saying why."

    def _fail_for_good(self, reason: str) -> None:
        fail = self._ending().failed(reason, for_good=True)
        self._record((*stopping(self.streams, self.stage), *fail), None)

    def _ending(self) -> Ending:
        organisation = self._order().context.organisation
        caller = Caller(organisation, ACTOR, Role.MANAGER)
        return Ending(Session(self.core, caller), self.streams, self.stage)

    def _of_stage(self, command: object) -> Sequence[Change]:
        return (Change(stage, self.stage.id, command),)

    def _record(self, changes: Sequence[Change], reaction: Reaction | None) -> None:
        if changes:
            context, expected = self._context(reaction), self.streams.as_read()
            self.core.handler.handle(context, *changes, expected=expected)

    def _context(self, reaction: Reaction | None) -> Context:
        asked = self._order().context
        return Context(
            asked.organisation,
            ACTOR,
            self.core.new_id(),
            asked.correlation_id,
            self._cause(reaction).event_id,
            traceparent=asked.traceparent,
        )

    def _order(self) -> Recorded:
        """Return the event that triggered the run."""
        events = self.streams.events(self.stage.id)
        return next(r for r in reversed(events) if isinstance(r.event, StageTriggered))

    def _cause(self, reaction: Reaction | None) -> Recorded:
        """Return what the step follows from."""
        where = place(self.stage.run) if reaction in _AFTER_ITS_WORK else None
        return self.streams.events(where or self.stage.id)[-1]
