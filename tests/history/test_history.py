"""Bodies as releases have stored them: each must be readable for ever.

A file of `bodies/` is never changed.  A new event, or a new version of one, adds one.
"""

import re
from pathlib import Path
from typing import get_args

import pytest

from arena_core.adapters.codec import CATALOGUE, decode, encode
from arena_core.domain import (
    agent,
    checkpoint_import,
    credential,
    deployment,
    experiment,
    keyed_request,
    organisation,
    pipeline,
    project,
    sign_in,
    stage,
    user,
)
from arena_core.domain.errors import UnknownEvent

BODIES = sorted((Path(__file__).parent / "bodies").glob("*.json"))
MODULES = (
    project,
    experiment,
    pipeline,
    stage,
    checkpoint_import,
    agent,
    deployment,
    credential,
    keyed_request,
    user,
    organisation,
    sign_in,
)

# Names are for ever: this list only grows.
STORED = """
project.created@1 ProjectCreated
project.renamed@1 ProjectRenamed
project.described@1 ProjectDescribed
project.deleted@1 ProjectDeleted
experiment.drafted@1 ExperimentDrafted
experiment.configured@1 ExperimentConfigured
experiment.renamed@1 ExperimentRenamed
experiment.bound@1 ExperimentBound
experiment.released@1 ExperimentReleased
experiment.checkpoint_written@1 CheckpointWritten
experiment.checkpoint_written@2 CheckpointWritten
experiment.checkpoint_deleted@1 CheckpointDeleted
experiment.training_requested@1 TrainingRequested
experiment.training_requested@2 TrainingRequested
experiment.training_claimed@1 TrainingClaimed
experiment.training_started@1 TrainingStarted
experiment.stop_requested@1 StopRequested
experiment.training_stopped@1 TrainingStopped
experiment.training_succeeded@1 TrainingSucceeded
experiment.training_failed@1 TrainingFailed
experiment.deleted@1 ExperimentDeleted
import.requested@1 ImportRequested
import.claimed@1 ImportClaimed
import.succeeded@1 ImportSucceeded
import.failed@1 ImportFailed
import.interrupted@1 ImportInterrupted
import.released@1 ImportReleased
import.cancelled@1 ImportCancelled
agent.checkpoint_frozen@1 CheckpointFrozen
agent.renamed@1 AgentRenamed
agent.described@1 AgentDescribed
agent.checkpoint_replaced@1 CheckpointReplaced
agent.deleted@1 AgentDeleted
agent.restored@1 AgentRestored
deployment.created@1 DeploymentCreated
deployment.connect_requested@1 ConnectRequested
deployment.connect_claimed@1 ConnectClaimed
deployment.parity_checked@1 ParityChecked
deployment.connected@1 Connected
deployment.connect_failed@1 ConnectFailed
deployment.connection_lost@1 ConnectionLost
deployment.server_replaced@1 ServerReplaced
deployment.checkpoint_assigned@1 CheckpointAssigned
deployment.swap_requested@1 SwapRequested
deployment.swap_claimed@1 SwapClaimed
deployment.swap_interrupted@1 SwapInterrupted
deployment.swap_failed@1 SwapFailed
deployment.checkpoint_swapped@1 CheckpointSwapped
deployment.swap_passed@1 SwapPassed
deployment.swap_reverted@1 SwapReverted
deployment.shadow_started@1 ShadowStarted
deployment.shadow_compared@1 ShadowCompared
deployment.baking_stopped@1 BakingStopped
deployment.disconnected@1 Disconnected
deployment.key_rotated@1 DeploymentKeyRotated
deployment.deleted@1 DeploymentDeleted
deployment.restored@1 DeploymentRestored
credential.access_token_issued@1 AccessTokenIssued
credential.access_token_rotated@1 AccessTokenRotated
credential.access_token_revoked@1 AccessTokenRevoked
request.carried_out@1 RequestCarriedOut
user.registered@1 UserRegistered
user.described@1 UserDescribed
user.organisation_joined@1 OrganisationJoined
user.organisation_left@1 OrganisationLeft
user.organisation_chosen@1 OrganisationChosen
user.personal_token_held@1 PersonalTokenHeld
user.personal_token_released@1 PersonalTokenReleased
organisation.created@1 OrganisationCreated
organisation.renamed@1 OrganisationRenamed
organisation.member_invited@1 MemberInvited
organisation.invitation_withdrawn@1 InvitationWithdrawn
organisation.member_joined@1 MemberJoined
organisation.member_role_changed@1 MemberRoleChanged
organisation.member_removed@1 MemberRemoved
sign_in.approved@1 SignInApproved
sign_in.denied@1 SignInDenied
sign_in.redeemed@1 SignInRedeemed
sign_in.signed_out@1 SignedOut
pipeline.created@1 PipelineCreated
pipeline.duplicated@1 PipelineDuplicated
pipeline.renamed@1 PipelineRenamed
pipeline.described@1 PipelineDescribed
pipeline.stage_inserted@1 StageInserted
pipeline.stage_moved@1 StageMoved
pipeline.stage_edited@1 StageEdited
pipeline.stage_removed@1 StageRemoved
pipeline.deleted@1 PipelineDeleted
stage.triggered@1 StageTriggered
stage.checkpoint_consumed@1 CheckpointConsumed
stage.condition_checked@1 ConditionChecked
stage.approval_requested@1 ApprovalRequested
stage.approved@1 StageApproved
stage.started@1 StageStarted
stage.attempt_failed@1 AttemptFailed
stage.stop_requested@1 StageStopRequested
stage.succeeded@1 StageSucceeded
stage.failed@1 StageFailed
stage.stopped@1 StageStopped
"""
CLASSES = dict(line.split() for line in STORED.split("\n") if line)


def name_and_version(path: Path) -> tuple[str, int]:
    name, _, version = path.stem.rpartition("@")
    return name, int(version)


@pytest.mark.parametrize("path", BODIES, ids=lambda path: path.stem)
def test_a_stored_body_is_read_as_its_class(path):
    event = decode(*name_and_version(path), path.read_bytes())
    assert type(event).__name__ == CLASSES[path.stem]


@pytest.mark.parametrize("path", BODIES, ids=lambda path: path.stem)
def test_a_body_of_todays_version_is_written_as_it_was(path):
    event = decode(*name_and_version(path), path.read_bytes())
    name, version, body = encode(event)
    if (name, version) == name_and_version(path):
        assert body == path.read_bytes()


def test_every_version_of_every_event_has_a_body():
    known = [
        f"{kind.name}@{version}"
        for kind in CATALOGUE.types
        for version in range(1, kind.version + 1)
    ]
    assert sorted(known) == sorted(CLASSES) == sorted(path.stem for path in BODIES)


def events_of(module):
    """Return the event classes of a module: those of its union, or the only one."""
    return get_args(module.Event) or (module.Event,)


def test_the_catalogue_holds_every_event_of_the_domain_once():
    events = [cls for module in MODULES for cls in events_of(module)]
    assert [kind.cls for kind in CATALOGUE.types] == events
    assert len({kind.name for kind in CATALOGUE.types}) == len(events)


def test_names_begin_with_the_kind_of_their_aggregate():
    kinds = {cls: module.KIND for module in MODULES for cls in events_of(module)}
    for kind in CATALOGUE.types:
        aggregate, _, fact = kind.name.partition(".")
        assert aggregate == kinds[kind.cls]
        assert re.fullmatch("[a-z_]+", fact)


@pytest.mark.parametrize("kind", CATALOGUE.types, ids=lambda kind: kind.name)
def test_a_newer_version_is_refused(kind):
    with pytest.raises(UnknownEvent, match="newer release"):
        decode(kind.name, kind.version + 1, b"{}")
