"""Events as bytes: the only place that knows stored names, versions and upcasts.

Once released, a stored name is for ever and a body is never rewritten.  An event
that changes its shape gets an upcast, which makes the body of one version a body
of the next, and a stored body of the old version in `tests/history/`.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import msgspec
from attrs import frozen

from arena_core.application.decoding import convert, decoder
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
    stage_events,
    stage_run,
    swap,
    user,
)
from arena_core.domain.errors import Rejected, UnknownEvent

Body: TypeAlias = dict[str, Any]
Upcast: TypeAlias = Callable[[Body], Body]
"""Makes a body of one version one of the next.  Named after what it repairs."""


@frozen
class EventType:
    """An event class, the name it is stored under, and how older bodies are read."""

    name: str
    cls: type
    upcasts: Sequence[Upcast] = ()

    @property
    def version(self) -> int:
        return 1 + len(self.upcasts)


class Catalogue:
    """Every type of event that this release can write and read."""

    def __init__(self, types: Sequence[EventType]) -> None:
        self.types = tuple(types)
        self._by_class = {kind.cls: kind for kind in types}
        self._by_name = {kind.name: kind for kind in types}

    def encode(self, event: object) -> tuple[str, int, bytes]:
        """Return the stored name, its version and the body of `event`.

        Raises `Rejected` if JSON cannot hold it, or if it would not come back: what
        nobody can read must never get into a log from which nothing is removed.
        """
        kind = self._by_class[type(event)]
        body = to_json(event)
        check_readable(decoder(kind.cls), body)
        return kind.name, kind.version, body

    def decode(self, name: str, version: int, body: bytes) -> object:
        """Return the event as today's class, whatever version was stored.

        Raises `UnknownEvent` for a name, a version or a body that this release
        does not know.
        """
        kind = self._by_name.get(name)
        if kind is None or not 1 <= version <= kind.version:
            raise UnknownEvent(
                f"This release does not know the event {name} version {version}, "
                "which a newer release wrote: upgrade arena-core to read it."
            )
        try:
            if version == kind.version:
                return decoder(kind.cls).decode(body)
            return convert(_upcast(kind, version, body), kind.cls)
        except (
            msgspec.MsgspecError,
            Rejected,
            LookupError,
            TypeError,
            ValueError,
        ) as e:
            raise UnknownEvent(
                f"The body of the event {name} version {version} is none that this "
                "release wrote: read it with the release that did."
            ) from e


def _upcast(kind: EventType, version: int, body: bytes) -> Body:
    repaired: Body = msgspec.json.decode(body, type=dict[str, Any])
    for upcast in kind.upcasts[version - 1 :]:
        repaired = upcast(repaired)
    return repaired


def to_json(value: object) -> bytes:
    """Return `value` as JSON, members sorted by name.

    Raises `Rejected` if it holds what JSON cannot.
    """
    try:
        return msgspec.json.encode(value, order="sorted")
    except TypeError as error:
        raise Rejected(f"A value has a wrong type: {error}.") from error
    except (ValueError, OverflowError) as error:
        raise Rejected(
            "It holds half of a surrogate pair or a number of thousands of digits, "
            "which cannot be stored: send valid Unicode and smaller numbers."
        ) from error


def check_readable(decoder: "msgspec.json.Decoder[Any]", data: bytes) -> None:
    """Raise `Rejected` unless `decoder` reads `data`, which are to be stored."""
    try:
        decoder.decode(data)
    except msgspec.ValidationError as error:
        problem = str(error).replace("`", "").replace("[", "(").replace("]", ")")
        raise Rejected(f"A value has a wrong type: {problem}.") from error


def _only_uploaded_or_imported(body: Body) -> Body:
    """Nothing trained here before, so no training has written it."""
    return {**body, "training": None}


def _began_with_nothing_of_others(body: Body) -> Body:
    """There were neither pipelines nor decoders, and nobody was told a seed."""
    beginning = {"weights": None, "decoder": None, "seed": None}
    return {**body, "beginning": beginning, "stage": None, "resume_of": None}


CATALOGUE = Catalogue(
    (
        EventType("project.created", project.ProjectCreated),
        EventType("project.renamed", project.ProjectRenamed),
        EventType("project.described", project.ProjectDescribed),
        EventType("project.deleted", project.ProjectDeleted),
        EventType("experiment.drafted", experiment.ExperimentDrafted),
        EventType("experiment.configured", experiment.ExperimentConfigured),
        EventType("experiment.renamed", experiment.ExperimentRenamed),
        EventType("experiment.bound", experiment.ExperimentBound),
        EventType("experiment.released", experiment.ExperimentReleased),
        EventType(
            "experiment.checkpoint_written",
            experiment.CheckpointWritten,
            upcasts=(_only_uploaded_or_imported,),
        ),
        EventType("experiment.checkpoint_deleted", experiment.CheckpointDeleted),
        EventType(
            "experiment.training_requested",
            experiment.TrainingRequested,
            upcasts=(_began_with_nothing_of_others,),
        ),
        EventType("experiment.training_claimed", experiment.TrainingClaimed),
        EventType("experiment.training_started", experiment.TrainingStarted),
        EventType("experiment.stop_requested", experiment.StopRequested),
        EventType("experiment.training_stopped", experiment.TrainingStopped),
        EventType("experiment.training_succeeded", experiment.TrainingSucceeded),
        EventType("experiment.training_failed", experiment.TrainingFailed),
        EventType("experiment.deleted", experiment.ExperimentDeleted),
        EventType("pipeline.created", pipeline.PipelineCreated),
        EventType("pipeline.duplicated", pipeline.PipelineDuplicated),
        EventType("pipeline.renamed", pipeline.PipelineRenamed),
        EventType("pipeline.described", pipeline.PipelineDescribed),
        EventType("pipeline.stage_inserted", pipeline.StageInserted),
        EventType("pipeline.stage_moved", pipeline.StageMoved),
        EventType("pipeline.stage_edited", pipeline.StageEdited),
        EventType("pipeline.stage_removed", pipeline.StageRemoved),
        EventType("pipeline.deleted", pipeline.PipelineDeleted),
        EventType("stage.triggered", stage_events.StageTriggered),
        EventType("stage.checkpoint_consumed", stage_events.CheckpointConsumed),
        EventType("stage.condition_checked", stage_run.ConditionChecked),
        EventType("stage.approval_requested", stage_events.ApprovalRequested),
        EventType("stage.approved", stage_events.StageApproved),
        EventType("stage.started", stage_events.StageStarted),
        EventType("stage.attempt_failed", stage_events.AttemptFailed),
        EventType("stage.stop_requested", stage_events.StageStopRequested),
        EventType("stage.succeeded", stage_events.StageSucceeded),
        EventType("stage.failed", stage_events.StageFailed),
        EventType("stage.stopped", stage_events.StageStopped),
        EventType("import.requested", checkpoint_import.ImportRequested),
        EventType("import.claimed", checkpoint_import.ImportClaimed),
        EventType("import.succeeded", checkpoint_import.ImportSucceeded),
        EventType("import.failed", checkpoint_import.ImportFailed),
        EventType("import.interrupted", checkpoint_import.ImportInterrupted),
        EventType("import.released", checkpoint_import.ImportReleased),
        EventType("import.cancelled", checkpoint_import.ImportCancelled),
        EventType("agent.checkpoint_frozen", agent.CheckpointFrozen),
        EventType("agent.renamed", agent.AgentRenamed),
        EventType("agent.described", agent.AgentDescribed),
        EventType("agent.checkpoint_replaced", agent.CheckpointReplaced),
        EventType("agent.deleted", agent.AgentDeleted),
        EventType("agent.restored", agent.AgentRestored),
        EventType("deployment.created", deployment.DeploymentCreated),
        EventType("deployment.connect_requested", deployment.ConnectRequested),
        EventType("deployment.connect_claimed", deployment.ConnectClaimed),
        EventType("deployment.parity_checked", deployment.ParityChecked),
        EventType("deployment.connected", deployment.Connected),
        EventType("deployment.connect_failed", deployment.ConnectFailed),
        EventType("deployment.connection_lost", deployment.ConnectionLost),
        EventType("deployment.server_replaced", deployment.ServerReplaced),
        EventType("deployment.checkpoint_assigned", deployment.CheckpointAssigned),
        EventType("deployment.swap_requested", swap.SwapRequested),
        EventType("deployment.swap_claimed", swap.SwapClaimed),
        EventType("deployment.swap_interrupted", swap.SwapInterrupted),
        EventType("deployment.swap_failed", swap.SwapFailed),
        EventType("deployment.checkpoint_swapped", swap.CheckpointSwapped),
        EventType("deployment.swap_passed", swap.SwapPassed),
        EventType("deployment.swap_reverted", swap.SwapReverted),
        EventType("deployment.shadow_started", swap.ShadowStarted),
        EventType("deployment.shadow_compared", swap.ShadowCompared),
        EventType("deployment.baking_stopped", swap.BakingStopped),
        EventType("deployment.disconnected", deployment.Disconnected),
        EventType("deployment.key_rotated", deployment.DeploymentKeyRotated),
        EventType("deployment.deleted", deployment.DeploymentDeleted),
        EventType("deployment.restored", deployment.DeploymentRestored),
        EventType("credential.access_token_issued", credential.AccessTokenIssued),
        EventType("credential.access_token_rotated", credential.AccessTokenRotated),
        EventType("credential.access_token_revoked", credential.AccessTokenRevoked),
        EventType("request.carried_out", keyed_request.RequestCarriedOut),
        EventType("user.registered", user.UserRegistered),
        EventType("user.described", user.UserDescribed),
        EventType("user.organisation_joined", user.OrganisationJoined),
        EventType("user.organisation_left", user.OrganisationLeft),
        EventType("user.organisation_chosen", user.OrganisationChosen),
        EventType("user.personal_token_held", user.PersonalTokenHeld),
        EventType("user.personal_token_released", user.PersonalTokenReleased),
        EventType("organisation.created", organisation.OrganisationCreated),
        EventType("organisation.renamed", organisation.OrganisationRenamed),
        EventType("organisation.member_invited", organisation.MemberInvited),
        EventType(
            "organisation.invitation_withdrawn", organisation.InvitationWithdrawn
        ),
        EventType("organisation.member_joined", organisation.MemberJoined),
        EventType("organisation.member_role_changed", organisation.MemberRoleChanged),
        EventType("organisation.member_removed", organisation.MemberRemoved),
        EventType("sign_in.approved", sign_in.SignInApproved),
        EventType("sign_in.denied", sign_in.SignInDenied),
        EventType("sign_in.redeemed", sign_in.SignInRedeemed),
        EventType("sign_in.signed_out", sign_in.SignedOut),
    )
)


def encode(event: object) -> tuple[str, int, bytes]:
    """Return the stored name, its version and the body.  See `Catalogue.encode`."""
    return CATALOGUE.encode(event)


def decode(name: str, version: int, body: bytes) -> object:
    """Return the event as today's class.  See `Catalogue.decode`."""
    return CATALOGUE.decode(name, version, body)
