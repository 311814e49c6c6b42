"""How often what has happened, by the log: the same figures in every process.

The log is read on from where it was left; that of a large store takes a few looks
until it has been read for the first time.
"""

import logging
import threading
from collections import Counter
from collections.abc import Mapping
from typing import Any

from attrs import frozen

from arena_core.application.history import PAGE
from arena_core.application.ports import EventStore, Recorded
from arena_core.domain import deployment
from arena_core.domain.deployment import Deployment, Status
from arena_core.domain.errors import Corrupt
from arena_core.domain.ids import AgentId, OrganisationId

log = logging.getLogger(__name__)

MOST_PAGES = 40
"""That one look reads: half a second's worth."""


@frozen
class OfAgent:
    """A kind of event of one agent's deployment."""

    organisation: OrganisationId
    agent_id: AgentId
    event: str


@frozen
class Transition:
    """From one status of one agent's deployment to another."""

    organisation: OrganisationId
    agent_id: AgentId
    before: Status
    after: Status


@frozen
class Tally:
    """Events since the log began, up to `position`."""

    position: int
    events: Mapping[str, int]
    """By stored name, such as `agent.checkpoint_frozen`."""
    of_agents: Mapping[OfAgent, int]
    transitions: Mapping[Transition, int]


class LogTally:
    """Counts what the log holds.  Safe to use from several threads."""

    def __init__(self, store: EventStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._position = 0
        self._is_known = False
        self._events: Counter[str] = Counter()
        self._of_agents: Counter[OfAgent] = Counter()
        self._transitions: Counter[Transition] = Counter()
        self._deployments: dict[Any, tuple[OrganisationId, Deployment]] = {}

    def look(self) -> Tally | None:
        """Read on, and return the counts; None until the head was reached once.

        Counters that begin in the middle would look like a burst of events.  What
        cannot be understood ends the counting before it, and is shown in health.
        """
        with self._lock:
            try:
                self._read_on()
            except Corrupt:
                log.warning("Events are counted up to %d only", self._position)
                self._is_known = True
            if not self._is_known:
                return None
            return Tally(
                self._position,
                dict(self._events),
                dict(self._of_agents),
                dict(self._transitions),
            )

    def _read_on(self) -> None:
        for _ in range(MOST_PAGES):
            events = self._store.read_all(after=self._position, limit=PAGE)
            if not events:
                self._is_known = True
                return
            for recorded in events:
                self._count(recorded)
                self._position = recorded.position

    def _count(self, recorded: Recorded) -> None:
        self._events[recorded.name] += 1
        if recorded.name.partition(".")[0] != deployment.KIND:
            return
        organisation, before = self._deployments.get(
            recorded.stream, (recorded.context.organisation, None)
        )
        after = deployment.evolve(before, recorded.event)
        self._deployments[recorded.stream] = organisation, after
        agent = organisation, after.agent_id
        self._of_agents[OfAgent(*agent, recorded.name)] += 1
        if before is not None and before.status is not after.status:
            self._transitions[Transition(*agent, before.status, after.status)] += 1
