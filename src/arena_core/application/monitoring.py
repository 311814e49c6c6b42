"""What a caller may see of the figures that all workers have counted.

Figures of agents are those of the caller's organisation.  What is of the server as a
whole is for the organisation `default` only, whose people run it.
"""

from collections.abc import Mapping, Sequence
from uuid import UUID

from attrs import frozen

from arena_core.application.metering import Metering
from arena_core.application.readings import (
    AgentReading,
    AgentSeries,
    HistogramReading,
    HttpSeries,
    ProcessReading,
    Reading,
    Work,
)
from arena_core.application.session import Session
from arena_core.application.tallies import LogTally, OfAgent, Tally, Transition
from arena_core.application.telemetry import VERSION_LENGTH
from arena_core.domain import agent, deployment
from arena_core.domain.deployment import Deployment, Status
from arena_core.domain.errors import Flaw
from arena_core.domain.ids import DEFAULT_ORGANISATION, Digest


@frozen
class AgentNow:
    """An agent as it is at the moment."""

    id: UUID
    name: str
    digest: Digest
    """The checkpoint that is live, or would be."""
    deployment_id: UUID | None
    status: Status | None
    """None: it has no deployment."""

    @property
    def version(self) -> str:
        return self.digest[:VERSION_LENGTH]


@frozen
class Server:
    """Figures of the server as a whole."""

    workers: int
    """Processes that serve the store."""
    http: Sequence[tuple[HttpSeries, HistogramReading]]
    refused: Mapping[Flaw, int]
    process: ProcessReading | None
    set_aside: Mapping[Work, int]
    log_position: int
    projection_lag: int
    """Positions by which the read model is behind the log."""
    events: Mapping[str, int]


@frozen
class Scrape:
    agents: Sequence[AgentNow]
    inference: Sequence[tuple[AgentSeries, AgentReading]]
    events: Mapping[OfAgent, int]
    transitions: Mapping[Transition, int]
    server: Server | None
    """None for all but the organisation `default`."""


@frozen
class Monitoring:
    session: Session
    metering: Metering
    tally: LogTally

    def scrape(self) -> Scrape:
        """Return the figures of all workers, those of others at most a second old."""
        reading, workers = self.metering.reading()
        tally = self.tally.look()
        agents = self._agents()
        known = {each.id for each in agents}
        of_agents = {} if tally is None else tally.of_agents
        transitions = {} if tally is None else tally.transitions
        return Scrape(
            agents,
            [(s, r) for s, r in reading.agents if s.agent_id in known],
            {s: n for s, n in of_agents.items() if s.agent_id in known},
            {s: n for s, n in transitions.items() if s.agent_id in known},
            self._server(reading, workers, tally) if self._runs_the_server else None,
        )

    @property
    def _runs_the_server(self) -> bool:
        return self.session.caller.organisation == DEFAULT_ORGANISATION

    def _agents(self) -> list[AgentNow]:
        """Return the organisation's agents: what is known of any other is left out."""
        deployments: dict[UUID, Deployment] = {
            row.state.agent_id: row.state for row in self.session.query(deployment.KIND)
        }
        return [
            _agent_now(row.state, deployments.get(row.id))
            for row in self.session.query(agent.KIND)
        ]

    def _server(self, reading: Reading, workers: int, tally: Tally | None) -> Server:
        core = self.session.core
        head = core.store.head()
        return Server(
            workers,
            reading.http,
            reading.refused,
            reading.process,
            reading.set_aside,
            head,
            max(0, head - core.views.catch_up()),
            {} if tally is None else tally.events,
        )


def _agent_now(state: agent.Agent, deployed: Deployment | None) -> AgentNow:
    if deployed is None:
        return AgentNow(state.id, state.name, state.checkpoint.digest, None, None)
    return AgentNow(state.id, state.name, deployed.digest, deployed.id, deployed.status)
