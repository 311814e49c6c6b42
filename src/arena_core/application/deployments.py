"""Use cases of deployments as they are known by name, and made in one step."""

from collections.abc import Sequence
from itertools import count
from uuid import UUID

from attrs import evolve, field, frozen

from arena_core.application.agents import (
    Agents,
    carry_out,
    check_scope,
    replacement,
    scope_of,
)
from arena_core.application.experiments import Experiments
from arena_core.application.freezing import (
    Naming,
    chosen,
    deployment_creation,
    frozen_checkpoint,
    named,
)
from arena_core.application.handling import Change
from arena_core.application.naming import Wanted, project_name, the_experiment
from arena_core.application.ports import Row
from arena_core.application.resources import AgentView, DeploymentView
from arena_core.application.session import Session
from arena_core.domain import agent, deployment
from arena_core.domain.deployment import MemoryScope
from arena_core.domain.errors import AlreadyExists, NotFound
from arena_core.domain.ids import (
    AgentId,
    DeploymentId,
    ExperimentId,
    ProjectId,
    agent_deployed_from,
    deployment_of,
)
from arena_core.domain.swap_commands import RequestSwap
from arena_core.domain.values import (
    CheckpointChoice,
    Role,
    trimmed,
)


@frozen
class DeploymentEntry:
    """An agent with a deployment, and what it takes to call it."""

    agent: AgentView
    deployment: DeploymentView
    project_name: str | None
    api_key: str | None = field(repr=False)
    """None unless it is Deployed, and for those who may only read."""


@frozen
class Deployments:
    session: Session
    agents: Agents

    def list(
        self,
        *,
        name: str | None = None,
        experiment: str | None = None,
        project: str | None = None,
    ) -> Sequence[DeploymentEntry]:
        """Return the organisation's deployments; each name narrows what is listed."""
        wanted = Wanted(self.session, name, experiment, project)
        fitting = wanted.among(self.agents.list(name=wanted.name))
        return [self._entry(found) for found in fitting if found.deployment is not None]

    def one(
        self, name: str, *, experiment: str | None = None, project: str | None = None
    ) -> DeploymentEntry:
        """Return the one deployment of an agent of that name.

        Raises `NotFound`, or `Ambiguous` with all that fit.
        """
        wanted = Wanted(self.session, trimmed(name), experiment, project)
        named = self.agents.list(name=wanted.name)
        deployed = wanted.among(a for a in named if a.deployment is not None)
        return self._entry(self.agents.get(wanted.only(deployed or named).id))

    def deploy(
        self,
        experiment_name: str,
        *,
        checkpoint: str | None = None,
        memory_scope: MemoryScope | str | None = None,
    ) -> DeploymentEntry:
        """Put a checkpoint of an experiment live, without waiting for it.

        The agent is called like the experiment.  It is made if there is none, and
        given the checkpoint otherwise: at the same endpoint, which goes on answering.
        `checkpoint`: see `freezing.named`.
        """
        source = the_experiment(self.session, experiment_name)
        there = Experiments(self.session).checkpoints(source.id)
        choice, scope = named(checkpoint, there), scope_of(memory_scope)
        try:
            agent_id = self._put_live(source, choice, scope)
        except AlreadyExists:  # somebody has made it since we looked
            agent_id = self._put_live(source, choice, scope)
        return self._entry(self.agents.get(agent_id))

    # --- inside ------------------------------------------------------------------

    def _put_live(
        self, source: Row, choice: CheckpointChoice, scope: MemoryScope | None
    ) -> AgentId:
        agent_id = self._agent_of(source)
        row = self.session.rows.get(agent_id)
        if row is None:
            changes = self._made(agent_id, source, choice, scope)
        else:
            changes = self._changed(row, choice, scope)
        connect = Change(deployment, deployment_of(agent_id), deployment.Connect())
        carry_out(self.session, self.agents.registry, agent_id, [*changes, connect])
        return agent_id

    def _agent_of(self, source: Row) -> AgentId:
        """Return the agent that a deploy of the experiment is for; it may be to come.

        It is the one that such a deploy has made, whatever it is called by now, or
        else the one that is called like the experiment.
        """
        rows = self.session.rows
        ids = (agent_deployed_from(ExperimentId(source.id), n) for n in count())
        agent_id = next(i for i in ids if not _is_gone(rows.get(i)))
        alike = self.agents.list(experiment_id=source.id, name=source.name)
        if rows.get(agent_id) is None and alike:
            return AgentId(Wanted(self.session, source.name).only(alike).id)
        return agent_id

    def _made(
        self,
        agent_id: AgentId,
        source: Row,
        choice: CheckpointChoice,
        scope: MemoryScope | None,
    ) -> Sequence[Change]:
        freeze = frozen_checkpoint(
            self.session, source.id, choice, Naming(source.name, ""), None
        )
        freeze = evolve(freeze, agent_id=agent_id)
        return [Change(agent, agent_id, freeze), deployment_creation(freeze, scope)]

    def _changed(
        self, row: Row, choice: CheckpointChoice, scope: MemoryScope | None
    ) -> Sequence[Change]:
        state: agent.Agent = row.state
        known = self._deployment(row.id)
        check_scope(known, scope)
        frozen = chosen(self.session, state.origin.experiment_id, choice)
        changes = replacement(known, row.id, RequestSwap(frozen, agent.Cause.REDEPLOY))
        if known is not None:
            return changes
        new = evolve(state, checkpoint=frozen)
        return [deployment_creation(new, scope), *changes]

    def _deployment(self, agent_id: UUID) -> Row | None:
        return self.session.rows.get(deployment_of(AgentId(agent_id)))

    def _entry(self, found: AgentView) -> DeploymentEntry:
        state = found.deployment
        if state is None:
            raise NotFound(deployment.NO_DEPLOYMENT)
        project = project_name(self.session, ProjectId(found.project_id))
        return DeploymentEntry(found, state, project, self._key(state))

    def _key(self, state: DeploymentView) -> str | None:
        if not state.connected or not self.session.caller.role.covers(Role.MEMBER):
            return None
        return self.agents.keys.issue(DeploymentId(state.id), state.key_version)


def _is_gone(row: Row | None) -> bool:
    return row is not None and row.deleted
