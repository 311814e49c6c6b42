"""The identifiers of everything that has a life of its own."""

import unicodedata
from typing import NewType
from uuid import UUID, uuid5

OrganisationId = NewType("OrganisationId", str)
ProjectId = NewType("ProjectId", UUID)
ExperimentId = NewType("ExperimentId", UUID)
AgentId = NewType("AgentId", UUID)
DeploymentId = NewType("DeploymentId", UUID)
TokenId = NewType("TokenId", UUID)
ImportId = NewType("ImportId", UUID)
SignInId = NewType("SignInId", UUID)
WorkerId = NewType("WorkerId", UUID)
RequestId = NewType("RequestId", UUID)
UserId = NewType("UserId", UUID)
InvitationId = NewType("InvitationId", UUID)
PipelineId = NewType("PipelineId", UUID)
StageId = NewType("StageId", UUID)
RunId = NewType("RunId", UUID)

Digest = NewType("Digest", str)
"""SHA-256 of a checkpoint bundle's canonical listing, 64 lower-case hex digits."""

DEFAULT_ORGANISATION = OrganisationId("default")


def deployment_of(agent_id: AgentId) -> DeploymentId:
    """Return the id of the one deployment that `agent_id` can ever have.

    Being derived, it makes two creations of it collide on the first version of
    one stream, so that no look-up is needed to keep it unique.
    """
    return DeploymentId(uuid5(agent_id, "deployment"))


def agent_deployed_from(experiment_id: ExperimentId, number: int) -> AgentId:
    """Return the id of the agent that a deploy of the experiment makes.

    `number`: how many such agents were deleted before.  Being derived, it keeps two
    deploys at the same time from making two agents.
    """
    return AgentId(uuid5(experiment_id, f"deployed {number}"))


def training_of(experiment_id: ExperimentId, number: int) -> RunId:
    """Return the id under which the experiment's training `number` is known outside.

    It is the key of its one effect: what is started under it is started once.
    """
    return RunId(uuid5(experiment_id, f"training {number}"))


def run_of(stage_id: StageId, number: int) -> RunId:
    """Return the id of the stage's run `number`, from 1."""
    return RunId(uuid5(stage_id, f"run {number}"))


def agent_added_by(run_id: RunId) -> AgentId:
    """Return the id of the agent that a run of a stage may leave behind."""
    return AgentId(uuid5(run_id, "added"))


def agent_deployed_by(stage_id: StageId, number: int) -> AgentId:
    """Return the id of the agent that a Deployment stage puts live.

    `number`: how many it has had before, which were deleted or are of another
    experiment.
    """
    return AgentId(uuid5(stage_id, f"deployed {number}"))


_OF_USERS = UUID("7d0d3a1e-3c0b-5a43-9b59-5f1f0a9f2c11")
_OF_ORGANISATIONS = UUID("c3b1f1de-6f5c-5d0a-8f0e-2d7f6b1a4e72")


def user_of(name: str) -> UserId:
    """Return the id of whoever signs in as `name`.

    Case, and what merely looks different (NFKC), do not tell two people apart.
    """
    folded = unicodedata.normalize("NFKC", name.strip()).casefold()
    return UserId(uuid5(_OF_USERS, unicodedata.normalize("NFKC", folded)))


def organisation_of(organisation: OrganisationId) -> UUID:
    """Return the stream of an organisation, whose own id is a text."""
    return uuid5(_OF_ORGANISATIONS, organisation)


_OF_SIGN_INS = UUID("5b0f7f6e-9c1d-5e0a-8a53-3f9d8c41b27a")


def sign_in_of(user_code: str, minute: int) -> SignInId:
    """Return the id of the sign-in that began in a minute under a code.

    So nothing has to be kept of a sign-in that nobody has decided about.
    """
    return SignInId(uuid5(_OF_SIGN_INS, f"{minute}:{user_code}"))
