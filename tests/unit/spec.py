"""Tests of a decider as sentences: given a history, when a command, then events."""

from collections.abc import Sequence
from datetime import datetime
from functools import reduce
from types import ModuleType
from typing import Any

import pytest
from attrs import frozen

from arena_core.domain.errors import ArenaError


def assert_plain(error: ArenaError) -> None:
    """Fail unless the text can be shown as it is: clients print it as markup."""
    assert str(error)
    assert not set("[]") & set(str(error)), error


@frozen
class When:
    decider: ModuleType
    now: datetime
    state: Any
    command: Any

    def _decide(self) -> Sequence[Any]:
        return self.decider.decide(self.command, self.state, self.now)

    def then(self, *expected: Any) -> None:
        decided = tuple(self._decide())
        assert decided == expected, f"{self.command} gave {decided}"
        reduce(self.decider.evolve, decided, self.state)

    def then_raises(self, error: type[ArenaError], match: str | None = None) -> None:
        """Expect exactly `error`, whose text holds the regular expression `match`."""
        with pytest.raises(error, match=match) as caught:
            self._decide()
        assert type(caught.value) is error
        assert_plain(caught.value)


@frozen
class Given:
    decider: ModuleType
    now: datetime
    state: Any

    def when(self, command: Any) -> When:
        return When(self.decider, self.now, self.state, command)


@frozen
class Spec:
    """`decider` is the module of an aggregate; every command comes at `now`."""

    decider: ModuleType
    now: datetime

    def given(self, *events: Any) -> Given:
        return Given(self.decider, self.now, reduce(self.decider.evolve, events, None))
