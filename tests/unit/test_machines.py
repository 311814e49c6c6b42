"""Random lives of every aggregate, held against what is always true of it."""

from functools import reduce
from types import ModuleType
from typing import Any, get_args

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule

from arena_core.domain import (
    agent,
    checkpoint_import,
    credential,
    deployment,
    experiment,
    guards,
    parity,
    project,
    swap,
    swap_commands,
)
from arena_core.domain.errors import Conflict, IllegalTransition, NotFound
from unit.life import (
    DIGESTS,
    ELSEWHERE,
    IDS,
    LEASE,
    NOW,
    Life,
    TimedLife,
    creations,
    every,
    one_kind_of,
)


class ProjectLife(Life):
    module = project
    ends = (project.DeleteProject,)

    @invariant()
    @precondition(lambda self: self.history)
    def it_is_what_it_was_created_as(self):
        created = self.events[0]
        assert (self.state.id, self.state.kind) == (created.project_id, created.kind)


class AgentLife(TimedLife):
    module = agent
    ends = (agent.DeleteAgent,)
    revivals = (agent.RestoreAgent,)

    @invariant()
    @precondition(lambda self: self.history)
    def its_checkpoint_is_the_one_that_was_ordered_last(self):
        created, *events = self.events
        assert (self.state.kind, self.state.origin) == (created.kind, created.origin)
        present, order = created.checkpoint, [created.checkpoint.digest]
        for event in events:
            if isinstance(event, agent.CheckpointReplaced):
                present = event.checkpoint
                if event.cause is agent.Cause.REDEPLOY or present.digest not in order:
                    order = [d for d in order if d != present.digest] + [present.digest]
        assert self.state.checkpoint == present
        assert [c.digest for c in self.state.checkpoints] == order

    @invariant()
    @precondition(lambda self: self.history)
    def a_rollback_leads_to_one_that_it_has_had_or_nowhere(self):
        first = self.state.checkpoints[0].digest
        if self.state.checkpoint.digest == first:
            with pytest.raises(Conflict):
                self.state.checkpoint_before()
        else:
            assert self.state.checkpoint_before() in self.state.earlier

    @invariant()
    def it_comes_back_in_time_or_never(self):
        until = None
        for at, event in self.history:
            match event:
                case agent.AgentDeleted():
                    assert until is None
                    until = event.restorable_until
                case agent.AgentRestored():
                    assert at <= until
                    until = None
                case _:
                    assert until is None


class CredentialLife(Life):
    module = credential
    ends = (credential.RevokeAccessToken,)

    @invariant()
    @precondition(lambda self: self.history)
    def only_the_newest_secret_opens(self):
        secrets = [e.secret for e in self.events if hasattr(e, "secret")]
        assert self.state.secret == secrets[-1]
        assert self.state.role is self.events[0].role


class ExperimentLife(TimedLife):
    module = experiment
    each_time = (experiment.ClaimTraining,)  # a lease is renewed
    ends = (experiment.DeleteExperiment,)
    workers = st.sampled_from(IDS)

    def __init__(self):
        super().__init__()
        self.holder = None
        self.claims = 0
        self.lease_until = NOW
        self.losses = 0
        self.has_written = False
        """Whether the present training has."""

    def commands(self):
        return [
            attrs.evolve(command, lease_until=self.now + LEASE)
            if isinstance(command, experiment.ClaimTraining)
            else command
            for command in super().commands()
        ]

    @rule(zombie=workers, heir=workers)
    @precondition(lambda self: self.holder is not None)
    def stall(self, zombie, heir):
        """Let the lease run out and another take over, then let the first go on."""
        self.now = max(self.now, self.lease_until)
        stale = self.claims
        self.obey(experiment.ClaimTraining(heir, self.now + LEASE))
        for late in (
            experiment.StartTraining(zombie, stale),
            experiment.RecordTrainedCheckpoint(zombie, stale, 1, DIGESTS[0], 1),
            experiment.FinishTraining(zombie, stale),
            experiment.AcknowledgeStop(zombie, stale),
            experiment.FailTraining(zombie, stale, "late"),
        ):
            with pytest.raises(IllegalTransition):
                experiment.decide(late, self.state, self.now)

    def obey(self, command):
        claim = (getattr(command, "worker", None), getattr(command, "claim", None))
        before = len(self.history)
        held = (self.holder, self.claims)
        super().obey(command)
        if claim[1] is not None and len(self.history) > before:
            assert claim == held, "somebody without the claim was believed"

    def happen(self, event):
        self.account(event)
        super().happen(event)

    def account(self, event):
        """Keep the books of who trains, apart from `evolve`."""
        match event:
            case experiment.TrainingRequested():
                assert self.holder is None
                self.losses, self.has_written = 0, False
            case experiment.TrainingClaimed():
                mine = self.holder == event.worker
                if self.holder is not None and not mine:
                    known_dead = event.lost == self.holder
                    assert known_dead
                assert event.claim == self.claims + 1
                self.losses += event.lost is not None
                self.holder, self.claims = event.worker, event.claim
                self.lease_until = event.lease_until
            case experiment.CheckpointWritten(training=int() as number):
                assert number == self.state.training.number
                if not self.has_written and self.state.training.begins_anew:
                    assert self.state.checkpoints == ()
                self.losses, self.has_written = 0, True
            case (
                experiment.TrainingStopped()
                | experiment.TrainingSucceeded()
                | experiment.TrainingFailed()
            ):
                self.holder = None

    @invariant()
    @precondition(lambda self: self.history)
    def the_books_agree(self):
        state, training = self.state, self.state.training
        assert (training is None) == (state.run_id is None)
        if training is None:
            return
        assert (training.claim and training.claim.worker) == self.holder
        assert (training.claims, training.losses) == (self.claims, self.losses)
        assert training.has_written == self.has_written
        assert self.holder is None or state.status in experiment.AT_WORK

    @invariant()
    @precondition(lambda self: self.history)
    def work_is_outstanding_iff_it_goes_on_and_nobody_does_it(self):
        leased = self.holder is not None and self.now < self.lease_until
        idle = self.state.status in experiment.AT_WORK and not leased
        train = experiment.Train(self.state.id, self.state.run_id)
        assert experiment.react(self.state, self.now) == (train if idle else None)

    @invariant()
    @precondition(lambda self: self.history)
    def its_checkpoints_are_those_written_and_not_deleted(self):
        expected = {}
        for event in self.events:
            match event:
                case experiment.CheckpointWritten():
                    assert event.step not in expected
                    expected[event.step] = event.digest
                case experiment.CheckpointDeleted():
                    assert expected.pop(event.step) == event.digest
                case experiment.TrainingRequested(resume_step=int() as step):
                    assert event.resume_digest in (expected.get(step), ELSEWHERE)
        assert {c.step: c.digest for c in self.state.checkpoints} == expected
        assert len(self.state.checkpoints) == len(expected)

    @invariant()
    def what_has_begun_is_not_configured(self):
        kept, begun = 0, False
        for event in self.events:
            match event:
                case experiment.ExperimentConfigured():
                    assert not begun
                    assert not kept
                case experiment.CheckpointWritten():
                    kept += 1
                case experiment.CheckpointDeleted():
                    kept -= 1
                case experiment.TrainingRequested():
                    begun = True

    @invariant()
    @precondition(lambda self: self.history)
    def it_says_why_when_it_failed_and_only_then(self):
        failed = self.state.status is experiment.Status.FAILED
        assert (self.state.reason is not None) == failed

    @invariant()
    @precondition(lambda self: self.history)
    def what_is_deleted_is_not_at_work(self):
        assert not (self.state.deleted and self.state.status in experiment.AT_WORK)


class ImportLife(TimedLife):
    module = checkpoint_import
    workers = st.sampled_from(IDS)

    def __init__(self):
        super().__init__()
        self.holder = None
        self.lease_until = NOW
        self.ended = False

    def commands(self):
        return [
            attrs.evolve(command, lease_until=self.now + LEASE)
            if isinstance(command, checkpoint_import.ClaimImport)
            else command
            for command in super().commands()
        ]

    @rule(zombie=workers, heir=workers)
    @precondition(lambda self: self.holder is not None)
    def stall(self, zombie, heir):
        """Let the lease run out and another take over, then let the first go on."""
        self.now = max(self.now, self.lease_until)
        stale = self.state.claims
        self.obey(checkpoint_import.ClaimImport(heir, self.now + LEASE))
        for late in (
            checkpoint_import.SucceedImport(zombie, stale, "a" * 64),
            checkpoint_import.FailImport(zombie, stale, "late"),
        ):
            with pytest.raises(IllegalTransition):
                checkpoint_import.decide(late, self.state, self.now)

    def happen(self, event):
        self.account(event)
        super().happen(event)

    def account(self, event):
        """Keep the books of who may say what came of it, apart from `evolve`."""
        assert not self.ended, "what has ended goes on"
        match event:
            case checkpoint_import.ImportClaimed():
                assert self.holder is None or self.now >= self.lease_until
                assert event.claim == self.state.claims + 1
                self.holder, self.lease_until = event.worker, event.lease_until
            case (
                checkpoint_import.ImportInterrupted()
                | checkpoint_import.ImportReleased()
            ):
                assert event.worker == self.holder
                self.holder = None
            case checkpoint_import.ImportSucceeded() | checkpoint_import.ImportFailed():
                assert event.worker == self.holder, "it ended without a claim"
                self.holder, self.ended = None, True
            case checkpoint_import.ImportCancelled():
                self.holder, self.ended = None, True

    @invariant()
    @precondition(lambda self: self.history)
    def the_books_agree(self):
        state = self.state
        assert (state.claim and state.claim.worker) == self.holder
        assert (state.status not in checkpoint_import.OPEN) == self.ended
        running = state.status is checkpoint_import.Status.RUNNING
        assert running == (self.holder is not None)
        succeeded = state.status is checkpoint_import.Status.SUCCEEDED
        assert succeeded == (state.digest is not None)

    @invariant()
    @precondition(lambda self: self.history)
    def work_is_outstanding_iff_it_goes_on_and_nobody_does_it(self):
        leased = self.holder is not None and self.now < self.lease_until
        work = checkpoint_import.ConvertOrder(
            self.state.id, self.state.files, self.state.order
        )
        idle = not self.ended and not leased
        assert checkpoint_import.react(self.state, self.now) == (work if idle else None)


class DeploymentLife(TimedLife):
    module = deployment
    each_time = (
        deployment.RotateKey,
        deployment.RecordParity,  # each replay is a fact of its own
    )
    ends = (deployment.DeleteDeployment,)
    revivals = (deployment.RestoreDeployment,)
    workers = st.sampled_from(IDS)

    def __init__(self):
        super().__init__()
        self.holder = None
        self.lease_until = NOW
        self.server = None
        self.attempts = 0
        self.wanted = False
        self.digest = None
        self.order = None
        """The swap that was asked for and has not ended."""
        self.swapper = None
        self.swap_lease_until = NOW
        self.before = None
        self.until = None

    def commands(self):
        return [
            attrs.evolve(command, lease_until=self.now + LEASE)
            if isinstance(command, deployment.ClaimConnect | swap_commands.ClaimSwap)
            else command
            for command in super().commands()
        ]

    @rule(worker=workers, ending=st.sampled_from(("connects", "fails", "leaves")))
    def work(self, worker, ending):
        """Do as a healthy worker does: claim, check, report."""
        self.obey(deployment.ClaimConnect(worker, self.now + LEASE))
        if self.holder != worker:
            return
        passed = parity.Parity(parity.Verdict.PASSED)
        self.obey(deployment.RecordParity(worker, self.state.claims, passed))
        match ending:
            case "connects":
                claim = self.state.claims
                done = deployment.ConfirmConnected(worker, claim, "onnx", "cpu", 1.0)
                self.obey(done)
                assert self.server == worker
            case "fails":
                claim = self.state.claims
                self.obey(deployment.FailConnect(worker, claim, "out of memory"))
                assert self.state.status is deployment.Status.FAILED
            case "leaves":
                self.obey(deployment.LoseConnection(worker, "shut down"))
                assert self.holder is None
                assert self.state.status is deployment.Status.PENDING

    @rule(
        worker=workers,
        command=st.sampled_from(every(swap_commands.RequestSwap)),
        ending=st.sampled_from(("swaps", "fails", "dies")),
    )
    @precondition(lambda self: self.server is not None)
    def carry_out_a_swap(self, worker, command, ending):
        """Do as a healthy worker does: claim, check, report."""
        self.obey(command)
        if self.order is None or self.until is not None or self.swapper is not None:
            return
        self.obey(swap_commands.ClaimSwap(worker, self.now + LEASE))
        claim = self.state.claims
        passed = parity.Parity(parity.Verdict.PASSED)
        self.obey(deployment.RecordParity(worker, claim, passed))
        match ending:
            case "swaps":
                self.obey(swap_commands.ConfirmSwap(worker, claim, "onnx", "cpu", 1.0))
            case "fails":
                self.obey(swap_commands.FailSwap(worker, claim, "out of memory"))
                assert self.order is None
            case "dies":
                self.obey(swap_commands.LoseSwap(worker, "it died"))
                assert self.swapper is None
        assert self.state.status is deployment.Status.DEPLOYED

    @rule(zombie=workers, heir=workers)
    @precondition(lambda self: self.swapper is not None)
    def stall_a_swap(self, zombie, heir):
        """Let the lease run out and another take over, then let the first go on."""
        self.now = max(self.now, self.swap_lease_until)
        stale = self.state.claims
        self.obey(swap_commands.ClaimSwap(heir, self.now + LEASE))
        for late in (
            swap_commands.ConfirmSwap(zombie, stale, "onnx", "cpu", 1.0),
            swap_commands.FailSwap(zombie, stale, "late"),
        ):
            with pytest.raises(IllegalTransition):
                deployment.decide(late, self.state, self.now)

    @rule(ending=st.sampled_from(("ends", "reverts")))
    @precondition(lambda self: self.until is not None and self.server is not None)
    def bake(self, ending):
        figures = guards.Figures()
        if ending == "reverts":
            limit = guards.Limit.ERROR_RATE
            self.obey(
                swap_commands.RevertSwap(self.server, self.order.digest, limit, figures)
            )
        else:
            self.now = max(self.now, self.until)
            self.obey(swap_commands.EndBaking(self.server, figures))
            assert self.order is None

    @rule(zombie=workers, heir=workers)
    @precondition(lambda self: self.holder is not None)
    def stall(self, zombie, heir):
        """Let the lease run out and another take over, then let the first go on."""
        self.now = max(self.now, self.lease_until)
        stale = self.state.claims
        self.obey(deployment.ClaimConnect(heir, self.now + LEASE))
        for late in (
            deployment.ConfirmConnected(zombie, stale, "onnx", "cpu", 1.0),
            deployment.FailConnect(zombie, stale, "late"),
        ):
            with pytest.raises(IllegalTransition):
                deployment.decide(late, self.state, self.now)
        if zombie != heir:
            lost = deployment.LoseConnection(zombie, "late")
            assert deployment.decide(lost, self.state, self.now) == []

    def happen(self, event):
        self.account(event)
        super().happen(event)

    def account(self, event):
        """Keep the books of who may serve what, apart from `evolve`."""
        self.account_for_swaps(event)
        match event:
            case deployment.DeploymentCreated():
                self.digest = event.digest
            case deployment.CheckpointAssigned():
                assert not self.wanted, "it is live, or goes live"
                self.digest = event.digest
            case deployment.ServerReplaced():
                assert event.lost == self.server != event.worker
                self.server = event.worker
            case deployment.ConnectRequested():
                assert not self.wanted, "connected twice"
                self.wanted, self.attempts = True, 0
            case deployment.ConnectClaimed():
                assert self.wanted
                assert self.server is None, "claimed while it is served"
                assert self.holder is None or self.now >= self.lease_until
                self.holder, self.lease_until = event.worker, event.lease_until
                self.attempts += 1
                assert event.attempt == self.attempts
            case deployment.ParityChecked():
                assert event.worker in {self.holder, self.swapper}
            case deployment.Connected():
                assert event.worker == self.holder, "served without a claim"
                assert event.digest == self.digest
                self.holder, self.server, self.attempts = None, event.worker, 0
            case deployment.ConnectFailed():
                assert event.worker == self.holder, "failed without a claim"
                self.holder, self.wanted = None, False
            case deployment.ConnectionLost():
                assert event.worker in {self.holder, self.server}
                self.holder = self.server = None
            case deployment.Disconnected():
                failed = self.state.status is deployment.Status.FAILED
                assert self.wanted or failed, "disconnected twice"
                self.holder, self.server, self.wanted = None, None, False
            case deployment.DeploymentDeleted():
                self.holder, self.server, self.wanted = None, None, False
            case deployment.DeploymentKeyRotated():
                assert event.key_version == self.state.key_version + 1

    def account_for_swaps(self, event):
        match event:
            case deployment.ConnectionLost():
                self.swapper = None
            case (
                deployment.ConnectFailed()
                | deployment.Disconnected()
                | deployment.DeploymentDeleted()
            ):
                self.forget_swap()
            case swap.SwapRequested():
                assert self.server is not None
                assert self.order is None, "two at once"
                assert event.checkpoint.digest != self.digest
                self.order = event.checkpoint
            case swap.SwapClaimed():
                assert self.server is not None
                assert self.until is None
                assert self.swapper is None or self.now >= self.swap_lease_until
                self.swapper = event.worker
                self.swap_lease_until = event.lease_until
            case swap.SwapInterrupted():
                assert event.worker == self.swapper
                self.swapper = None
            case swap.SwapFailed():
                assert (event.worker, event.digest) == (self.swapper, self.order.digest)
                self.forget_swap()
            case swap.CheckpointSwapped():
                assert (event.worker, event.before) == (self.swapper, self.digest)
                assert event.digest == self.order.digest
                self.digest, self.server = event.digest, event.worker
                self.swapper, self.before = None, event.before
                self.until = event.baking_until
                if self.until is None:
                    self.forget_swap()
            case swap.ShadowStarted():
                assert (event.worker, event.digest) == (self.swapper, self.order.digest)
                self.swapper, self.until = None, event.baking_until
            case swap.SwapReverted():
                assert (event.before, event.digest) == (self.digest, self.before)
                self.digest, self.server = event.digest, event.worker
                self.forget_swap()
            case swap.SwapPassed() | swap.ShadowCompared():
                assert event.worker == self.server
                assert self.now >= self.until, "too early"
                self.forget_swap()
            case swap.BakingStopped():
                assert self.until is not None
                self.forget_swap()

    def forget_swap(self):
        self.order = self.swapper = self.before = self.until = None

    @invariant()
    @precondition(lambda self: self.history)
    def the_books_agree_on_the_weights(self):
        state, order = self.state, self.state.swap
        assert state.digest == self.digest
        assert (order and order.checkpoint) == self.order
        assert (order and order.until) == self.until
        assert (order and order.claim and order.claim.worker) == self.swapper
        assert (order and order.before) == self.before
        beside = order and (self.before or self.order.digest)
        assert state.digests == (self.digest, *filter(None, [beside]))

    @invariant()
    @precondition(lambda self: self.history)
    def the_books_agree(self):
        state, claim = self.state, self.state.claim
        assert (claim and claim.worker) == self.holder
        assert state.server == self.server
        deployed = state.status is deployment.Status.DEPLOYED
        pending = state.status is deployment.Status.PENDING
        assert deployed == (self.server is not None)
        assert (deployed or pending) == self.wanted
        rotations = [e for e in self.events if hasattr(e, "key_version")]
        assert state.key_version == 1 + len(rotations)

    @invariant()
    @precondition(lambda self: self.history)
    def work_is_outstanding_iff_it_is_wanted_and_nobody_does_it(self):
        leased = self.holder is not None and self.now < self.lease_until
        idle = self.wanted and self.server is None and not leased
        if idle:
            work = deployment.StartServing(self.state.id, self.digest)
        elif self.server is None or self.order is None:
            work = None
        elif self.until is not None:
            work = deployment.Bake(self.state.id, self.order.digest, self.until)
        elif self.swapper is not None and self.now < self.swap_lease_until:
            work = None
        else:
            work = deployment.StartSwap(self.state.id, self.order.digest)
        assert deployment.react(self.state, self.now) == work

    @invariant()
    @precondition(lambda self: self.history)
    def it_says_why_when_it_failed(self):
        status, reason = self.state.status, self.state.reason
        if status is deployment.Status.FAILED:
            assert reason is not None
        if status in {deployment.Status.UNDEPLOYED, deployment.Status.DEPLOYED}:
            assert reason is None


FEW = settings(deadline=None, max_examples=40)
MANY = settings(deadline=None, max_examples=150)
for life in (ProjectLife, AgentLife, CredentialLife):
    life.TestCase.settings = FEW
for life in (ExperimentLife, ImportLife, DeploymentLife):
    life.TestCase.settings = MANY

TestProject = ProjectLife.TestCase
TestAgent = AgentLife.TestCase
TestCredential = CredentialLife.TestCase
TestExperiment = ExperimentLife.TestCase
TestImport = ImportLife.TestCase
TestDeployment = DeploymentLife.TestCase


MODULES = (agent, checkpoint_import, credential, deployment, experiment, project)


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.KIND)
def test_nothing_but_its_creation_happens_to_what_never_was(module):
    _, *others = get_args(module.Command)
    assert module.decide(creations(module)[0], None, NOW)
    for command in (command for kind in others for command in every(kind)):
        if isinstance(command, OF_NOTHING):
            assert module.decide(command, None, NOW) == []
            continue
        with pytest.raises(NotFound):
            module.decide(command, None, NOW)


OF_NOTHING = (
    deployment.DeleteDeployment,
    deployment.RestoreDeployment,
    deployment.AssignCheckpoint,
)
"""What may be asked of a deployment that an agent never had."""


def histories(module: ModuleType) -> st.SearchStrategy[list[Any]]:
    first, *_ = get_args(module.Event)
    rest = st.lists(one_kind_of(every(module.Event)))
    return st.tuples(st.sampled_from(every(first)), rest).map(lambda h: [h[0], *h[1]])


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.KIND)
@given(data=st.data())
@settings(deadline=None)
def test_evolve_refuses_no_history_that_begins_with_its_creation(module, data):
    history = data.draw(histories(module))
    state = reduce(module.evolve, history, None)
    assert vars(module)[type(state).__name__] is type(state)
    assert hash(state) == hash(reduce(module.evolve, history, None))
