"""The identifiers of everything that has a life of its own."""

from typing import NewType
from uuid import UUID, uuid5

OrganisationId = NewType("OrganisationId", str)
ProjectId = NewType("ProjectId", UUID)
ExperimentId = NewType("ExperimentId", UUID)
AgentId = NewType("AgentId", UUID)
DeploymentId = NewType("DeploymentId", UUID)
TokenId = NewType("TokenId", UUID)
ImportId = NewType("ImportId", UUID)
WorkerId = NewType("WorkerId", UUID)

Digest = NewType("Digest", str)
"""SHA-256 of a checkpoint bundle's canonical listing, 64 lower-case hex digits."""

DEFAULT_ORGANISATION = OrganisationId("default")


def deployment_of(agent_id: AgentId) -> DeploymentId:
    """Return the id of the one deployment that `agent_id` can ever have.

    Being derived, it makes two creations of it collide on the first version of
    one stream, so that no look-up is needed to keep it unique.
    """
    return DeploymentId(uuid5(agent_id, "deployment"))
