"""What several workers have agreed on, and who has to wait for whom."""

from collections.abc import Callable
from uuid import uuid4

import pytest
from attrs import define, field

from arena_core.adapters.presence.memory import MemoryPresence
from arena_core.application.agreement import Agreement
from arena_core.application.ports import Note
from arena_core.domain.errors import StorageFull
from arena_core.domain.ids import DeploymentId, Digest, WorkerId

AGENT, OTHER_AGENT = DeploymentId(uuid4()), DeploymentId(uuid4())
OLD, NEW = Digest("a" * 64), Digest("b" * 64)
AT_ONCE = 0.0
LONG_S = 60.0


@define
class Watched(MemoryPresence):
    """A presence at which something happens before its notes are read once more."""

    happening: list[Callable[[], object]] = field(factory=list)
    looks: int = 0
    tells: int = 0

    def __attrs_pre_init__(self):
        super().__init__()

    def notes(self):
        self.looks += 1
        if self.happening:
            self.happening.pop(0)()
        return super().notes()

    def tell(self, worker, note):
        self.tells += 1
        super().tell(worker, note)


@pytest.fixture
def presence():
    return Watched()


@define
class Member:
    id: WorkerId
    agreement: Agreement


def member(presence, *, announced=True) -> Member:
    worker = WorkerId(uuid4())
    if announced:
        presence.announce(worker)
    return Member(worker, Agreement(worker, presence))


@pytest.fixture
def ann(presence):
    return member(presence)


@pytest.fixture
def bob(presence):
    return member(presence)


class TestAlone:
    def test_nobody_waits(self):
        agreement = Agreement.alone()
        agreement.followed(3)
        agreement.prepared(AGENT, NEW)
        agreement.dropped(AGENT, NEW)
        agreement.leave()
        assert agreement.all_followed(10, AT_ONCE)
        assert agreement.all_prepared(AGENT, NEW, AT_ONCE)
        assert agreement.other_with(AGENT, NEW) is None

    def test_a_worker_does_not_wait_for_itself(self, ann):
        assert ann.agreement.all_followed(10, AT_ONCE)
        assert ann.agreement.all_prepared(AGENT, NEW, AT_ONCE)
        ann.agreement.prepared(AGENT, NEW)
        assert ann.agreement.other_with(AGENT, NEW) is None


class TestFollowing:
    def test_is_agreed_when_every_other_worker_is_as_far(self, presence, ann, bob):
        eve = member(presence)
        bob.agreement.followed(10)
        eve.agreement.followed(9)
        assert ann.agreement.all_followed(9, AT_ONCE)
        assert not ann.agreement.all_followed(10, AT_ONCE)
        eve.agreement.followed(12)
        assert ann.agreement.all_followed(10, AT_ONCE)

    def test_is_waited_for(self, presence, ann, bob):
        presence.happening = [
            lambda: bob.agreement.followed(9),
            lambda: None,
            lambda: bob.agreement.followed(10),
        ]
        assert ann.agreement.all_followed(10, LONG_S)
        assert presence.looks == 3

    def test_is_not_waited_for_once_a_worker_has_died(self, presence, ann, bob):
        presence.happening = [lambda: None, lambda: presence.withdraw(bob.id)]
        assert ann.agreement.all_followed(10, LONG_S)
        assert presence.looks == 2

    def test_is_waited_for_by_one_that_is_no_worker_itself(self, presence, bob):
        command_line = member(presence, announced=False)
        command_line.agreement.followed(10)
        assert not command_line.agreement.all_followed(10, AT_ONCE)
        bob.agreement.followed(10)
        assert command_line.agreement.all_followed(10, AT_ONCE)
        assert presence.notes().keys() == {bob.id}

    def test_never_goes_back(self, ann, bob):
        bob.agreement.followed(10)
        bob.agreement.followed(9)
        assert ann.agreement.all_followed(10, AT_ONCE)

    def test_is_told_to_nobody_if_it_is_not_new(self, presence, bob):
        for position in (10, 10, 9, 11):
            bob.agreement.followed(position)
        assert presence.tells == 2

    def test_is_waited_for_even_if_the_worker_leaves(self, ann, bob):
        bob.agreement.leave()
        assert not ann.agreement.all_followed(10, AT_ONCE)

    def test_that_could_not_be_told_is_told_the_next_time(
        self, presence, ann, bob, monkeypatch
    ):
        with monkeypatch.context() as failing:
            failing.setattr(presence, "tell", no_space_is_left)
            with pytest.raises(StorageFull):
                bob.agreement.followed(10)
        bob.agreement.followed(10)
        assert ann.agreement.all_followed(10, AT_ONCE)


def no_space_is_left(*_):
    raise StorageFull("No space is left.")


class TestPreparing:
    def test_is_agreed_when_every_other_worker_holds_those_weights(
        self, presence, ann, bob
    ):
        eve = member(presence)
        bob.agreement.prepared(AGENT, NEW)
        eve.agreement.prepared(AGENT, OLD)
        eve.agreement.prepared(OTHER_AGENT, NEW)
        assert not ann.agreement.all_prepared(AGENT, NEW, AT_ONCE)
        eve.agreement.prepared(AGENT, NEW)
        assert ann.agreement.all_prepared(AGENT, NEW, AT_ONCE)
        assert presence.notes()[eve.id].prepared == {
            (AGENT, OLD),
            (OTHER_AGENT, NEW),
            (AGENT, NEW),
        }

    def test_ends_when_they_are_dropped(self, presence, ann, bob):
        bob.agreement.prepared(AGENT, NEW)
        bob.agreement.prepared(AGENT, OLD)
        bob.agreement.dropped(AGENT, NEW)
        assert not ann.agreement.all_prepared(AGENT, NEW, AT_ONCE)
        assert ann.agreement.all_prepared(AGENT, OLD, AT_ONCE)
        assert presence.notes() == {
            ann.id: Note(),
            bob.id: Note(0, frozenset({(AGENT, OLD)})),
        }

    def test_is_not_asked_of_a_worker_that_leaves(self, ann, bob):
        assert not ann.agreement.all_prepared(AGENT, NEW, AT_ONCE)
        bob.agreement.leave()
        assert ann.agreement.all_prepared(AGENT, NEW, AT_ONCE)


class TestHandingOver:
    def test_goes_to_another_that_lives_and_has_the_weights(self, ann, bob):
        assert ann.agreement.other_with(AGENT, NEW) is None
        ann.agreement.prepared(AGENT, NEW)
        bob.agreement.prepared(AGENT, OLD)
        assert ann.agreement.other_with(AGENT, NEW) is None
        bob.agreement.prepared(AGENT, NEW)
        assert ann.agreement.other_with(AGENT, NEW) == bob.id

    def test_does_not_go_to_one_that_leaves(self, ann, bob):
        bob.agreement.prepared(AGENT, NEW)
        bob.agreement.leave()
        assert ann.agreement.other_with(AGENT, NEW) is None

    def test_does_not_go_to_the_dead(self, presence, ann, bob, monkeypatch):
        bob.agreement.prepared(AGENT, NEW)
        monkeypatch.setattr(presence, "is_alive", lambda worker: worker != bob.id)
        assert ann.agreement.other_with(AGENT, NEW) is None
