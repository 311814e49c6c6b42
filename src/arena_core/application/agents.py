"""Use cases of agents: freeze a checkpoint, put it live, take it back."""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from attrs import field, frozen

from arena_core.application import bundles
from arena_core.application.agreement import AGREEMENT_S
from arena_core.application.contents import Contents, contents
from arena_core.application.freezing import (
    Naming,
    SourceView,
    chosen,
    deployment_creation,
    frozen_checkpoint,
    sources,
)
from arena_core.application.handling import Change
from arena_core.application.keys import DeploymentKeys
from arena_core.application.naming import Wanted
from arena_core.application.ownership import owner_of
from arena_core.application.ports import Row
from arena_core.application.resources import (
    AccessView,
    AgentView,
    Shape,
    agent_view,
)
from arena_core.application.serving import Registry
from arena_core.application.session import ALL, Page, Paging, Session, page
from arena_core.application.waiting import awaited
from arena_core.domain import agent, deployment
from arena_core.domain.errors import Conflict, NotFound, Rejected, Unavailable
from arena_core.domain.guards import Guard
from arena_core.domain.ids import AgentId, DeploymentId, deployment_of
from arena_core.domain.swap import Phase, Shadow
from arena_core.domain.swap_commands import RequestSwap
from arena_core.domain.values import (
    CheckpointChoice,
    Family,
    ProjectKind,
    one_of,
    trimmed,
)

RESTORE_WINDOW = timedelta(days=30)
_REMEDIES = {
    deployment.Status.UNDEPLOYED: "Connect it first.",
    deployment.Status.PENDING: "Wait until it is.",
    deployment.Status.FAILED: "Look at its reason, and connect it again.",
    deployment.Status.DEPLOYED: "",
}


def check_scope(row: Row | None, scope: deployment.MemoryScope | None) -> None:
    """Raise `Conflict` if the deployment has another memory scope than is asked for."""
    has: deployment.Deployment | None = None if row is None else row.state
    if has is not None and scope not in (None, has.memory_scope):
        raise Conflict(
            f"The deployment has the memory scope {has.memory_scope.value}, which "
            "cannot be changed: leave it out, or delete the agent first."
        )


def scope_of(
    scope: deployment.MemoryScope | str | None,
) -> deployment.MemoryScope | None:
    if scope is None:
        return None
    return one_of(deployment.MemoryScope, scope, field="memory_scope")


def replacement(row: Row | None, agent_id: UUID, asked: RequestSwap) -> list[Change]:
    """Return what gives the agent of the deployment `row` another checkpoint.

    What is Deployed swaps; where nothing answers, there is nothing to wait for.
    """
    if row is not None and row.state.status is deployment.Status.DEPLOYED:
        of_agent: object = agent.RequireAgent()
        of_deployment: object = asked
    elif asked.guard is None and asked.shadow is None:
        of_agent = agent.ReplaceCheckpoint(asked.checkpoint, asked.cause)
        of_deployment = deployment.AssignCheckpoint(asked.checkpoint.digest)
    else:
        raise Conflict(
            "The agent is not Deployed, so there is nothing to compare with: "
            "connect it first, or leave guard and shadow out."
        )
    return [
        Change(agent, agent_id, of_agent),
        Change(deployment, deployment_of(AgentId(agent_id)), of_deployment),
    ]


def carry_out(
    session: Session,
    registry: Registry,
    agent_id: UUID,
    changes: Sequence[Change],
    reason: str | None = None,
) -> bool:
    """Execute what concerns an agent; say whether all processes serve accordingly."""
    done = session.execute(*changes, reason=reason)
    if session.as_of is None:  # else it was done before, and the log has gone on
        # What this process serves must not lag behind what it has just recorded.
        registry.follow(session.rows.get(deployment_of(AgentId(agent_id))))
    return session.core.agreement.all_followed(done.position, AGREEMENT_S)


def is_pending(found: AgentView) -> bool:
    """Say whether a Connect of the agent is outstanding, or a swap that loads."""
    state = found.deployment
    if state is None:
        return False
    loading = state.swap is not None and state.swap.phase is Phase.LOADING
    return loading or state.status is deployment.Status.PENDING


@frozen
class Agents:
    session: Session
    registry: Registry = field(repr=False)
    keys: DeploymentKeys = field(repr=False)

    # --- creating and reading ----------------------------------------------------

    def sources(self, kind: ProjectKind | str) -> Sequence[SourceView]:
        """Return the experiments with checkpoints, in projects of one kind."""
        return sources(self.session, one_of(ProjectKind, kind, field="kind"))

    def create(  # noqa: PLR0913 -- the fields of the resource
        self,
        name: str,
        experiment_id: UUID,
        *,
        checkpoint: CheckpointChoice,
        description: str = "",
        kind: ProjectKind | str | None = None,
        memory_scope: deployment.MemoryScope | str | None = None,
    ) -> AgentView:
        """Freeze a checkpoint of an experiment as an agent.  Starts nothing.

        `kind` is the list that the agent is created from, and must then be the kind
        of the experiment's project.  Left out, the experiment's source decides:
        advanced for a dataset or a language model, classic for an environment.
        A classic agent has its deployment, Undeployed, from the beginning, with this
        `memory_scope`.
        """
        wanted = None if kind is None else one_of(ProjectKind, kind, field="kind")
        scope = scope_of(memory_scope)
        freeze = frozen_checkpoint(
            self.session, experiment_id, checkpoint, Naming(name, description), wanted
        )
        changes = [Change(agent, freeze.agent_id, freeze)]
        if freeze.kind is ProjectKind.CLASSIC:
            changes.append(deployment_creation(freeze, scope))
        elif scope is not None:
            raise Rejected(
                "An advanced agent gets its deployment when it is connected: name the "
                "memory_scope there.",
                field="memory_scope",
            )
        self.session.execute(*changes)
        return self.get(freeze.agent_id)

    def get(self, agent_id: UUID) -> AgentView:
        """Return the agent.  Raises `NotFound`.

        What it says of the present is true of what this process answers, too.
        """
        self.session.find(agent.KIND, agent_id)
        of_deployment = self._deployment(agent_id)
        if self.session.as_of is None:
            self.registry.follow(of_deployment)
        # After the deployment: once that says that a swap is done, so does the agent.
        row = self.session.find(agent.KIND, agent_id)
        return agent_view(row, owner_of(self.session, row), of_deployment)

    def list(
        self,
        *,
        kind: ProjectKind | str | None = None,
        name: str | None = None,
        experiment_id: UUID | None = None,
        paging: Paging = ALL,
    ) -> Page[AgentView]:
        """Return the organisation's agents, in the order of their creation."""
        everything = Paging(paging.after)
        rows = self.session.query(
            agent.KIND, parent=experiment_id, name=name, paging=everything
        )
        wanted = None if kind is None else one_of(ProjectKind, kind, field="kind")
        shown = [row for row in rows if wanted in (None, row.state.kind)]
        return page(shown, self._view, paging)

    def look_up(
        self, name: str, *, experiment: str | None = None, project: str | None = None
    ) -> AgentView:
        """Return the one agent of that name, the names of its origin narrowing it.

        Raises `NotFound`, or `Ambiguous` with all that fit.
        """
        wanted = Wanted(self.session, trimmed(name), experiment, project)
        return wanted.only(self.list(name=wanted.name))

    def edit(
        self,
        agent_id: UUID,
        *,
        name: str | None = None,
        description: str | None = None,
    ) -> AgentView:
        """Rename or describe; None leaves as it is."""
        self.session.find(agent.KIND, agent_id)
        commands: list[object] = []
        if name is not None:
            commands.append(agent.RenameAgent(name))
        if description is not None:
            commands.append(agent.DescribeAgent(description))
        self.session.execute(*(Change(agent, agent_id, c) for c in commands))
        return self.get(agent_id)

    def delete(self, agent_id: UUID, *, reason: str | None = None) -> None:
        """Delete the agent and its deployment: nothing answers at its endpoint then."""
        self.session.find(agent.KIND, agent_id)
        delete = agent.DeleteAgent(RESTORE_WINDOW)
        self._with_deployment(
            Change(agent, agent_id, delete), deployment.DeleteDeployment(), reason
        )

    def restore(self, agent_id: UUID, *, reason: str | None = None) -> AgentView:
        """Undo a deletion, while that is possible.  The agent is Undeployed then."""
        self.session.find(agent.KIND, agent_id, deleted=True)
        self._with_deployment(
            Change(agent, agent_id, agent.RestoreAgent()),
            deployment.RestoreDeployment(),
            reason,
        )
        return self.get(agent_id)

    # --- putting it live -----------------------------------------------------------

    def connect(
        self,
        agent_id: UUID,
        *,
        memory_scope: deployment.MemoryScope | str | None = None,
        reason: str | None = None,
    ) -> AgentView:
        """Ask for the agent to be put live; return it, Pending unless it is live.

        Whatever process serves this store does the rest.  An advanced agent gets
        its deployment here, with the `memory_scope` that it then has for ever: to
        name another one later raises `Conflict`.  Asking again changes nothing.
        """
        row = self.session.find(agent.KIND, agent_id)
        scope, known = scope_of(memory_scope), self._deployment(agent_id)
        check_scope(known, scope)
        stream = deployment_of(AgentId(agent_id))
        changes = [Change(agent, agent_id, agent.RequireAgent())]
        if known is None:
            changes.append(deployment_creation(row.state, scope))
        changes.append(Change(deployment, stream, deployment.Connect()))
        self._execute(agent_id, changes, reason)
        return self.get(agent_id)

    def redeploy(
        self,
        agent_id: UUID,
        *,
        checkpoint: CheckpointChoice,
        guard: Guard | None = None,
        shadow: Shadow | None = None,
        reason: str | None = None,
    ) -> AgentView:
        """Give the agent another checkpoint of the experiment that it comes from.

        What is Deployed goes on answering and changes over once the new weights are
        loaded and checked.  `guard`: the old ones come back by themselves if a limit
        is crossed; `shadow`: the new ones are only compared.  Both need an agent that
        is Deployed.  To ask for what is live already ends a shadow.
        """
        state: agent.Agent = self.session.find(agent.KIND, agent_id).state
        frozen = chosen(self.session, state.origin.experiment_id, checkpoint)
        asked = RequestSwap(frozen, agent.Cause.REDEPLOY, guard, shadow)
        return self._replace(agent_id, asked, reason)

    def rollback(
        self, agent_id: UUID, *, to: str | None = None, reason: str | None = None
    ) -> AgentView:
        """Give the agent back a checkpoint that it has had.

        `to`: its digest; None: the one before the present one.  Raises `Conflict` if
        there is none.
        """
        state: agent.Agent = self.session.find(agent.KIND, agent_id).state
        back = state.checkpoint_before() if to is None else state.had(to)
        asked = RequestSwap(back, agent.Cause.ROLLBACK)
        return self._replace(agent_id, asked, reason)

    def wait(self, agent_id: UUID, *, timeout_s: float) -> AgentView:
        """Return the agent once nothing of it is under way, or as it is after the time.

        Whatever process of the server is asked next answers accordingly.
        """
        found = awaited(
            self.session.core.store,
            lambda: self.settled(agent_id),
            timeout_s,
            look_again_s=AGREEMENT_S,
        )
        return found or self.get(agent_id)

    def settled(self, agent_id: UUID) -> AgentView | None:
        """Return the agent, unless something of it is under way.

        That some process may still answer as before is under way, too.
        """
        found = self.get(agent_id)
        if is_pending(found):
            return None
        if self.session.as_of is not None:
            return found  # nobody can still answer otherwise than then
        agreement = self.session.core.agreement
        state = found.deployment
        if state is not None and state.connected:
            agreement.all_prepared(DeploymentId(state.id), state.digest, AGREEMENT_S)
        # Read after what is returned: the others must have followed at least that.
        row = self._deployment(agent_id)
        position = 0 if row is None else row.position
        return found if agreement.all_followed(position, AGREEMENT_S) else None

    def disconnect(self, agent_id: UUID, *, reason: str | None = None) -> AgentView:
        """Take the agent off its endpoint; the agent itself stays."""
        return self._order(agent_id, deployment.Disconnect(), reason)

    def rotate_key(self, agent_id: UUID, *, reason: str | None = None) -> AgentView:
        """Replace the deployment's key.  The old one is dead when this returns."""
        row = self._deployment_row(agent_id)
        change = Change(deployment, row.id, deployment.RotateKey())
        if not self._execute(agent_id, [change], reason):
            raise Unavailable(
                "The key is rotated, but not every process of the server has followed: "
                "where that hangs, the old key works until it goes on or ends."
            )
        return self.get(agent_id)

    def contents(self, agent_id: UUID) -> Contents:
        """Return what the bundle of the agent's checkpoint says of itself."""
        return contents(self.session.core.blobs, self.get(agent_id).checkpoint.digest)

    def access(self, agent_id: UUID) -> AccessView:
        """Return how to call the agent.  Raises `Conflict` unless it is Deployed."""
        found = self.get(agent_id)
        row = self._deployment_row(agent_id)
        state: deployment.Deployment = row.state
        if state.status is not deployment.Status.DEPLOYED:
            raise Conflict(
                f"The agent is {state.status.value}: there is a key and an endpoint "
                f"only while it is Deployed. {_REMEDIES[state.status]}"
            )
        stored = self.session.core.blobs.read(state.digest, bundles.MANIFEST_FILE)
        described = bundles.manifest(stored, golden=False)
        said = contents(self.session.core.blobs, state.digest)
        return AccessView(
            endpoint=None,
            api_key=self.keys.issue(state.id, state.key_version),
            algorithm=found.algorithm,
            shape=Shape(
                recurrent=described.is_recurrent,
                multi_agent=described.is_multi_agent,
                supervised=found.family in (Family.SUPERVISED, Family.LATENT),
                llm=found.family is Family.LLM,
            ),
            classes=said.classes,
            columns=said.columns,
        )

    # --- inside ----------------------------------------------------------------------

    def _replace(
        self, agent_id: UUID, asked: RequestSwap, reason: str | None
    ) -> AgentView:
        changes = replacement(self._deployment(agent_id), agent_id, asked)
        self._execute(agent_id, changes, reason)
        return self.get(agent_id)

    def _execute(
        self, agent_id: UUID, changes: Sequence[Change], reason: str | None
    ) -> bool:
        return carry_out(self.session, self.registry, agent_id, changes, reason)

    def _order(self, agent_id: UUID, command: object, reason: str | None) -> AgentView:
        """Give a command to the deployment that the agent has."""
        row = self._deployment_row(agent_id)
        self._execute(agent_id, [Change(deployment, row.id, command)], reason)
        return self.get(agent_id)

    def _with_deployment(
        self, change: Change, command: object, reason: str | None
    ) -> None:
        stream = deployment_of(AgentId(change.stream))
        changes = [change, Change(deployment, stream, command)]
        self._execute(change.stream, changes, reason)

    def _deployment(self, agent_id: UUID) -> Row | None:
        return self.session.rows.get(deployment_of(AgentId(agent_id)))

    def _deployment_row(self, agent_id: UUID) -> Row:
        self.session.find(agent.KIND, agent_id)
        row = self._deployment(agent_id)
        if row is None:
            raise NotFound(deployment.NO_DEPLOYMENT)
        return row

    def _view(self, row: Row) -> AgentView:
        return agent_view(row, owner_of(self.session, row), self._deployment(row.id))
