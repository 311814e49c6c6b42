"""What every presence promises."""

from uuid import uuid4

import pytest

from arena_core.application.ports import Presence
from arena_core.domain.ids import WorkerId


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
