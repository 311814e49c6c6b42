"""What tests of the use cases begin with: an open store, and callers who use it."""

from itertools import count
from pathlib import Path
from uuid import UUID

from attrs import field, frozen

import arena_core
from arena_core import Actor, ActorKind, Arena, Caller, Role, best, gym
from arena_core.application.ports import Context
from arena_core.application.resources import AgentView, ExperimentView
from arena_core.application.use_cases import UseCases
from arena_core.domain.ids import (
    DEFAULT_ORGANISATION,
    AgentId,
    OrganisationId,
    deployment_of,
)
from arena_core.domain.values import LIBRARY

import bundles

CARTPOLE = gym("CartPole-v1")


def caller(name: str, *, organisation: str = "default", role: Role = Role.MEMBER):
    return Caller(OrganisationId(organisation), Actor(ActorKind.USER, name), role)


ANN = caller("ann")
MANAGER = caller("eve", role=Role.MANAGER)
STRANGER = caller("sam", organisation="rivals", role=Role.MANAGER)
CONTEXT = Context(DEFAULT_ORGANISATION, ANN.actor, UUID(int=1), UUID(int=1))


@frozen
class Scene:
    """An arena in which nothing happens by itself: `pass_` is one supervisor's pass."""

    arena: Arena
    folder: Path
    _numbers: count = field(factory=count)

    @classmethod
    def open(cls, folder: Path, store: str = "memory:", **settings) -> "Scene":
        return cls(arena_core.open(store, serve=False, **settings), folder)

    @property
    def use(self) -> UseCases:
        return self.arena.on_behalf_of(ANN)

    def operator(self, organisation: str = "default") -> UseCases:
        """Return what whoever has the store can do in an organisation."""
        where = OrganisationId(organisation)
        return self.arena.on_behalf_of(Caller(where, LIBRARY, Role.MANAGER))

    @property
    def registry(self):
        return self.arena.application.registry

    def bundle(self, write=bundles.cartpole, **options) -> Path:
        """Return the folder of a bundle that `write` has written."""
        return write(self.folder / f"bundle{next(self._numbers)}", **options)

    def experiment(
        self,
        *,
        kind: str = "classic",
        project: UUID | None = None,
        bundle: Path | None = None,
        scores: dict[int, float | None] | None = None,
        **said,
    ) -> ExperimentView:
        """Return an experiment with a checkpoint for each step of `scores`."""
        if project is None:
            project = self.use.projects.create("cart", kind=kind).id
        said = {"name": "ppo", "algorithm": "PPO", "source": CARTPOLE} | said
        made = self.use.experiments.create(project, **said)
        steps = {10: 1.0} if scores is None else scores
        folder = bundle if bundle is not None or not steps else self.bundle()
        for step, fitness in steps.items():
            self.use.experiments.add_checkpoint(
                made.id, step=step, path=folder, fitness=fitness
            )
        return self.use.experiments.get(made.id)

    def agent(self, name: str = "balancer", *, kind=None, **said) -> AgentView:
        """Return an agent of a new experiment, of which `of` is the name."""
        made = self.experiment(name=said.pop("of", "ppo"), **said)
        return self.use.agents.create(name, made.id, checkpoint=best(), kind=kind)

    def saved_model(self, name: str = "forecaster", **said) -> AgentView:
        """Return an agent of the kind advanced: it has no deployment."""
        project = self.advanced().id
        return self.agent(name, kind="advanced", project=project, **said)

    def advanced(self):
        return self.use.projects.create("forecasts", kind="advanced")

    def live(self, agent: AgentView) -> AgentView:
        """Connect `agent` and return it as it is when it is live, or has failed."""
        self.use.agents.connect(agent.id)
        self.pass_()
        return self.use.agents.get(agent.id)

    def pass_(self) -> None:
        self.arena.supervisor.reconcile()

    def log(self) -> list[str]:
        """Return the names of all events."""
        return [r.name for r in self.arena.application.core.store.read_all()]


def key_of(agent: AgentView) -> str:
    """Return how the registry calls the deployment of `agent`."""
    return str(deployment_of(AgentId(agent.id)))
