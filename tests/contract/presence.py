"""What every presence promises."""

from uuid import uuid4

import pytest

from arena_core.application.ports import Note, Presence
from arena_core.domain.ids import DeploymentId, Digest, WorkerId

WEIGHTS = frozenset((DeploymentId(uuid4()), Digest(digit * 64)) for digit in ("a", "b"))
TOLD = Note(7, WEIGHTS)


def a_worker() -> WorkerId:
    return WorkerId(uuid4())


class PresenceContract:
    @pytest.fixture
    def presence(self) -> Presence:
        raise NotImplementedError("the subclass makes the presence")

    def test_a_worker_nobody_has_announced_is_not_alive(self, presence):
        assert not presence.is_alive(a_worker())

    def test_an_announced_worker_is_alive_and_no_other(self, presence):
        worker = a_worker()
        presence.announce(worker)
        assert presence.is_alive(worker)
        assert presence.is_alive(worker)
        assert not presence.is_alive(a_worker())

    def test_announcing_twice_is_harmless_and_one_withdrawal_ends_it(self, presence):
        worker = a_worker()
        presence.announce(worker)
        presence.announce(worker)
        assert presence.is_alive(worker)
        presence.withdraw(worker)
        assert not presence.is_alive(worker)

    def test_withdrawing_twice_or_a_stranger_is_harmless(self, presence):
        worker, other = a_worker(), a_worker()
        presence.announce(worker)
        presence.announce(other)
        presence.withdraw(worker)
        presence.withdraw(worker)
        presence.withdraw(a_worker())
        assert not presence.is_alive(worker)
        assert presence.is_alive(other)

    def test_a_worker_may_come_back(self, presence):
        worker = a_worker()
        presence.announce(worker)
        presence.withdraw(worker)
        presence.announce(worker)
        assert presence.is_alive(worker)

    def test_a_worker_that_has_told_nothing_has_done_nothing(self, presence):
        worker = a_worker()
        assert presence.notes() == {}
        presence.announce(worker)
        assert presence.notes() == {worker: Note()}

    def test_what_a_worker_tells_takes_the_place_of_what_it_told_before(self, presence):
        ann, bob = a_worker(), a_worker()
        presence.announce(ann)
        presence.announce(bob)
        presence.tell(ann, TOLD)
        assert presence.notes() == {ann: TOLD, bob: Note()}
        presence.tell(ann, Note(9, leaving=True))
        presence.tell(bob, TOLD)
        assert presence.notes() == {ann: Note(9, leaving=True), bob: TOLD}

    def test_announcing_again_keeps_what_was_told(self, presence):
        worker = a_worker()
        presence.announce(worker)
        presence.tell(worker, TOLD)
        presence.announce(worker)
        assert presence.notes() == {worker: TOLD}

    def test_a_note_is_gone_with_its_worker(self, presence):
        worker = a_worker()
        presence.announce(worker)
        presence.tell(worker, TOLD)
        presence.withdraw(worker)
        assert presence.notes() == {}
        presence.announce(worker)
        assert presence.notes() == {worker: Note()}

    def test_whoever_is_not_announced_is_not_heard(self, presence):
        worker = a_worker()
        presence.tell(worker, TOLD)
        assert presence.notes() == {}
        presence.announce(worker)
        presence.withdraw(worker)
        presence.tell(worker, TOLD)
        assert presence.notes() == {}
        presence.announce(worker)
        assert presence.notes() == {worker: Note()}
