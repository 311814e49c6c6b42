"""Audit: what happened, what was live, and whether the record is intact."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from uuid import UUID

from attrs import frozen

from arena_core.application.callers import is_operator
from arena_core.application.experiments import Experiments
from arena_core.application.first_causes import first_of
from arena_core.application.history import follow, pages, parse_moment
from arena_core.application.ownership import owner_of
from arena_core.application.pipeline_views import PipelineView
from arena_core.application.ports import Fault, Recorded
from arena_core.application.resources import (
    AgentView,
    CheckpointView,
    EventView,
    ExperimentView,
    ImportView,
    ProjectView,
    TokenView,
    agent_view,
    event_view,
    experiment_view,
    import_view,
    project_view,
    token_view,
)
from arena_core.application.session import Session
from arena_core.application.stage_reading import pipeline_view
from arena_core.domain import (
    agent,
    checkpoint_import,
    credential,
    experiment,
    organisation,
    pipeline,
    project,
    user,
)
from arena_core.domain.agent import CheckpointFrozen, CheckpointReplaced
from arena_core.domain.checkpoint_import import ImportRequested
from arena_core.domain.errors import Corrupt, NotFound
from arena_core.domain.experiment import CheckpointWritten
from arena_core.domain.ids import AgentId, Digest, deployment_of
from arena_core.domain.pipeline_events import PipelineDuplicated, StageInserted
from arena_core.domain.swap import SwapRequested
from arena_core.domain.values import Role

FOR_MANAGERS = (credential.KIND, organisation.KIND)


@frozen
class Replayed:
    """The state of everything that an organisation had at a position of the log."""

    position: int
    projects: Sequence[ProjectView]
    experiments: Sequence[ExperimentView]
    checkpoints: Mapping[UUID, Sequence[CheckpointView]]
    """By experiment."""
    imports: Sequence[ImportView]
    pipelines: Sequence[PipelineView]
    """With their stages, and the latest run of each."""
    agents: Sequence[AgentView]
    tokens: Sequence[TokenView]


@frozen
class Audit:
    session: Session

    def log(
        self, *, after: int = 0, limit: int | None = None, stream: UUID | None = None
    ) -> Iterator[EventView]:
        """Yield the organisation's events after a position, oldest first."""
        for count, recorded in enumerate(self._visible(after, stream)):
            if limit is not None and count >= limit:
                return
            yield event_view(recorded)

    def follow(
        self, *, after: int = 0, until: Callable[[], bool] = lambda: False
    ) -> Iterator[EventView]:
        """Yield the events after a position, and then each new one as it comes.

        Goes on where it was after the store could not be read for a while; ends once
        `until()` is true.
        """
        for recorded in follow(self.session.core.store, after=after, until=until):
            if self._is_visible(recorded):
                yield event_view(recorded)

    def shown(self, events: Iterable[Recorded]) -> Sequence[EventView]:
        """Return those of `events` that the caller may see."""
        return [event_view(recorded) for recorded in filter(self._is_visible, events)]

    def _visible(self, after: int, stream: UUID | None) -> Iterator[Recorded]:
        return filter(self._is_visible, self._recorded(after, stream))

    def _is_visible(self, recorded: Recorded) -> bool:
        """Say whether the caller may see it.

        Who has which token and who is invited is for managers; what users do beyond
        one organisation is for nobody in it.
        """
        caller, kind = self.session.caller, recorded.name.partition(".")[0]
        if not self._is_ours(recorded):
            return False
        if kind == user.KIND:
            return is_operator(caller)
        return caller.role is Role.MANAGER or kind not in FOR_MANAGERS

    def _recorded(self, after: int, stream: UUID | None) -> Iterator[Recorded]:
        store, up_to = self.session.core.store, self.session.as_of
        if stream is None:
            return pages(store, after=after, up_to=up_to)
        history = store.read(stream, up_to=up_to)
        return (recorded for recorded in history if recorded.position > after)

    def timeline(self, about: UUID) -> Sequence[EventView]:
        """Return all events of what has this id, and of its parts, in their order.

        Parts are the deployment of an agent, and the stages of a pipeline, those that
        were removed too.  What was deleted has its events still.  Raises `NotFound`.
        """
        own = list(self._visible(0, about))
        if not own:
            raise NotFound("There is nothing with this id in the log.")
        parts = {part for recorded in own for part in _parts(recorded)}
        of_parts = (recorded for part in parts for recorded in self._visible(0, part))
        events = sorted([*own, *of_parts], key=lambda recorded: recorded.position)
        return [event_view(recorded) for recorded in events]

    def first_causes(self, events: Sequence[EventView]) -> Mapping[UUID, EventView]:
        """Return what began those of `events` that follow from another command.

        By the event's id: the first event of the command that somebody gave.  What the
        caller may not see is left out.
        """
        caused = [e for e in events if e.correlation_id != e.command_id]
        last = max((event.position for event in caused), default=0)
        wanted = {event.correlation_id for event in caused}
        firsts = first_of(self.session.core.store, wanted, before=last)
        visible = {c: event_view(f) for c, f in firsts.items() if self._is_visible(f)}
        return {
            event.event_id: visible[event.correlation_id]
            for event in caused
            if event.correlation_id in visible
        }

    def replay(self, at: int | str | datetime | None = None) -> Replayed:
        """Return the state of everything at a position or time; None: at the session's.

        It is folded from the log, not read from the live views.
        """
        store, now = self.session.core.store, self.session.core.clock()
        if at is not None:
            position = parse_moment(store, at, now=now)
        else:
            as_of = self.session.as_of
            position = store.head() if as_of is None else as_of
        past = self.session.replayed(position)
        experiments = past.query(experiment.KIND)
        return Replayed(
            position,
            [
                project_view(row, owner_of(past, row))
                for row in past.query(project.KIND)
            ],
            [experiment_view(row, owner_of(past, row)) for row in experiments],
            {row.id: Experiments(past).checkpoints(row.id) for row in experiments},
            [import_view(row, None) for row in past.query(checkpoint_import.KIND)],
            [pipeline_view(past, row) for row in past.query(pipeline.KIND)],
            [
                agent_view(
                    row,
                    owner_of(past, row),
                    past.rows.get(deployment_of(AgentId(row.id))),
                )
                for row in past.query(agent.KIND)
            ],
            [token_view(row) for row in past.query(credential.KIND)],
        )

    def verify(self) -> Iterator[Fault]:
        """Recompute every hash chain and every checkpoint digest; yield each fault.

        The whole log is looked at, whatever the organisation.
        """
        faults = list(self.session.core.store.faults())
        yield from faults
        if not faults:
            yield from self._blob_faults()

    def _blob_faults(self) -> Iterator[Fault]:
        seen: set[Digest] = set()
        for recorded in pages(self.session.core.store):
            digest = _named_digest(recorded)
            if digest is None or digest in seen:
                continue
            seen.add(digest)
            try:
                self._read_all(digest)
            except (NotFound, Corrupt) as error:
                yield Fault(recorded.position, f"Checkpoint {digest}: {error}")

    def _read_all(self, digest: Digest) -> None:
        blobs = self.session.core.blobs
        for name in blobs.sizes(digest):
            blobs.read(digest, name)

    def _is_ours(self, recorded: Recorded) -> bool:
        return recorded.context.organisation == self.session.caller.organisation


def _parts(recorded: Recorded) -> Sequence[UUID]:
    """Return what an event says is a part of that of which it tells."""
    match recorded.event:
        case CheckpointFrozen():
            return [deployment_of(AgentId(recorded.stream))]
        case StageInserted(stage_id=stage_id):
            return [stage_id]
        case PipelineDuplicated(stages=stages):
            return [planned.id for planned in stages]
        case _:
            return []


def _named_digest(recorded: Recorded) -> Digest | None:
    match recorded.event:
        case CheckpointWritten(digest=digest):
            return digest
        case ImportRequested(files=files):
            return files.digest
        case (
            CheckpointFrozen(checkpoint=checkpoint)
            | CheckpointReplaced(checkpoint=checkpoint)
            | SwapRequested(checkpoint=checkpoint)
        ):
            return checkpoint.digest
        case _:
            return None
