"""Trainers and supervisors that are played by hand: a test says in which order.

What they would append is appended by the very commands that they use.  Nothing is
trained and no weights are loaded, so a digest may be that of nothing at all.
"""

from datetime import timedelta
from uuid import UUID, uuid4

from attrs import evolve, frozen

from arena_core.application.handling import Change
from arena_core.application.session import Core
from arena_core.application.streams import Streams
from arena_core.domain import agent, deployment, experiment, swap_commands
from arena_core.domain.deployment import Deployment
from arena_core.domain.experiment import Experiment
from arena_core.domain.ids import Digest, WorkerId
from arena_core.domain.parity import Parity, Verdict
from arena_core.domain.training_commands import (
    AcknowledgeStop,
    ClaimTraining,
    FailTraining,
    FinishTraining,
    RecordTrainedCheckpoint,
    StartTraining,
)
from unit.scenes import CONTEXT

WORKER = WorkerId(UUID(int=77))
LEASE = timedelta(hours=1)


def handle(core: Core, *changes: Change) -> None:
    """Append the changes, as an order of its own."""
    core.handler.handle(evolve(CONTEXT, command_id=uuid4()), *changes)


@frozen
class Training:
    """That of one experiment, as a trainer records it."""

    core: Core
    experiment_id: UUID

    @property
    def state(self) -> Experiment:
        found = Streams(self.core.store).state(experiment, self.experiment_id)
        assert found is not None
        return found

    def begin(self) -> None:
        """Take it on."""
        self.do(ClaimTraining(WORKER, self.core.clock() + LEASE))
        self.do(StartTraining(WORKER, self._claim()))

    def write(self, step: int, digest: Digest) -> None:
        self.do(RecordTrainedCheckpoint(WORKER, self._claim(), step, digest, 1))

    def finish(self) -> None:
        self.do(FinishTraining(WORKER, self._claim()))

    def fail(self, reason: str) -> None:
        self.do(FailTraining(WORKER, self._claim(), reason))

    def acknowledge_stop(self) -> None:
        self.do(AcknowledgeStop(WORKER, self._claim()))

    def do(self, command: object) -> None:
        handle(self.core, Change(experiment, self.experiment_id, command))

    def _claim(self) -> int:
        training = self.state.training
        assert training is not None
        return training.claims


@frozen
class Serving:
    """That of one deployment, as a supervisor records it."""

    core: Core
    deployment_id: UUID

    @property
    def state(self) -> Deployment:
        found = Streams(self.core.store).state(deployment, self.deployment_id)
        assert found is not None
        return found

    def finish(self) -> None:
        """Have what was asked for answer; nothing if nothing was."""
        swap = self.state.swap
        if swap is not None:
            self._claim(swap_commands.ClaimSwap)
            self._check()
            replaced = agent.ReplaceCheckpoint(swap.checkpoint, swap.cause)
            self._do(
                swap_commands.ConfirmSwap(WORKER, self.state.claims, "onnx", "cpu", 1),
                Change(agent, self.state.agent_id, replaced),
            )
        elif self.state.status is deployment.Status.PENDING:
            self._claim(deployment.ClaimConnect)
            self._check()
            self._do(
                deployment.ConfirmConnected(WORKER, self.state.claims, "onnx", "cpu", 1)
            )

    def fail(self, reason: str) -> None:
        if self.state.swap is not None:
            self._claim(swap_commands.ClaimSwap)
            self._do(swap_commands.FailSwap(WORKER, self.state.claims, reason))
        elif self.state.status is deployment.Status.PENDING:
            self._claim(deployment.ClaimConnect)
            self._do(deployment.FailConnect(WORKER, self.state.claims, reason))

    def _claim(self, how: type) -> None:
        self._do(how(WORKER, self.core.clock() + LEASE))

    def _check(self) -> None:
        passed = Parity(Verdict.PASSED, 128)
        self._do(deployment.RecordParity(WORKER, self.state.claims, passed))

    def _do(self, command: object, *besides: Change) -> None:
        handle(self.core, Change(deployment, self.deployment_id, command), *besides)
