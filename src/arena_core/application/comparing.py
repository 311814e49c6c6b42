"""What two checkpoints prefer of the same observations, and what masks forbid.

Both are greedy, even if what was answered was sampled.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from arena_core.application.models import Acted, Model, Turn
from arena_core.application.policies import LoadedPolicy
from arena_core.application.ports import Array, Tensors
from arena_core.application.shifts import Shift, tally_of
from arena_core.domain.errors import Rejected, Unavailable, Unloaded

MOST_ROWS = 16
"""Of one turn: rows that come together are often alike, and prove no more."""


class Sample(NamedTuple):
    """A few rows of what an agent was asked, and what was answered; copies."""

    agent: str
    turn: Turn
    """Without hidden states, and without what the environment has forced."""
    acted: Acted
    begins: Array
    """(rows,): whether the row is at the beginning of an episode, if that matters."""

    @classmethod
    def of(cls, agent: str, turn: Turn, acted: Acted) -> "Sample | None":
        """Return what is worth comparing of a turn; None: nothing is.

        A row that is partly forced says nothing of the policy.  One with a hidden
        state says something of masks only, for other weights cannot go on from it.
        """
        begins = np.ones(turn.rows, bool)
        for state in turn.hidden.values():
            begins &= ~state.reshape(turn.rows, -1).any(axis=1)
        wanted = begins if turn.legal is None else np.ones(turn.rows, bool)
        if turn.forced is not None:
            wanted = wanted & turn.forced.free()
        rows = np.flatnonzero(wanted)
        if len(rows) == 0:
            return None
        rows = rows[:: -(-len(rows) // MOST_ROWS)]
        return cls(agent, _turn(turn, rows), _acted(acted, rows), begins[rows])


class Compared(NamedTuple):
    """What has come of all samples so far."""

    shift: Shift
    masked_rows: int
    mask_violations: int


class Comparison:
    """Adds up what comes of samples.  To be used by one thread at a time."""

    def __init__(self, other: Model, served: Model) -> None:
        self._other = other
        self._policies = served.agents
        self._others = {
            agent: _counterpart(agent, policy, other)
            for agent, policy in served.agents.items()
        }
        self._tallies = {
            agent: tally_of(policy.policy.action_space)
            for agent, policy in served.agents.items()
        }
        self.masked_rows = 0
        self.mask_violations = 0

    def add(self, sample: Sample) -> None:
        """Ask the other checkpoint, and count.

        What it cannot answer, because it refuses or because its numbers are not
        finite, is a difference as great as can be.  Raises `Unloaded` if it is closed.
        """
        policy = self._policies[sample.agent]
        turn, acted = sample.turn, sample.acted
        if policy.head is not None and turn.legal is not None:
            self.masked_rows += turn.rows
            self.mask_violations += policy.head.violations(acted.outputs, turn.legal)
        other = self._others[sample.agent]
        begins = sample.begins
        if other is not None and other.memory.is_kept and not policy.memory.is_kept:
            return  # nothing tells where an episode begins
        rows = np.flatnonzero(begins)
        if len(rows) == 0:
            return
        turn, acted = _turn(turn, rows), _acted(acted, rows)
        tally = self._tallies[sample.agent]
        preferred = _preferred(policy, turn, acted)
        for places, answer in self._answers(other, turn, 0):
            tally.add(preferred[places], answer)

    def seen(self) -> Compared:
        """Return what has come of all samples, as it is now."""
        return Compared(self.shift(), self.masked_rows, self.mask_violations)

    def shift(self) -> Shift:
        """Return the shift of the agent for which there is most evidence of one."""
        shifts = [tally.shift() for tally in self._tallies.values()]
        most = max(shifts, key=_evidence)
        return most._replace(greatest_of=sum(shift.greatest_of for shift in shifts))

    def _answers(
        self, other: LoadedPolicy | None, turn: Turn, begin: int
    ) -> Iterator[tuple[slice, Array | None]]:
        """Yield what the other prefers; if it refuses a batch, row by row."""
        try:
            answer = self._answer(other, turn)
        except Unloaded:
            raise
        except (Rejected, Unavailable):
            if turn.rows > 1:
                for row in range(turn.rows):
                    one = _turn(turn, np.array([row]))
                    yield from self._answers(other, one, begin + row)
                return
            answer = None
        yield slice(begin, begin + turn.rows), answer

    def _answer(self, other: LoadedPolicy | None, turn: Turn) -> Array | None:
        if other is None:
            return None
        if other.head is None:
            return self._other.predict(turn.observed)[0]
        outputs = other.run(turn.observed, other.memory.beginning(turn.rows))
        return other.head.choose(outputs, turn.legal, None)


def _counterpart(agent: str, policy: LoadedPolicy, other: Model) -> LoadedPolicy | None:
    """Return the other checkpoint's policy of an agent; None: it cannot stand in."""
    found = other.agents.get(agent)
    if found is None:
        return None
    is_alike = (
        found.policy.observation_space == policy.policy.observation_space
        and found.policy.action_space == policy.policy.action_space
        and (found.head is None) == (policy.head is None)
    )
    return found if is_alike else None


def _evidence(shift: Shift) -> tuple[float, int]:
    """Return what evidence of a shift grows by (Hoeffding, 1963), then the rows."""
    return shift.compared * shift.shift**2, shift.compared


def _preferred(policy: LoadedPolicy, turn: Turn, acted: Acted) -> Array:
    if policy.head is None:
        return acted.actions
    return policy.head.choose(acted.outputs, turn.legal, None)


def _turn(turn: Turn, rows: Array) -> Turn:
    legal = None if turn.legal is None else turn.legal[rows]
    return Turn(_rows(turn.observed, rows), len(rows), legal)


def _acted(acted: Acted, rows: Array) -> Acted:
    return Acted(acted.actions[rows], _rows(acted.outputs, rows))


def _rows(arrays: Tensors, rows: Array) -> dict[str, Array]:
    return {name: array[rows] for name, array in arrays.items()}
