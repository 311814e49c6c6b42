"""Several processes on one store at once: whatever their turns, it ends alike.

Hypothesis chooses who has the next turn, also in the very moment between what one of
them has decided and its append; and threads choose it as they like.
"""

import threading
from contextlib import ExitStack, closing
from datetime import timedelta
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arena_core.adapters.trainers.memory import MemoryTrainer
from unit.lines import teach
from unit.matrices import Life, Matrix
from unit.mortal import Fate
from unit.outcomes import Outcome, done_to
from unit.power import power_never_fails

__all__ = ["power_never_fails"]

pytestmark = pytest.mark.usefixtures("power_never_fails")

PROCESSES = 2
MOST_TURNS = 2000
PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def matrix(tmp_path_factory):
    return Matrix.of(tmp_path_factory.mktemp("races"))


class Interrupting(Fate):
    """Gives the other process a turn just before an append of this one.

    `interrupted` is shared: nobody is interrupted by whom they have interrupted.
    """

    def __init__(self, chosen, interrupted):
        super().__init__()
        self.chosen, self.interrupted, self.other = cycle(chosen), interrupted, None

    def point(self, what):
        if self.other is None or self.interrupted or what != "before append":
            return
        which = next(self.chosen)
        if which is not None:
            self.interrupted.append(self)
            self.other.works()[which]()
            self.interrupted.clear()


@pytest.mark.slow
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    turns=st.lists(
        st.tuples(st.integers(0, PROCESSES - 1), st.integers(0, 3)), min_size=1
    ),
    interruptions=st.lists(st.none() | st.integers(0, 3), min_size=1, max_size=8),
)
def test_two_processes_end_as_one_would(matrix, turns, interruptions):
    expected, _ = matrix.without_a_crash(1)
    with ExitStack() as stack:
        trainer = stack.enter_context(closing(MemoryTrainer({"command": teach})))
        folder = stack.enter_context(TemporaryDirectory())
        place = matrix.template.copy(Path(folder) / "place", trainer)
        interrupted = []
        fates = [Interrupting(interruptions, interrupted) for _ in range(PROCESSES)]
        processes = [stack.enter_context(place.process(fate)) for fate in fates]
        for fate, other in zip(fates, reversed(processes), strict=True):
            fate.other = other
        outcome = _taking_turns(place, matrix.line, processes, turns)
        assert Life(outcome, *done_to(trainer)) == expected


def _taking_turns(place, line, processes, turns):
    """Give turns as they were chosen, and everybody one in between; to the end."""
    everybody = [(p, w) for p in range(len(processes)) for w in range(4)]
    for number, (who, what) in enumerate(cycle([*turns, *everybody])):
        processes[who].works()[what]()
        if number % 5 == 0:
            place.now += timedelta(seconds=0.5)
            line.attend(processes[who].use)
            if line.has_ended(processes[who].use):
                return Outcome.of(processes[who].use, line)
        assert number < MOST_TURNS, "it hangs"
    raise AssertionError


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_threads_of_two_processes_end_as_one_would(matrix, seed, tmp_path):
    expected, _ = matrix.without_a_crash(1)
    over = threading.Event()
    with ExitStack() as stack:
        trainer = stack.enter_context(closing(MemoryTrainer({"command": teach})))
        place = matrix.template.copy(tmp_path / f"{seed}", trainer)
        processes = [
            stack.enter_context(place.process(Fate())) for _ in range(PROCESSES)
        ]
        threads = [
            threading.Thread(target=_again_and_again, args=(work, over))
            for process in processes
            for work in process.works()
        ]
        for thread in threads:
            thread.start()
        try:
            use = processes[0].use
            for _ in range(int(PATIENCE_S / 0.02)):
                matrix.line.attend(use)
                place.now += timedelta(seconds=0.2)
                if matrix.line.has_ended(use):
                    break
                over.wait(0.02)
        finally:
            over.set()
            for thread in threads:
                thread.join()
        outcome = Outcome.of(use, matrix.line)
        assert Life(outcome, *done_to(trainer)) == expected


def _again_and_again(work, over):
    while not over.wait(0.001):
        work()
