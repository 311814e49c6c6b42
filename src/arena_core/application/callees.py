"""What whoever wants to call an agent must know of it, beyond where it answers."""

from attrs import frozen

from arena_core.application import bundles
from arena_core.application.resources import AgentView
from arena_core.application.session import Paging, Session
from arena_core.domain import agent, experiment
from arena_core.domain.checkpoint import Manifest
from arena_core.domain.ids import Digest
from arena_core.domain.values import SourceKind


@frozen
class Callee:
    """An agent that answers, as its callers see it."""

    name: str
    is_only: bool
    """Whether no other agent of the organisation has the name."""
    manifest: Manifest
    """Of the checkpoint that answers."""
    gym: str | None
    """The environment that it was trained in, if it was in one."""


def callee(session: Session, shown: AgentView, digest: Digest) -> Callee:
    """Return the agent, which answers with the checkpoint of `digest`."""
    stored = session.core.blobs.read(digest, bundles.MANIFEST_FILE)
    trained = session.find(experiment.KIND, shown.experiment_id, deleted=True)
    source = trained.state.setup.source
    namesakes = session.query(agent.KIND, name=shown.name, paging=Paging(limit=1))
    return Callee(
        name=shown.name,
        is_only=len(namesakes) == 1,
        manifest=bundles.manifest(stored, golden=False),
        gym=source.name if source and source.kind is SourceKind.GYM else None,
    )
