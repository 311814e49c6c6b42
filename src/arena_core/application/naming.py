"""What is meant by a name, among things of which several may have it."""

from collections.abc import Iterable, Sequence

from attrs import field, frozen

from arena_core.application.ports import Row
from arena_core.application.resources import AgentView
from arena_core.application.session import Session
from arena_core.domain import experiment, project
from arena_core.domain.errors import Ambiguous, NotFound
from arena_core.domain.ids import ProjectId
from arena_core.domain.values import shown, trimmed


def the_project(session: Session, name: str) -> Row:
    """Return the one project of that name.  Raises `NotFound` or `Ambiguous`."""
    name = trimmed(name, field="project")
    fitting = session.query(project.KIND, name=name)
    if not fitting:
        raise NotFound(f"There is no project called {shown(name)}.")
    if len(fitting) > 1:
        story = "; ".join(
            f"{row.id}, {row.state.kind.title}, created {row.created_at:%Y-%m-%d %H:%M}"
            for row in fitting
        )
        raise Ambiguous(
            f"{len(fitting)} projects are called {shown(name)}: {story}. Rename or "
            "delete all but one, by the id."
        )
    return fitting[0]


def the_experiment(session: Session, name: str, *, project: str | None = None) -> Row:
    """Return the experiment of that name of which the latest event is known.

    `project`: the name of its project, if it matters.  Raises `NotFound`.
    """
    name = trimmed(name, field="experiment_name")
    fitting = [
        row
        for row in session.query(experiment.KIND, name=name)
        if project is None or project_name(session, row.state.project_id) == project
    ]
    if not fitting:
        raise NotFound(
            f"There is no experiment called {shown(name)}"
            + ("." if project is None else f" in a project called {shown(project)}.")
        )
    return max(fitting, key=lambda row: row.position)


def project_name(session: Session, project_id: ProjectId) -> str | None:
    row = session.rows.get(project_id)
    return None if row is None else row.name


def _plain(name: str | None) -> str | None:
    """Return a filter without surrounding space; what is blank filters nothing."""
    return (name or "").strip() or None


@frozen
class Wanted:
    """An agent by its name, and by the names of where it comes from.

    Each is compared exactly, but for surrounding space; None fits all.
    """

    session: Session
    name: str | None = field(default=None, converter=_plain)
    experiment: str | None = field(default=None, converter=_plain)
    project: str | None = field(default=None, converter=_plain)

    def among(self, agents: Iterable[AgentView]) -> Sequence[AgentView]:
        """Return those of `agents` that fit."""
        return [
            agent
            for agent in agents
            if self.name in (None, agent.name)
            and self.experiment in (None, agent.experiment_name)
            and self.project in (None, self._project(agent))
        ]

    def only(self, agents: Iterable[AgentView]) -> AgentView:
        """Return the one that fits.  Raises `NotFound`, or `Ambiguous` with all."""
        name, fitting = shown(self.name or ""), self.among(agents)
        if not fitting:
            raise NotFound(f"There is no agent called {name}.")
        if len(fitting) == 1:
            return fitting[0]
        story = "; ".join(
            f"{agent.id} of the experiment {agent.experiment_name} in the project "
            f"{self._project(agent)}"
            for agent in fitting
        )
        raise Ambiguous(
            f"{len(fitting)} agents are called {name}: {story}. Use the id, name the "
            "experiment or the project too where that is possible, or rename one."
        )

    def _project(self, agent: AgentView) -> str | None:
        return project_name(self.session, ProjectId(agent.project_id))
