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
    project,
)
from arena_core.domain.errors import IllegalTransition, NotFound
from unit.life import IDS, LEASE, NOW, Life, TimedLife, creations, every, one_kind_of


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
    def its_checkpoint_is_frozen(self):
        created = self.events[0]
        assert (self.state.kind, self.state.origin, self.state.checkpoint) == (
            created.kind,
            created.origin,
            created.checkpoint,
        )

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


class ExperimentLife(Life):
    module = experiment
    ends = (experiment.DeleteExperiment,)

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
                    assert expected[step] == event.resume_digest
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
            case checkpoint_import.ImportInterrupted():
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

    def commands(self):
        return [
            attrs.evolve(command, lease_until=self.now + LEASE)
            if isinstance(command, deployment.ClaimConnect)
            else command
            for command in super().commands()
        ]

    @rule(worker=workers, ending=st.sampled_from(("connects", "fails", "leaves")))
    def work(self, worker, ending):
        """Do as a healthy worker does: claim, check, report."""
        self.obey(deployment.ClaimConnect(worker, self.now + LEASE))
        if self.holder != worker:
            return
        passed = deployment.Parity(deployment.Verdict.PASSED)
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
        """Keep the books of who may serve, apart from `evolve`."""
        match event:
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
                assert event.worker == self.holder
            case deployment.Connected():
                assert event.worker == self.holder, "served without a claim"
                assert event.digest == self.state.digest
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
        work = deployment.StartServing(self.state.id, self.state.digest)
        assert deployment.react(self.state, self.now) == (work if idle else None)

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


OF_NOTHING = (deployment.DeleteDeployment, deployment.RestoreDeployment)
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
    assert type(state).__module__ == module.__name__
    assert hash(state) == hash(reduce(module.evolve, history, None))
