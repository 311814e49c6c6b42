"""All the lives of a pipeline, of whose processes each dies at another point."""

from collections import Counter
from collections.abc import Sequence
from contextlib import closing

from attrs import define, evolve, field, frozen

from arena_core.adapters.trainers.memory import MemoryTrainer, Script
from unit.lines import Line, Short, teach, teach_better
from unit.mortal import Fate, Place, lives
from unit.odd_lines import Taught
from unit.outcomes import Outcome, done_to

ORDERS = (1, 2, 3)
"""Seeds of the order in which the threads get their turns."""


@frozen
class Life:
    """What has become of a pipeline, and what was done for it outside of the log."""

    outcome: Outcome
    once: Counter
    """How often what is not to be done twice was done to each training."""
    again: set
    """What may be done again: it changes nothing more."""

    def count(self, what: str) -> list[int]:
        """Return how often it was done, of each training to which it was done."""
        return [times for (done, _), times in self.once.items() if done == what]


@define
class Matrix:
    """A pipeline that is laid out and not begun, of which every life gets a copy."""

    folder: object
    template: Place
    line: Line
    script: Script = teach
    trainer: type[MemoryTrainer] = MemoryTrainer
    copies: int = 0
    file_by_file: bool = False
    """Whether processes die in the middle of what they write, too."""
    crash_free: dict[int, tuple[Life, list[str]]] = field(factory=dict)

    @classmethod
    def of(cls, folder, kind: type[Line] = Line, script: Script = teach) -> "Matrix":
        (folder / "template").mkdir()
        with closing(MemoryTrainer({"command": script})) as trainer:
            place = Place(folder / "template", trainer)
            with place.process(Fate()) as process:
                line = kind.lay(process.use)
        return cls(folder, place, line, script)

    @classmethod
    def of_second_runs(cls, folder) -> "Matrix":
        """Return that of a line which has run once: what it has live is swapped."""
        first = cls._ended(folder, Short, teach)
        return cls(folder, first.template, evolve(first.line, runs=2), teach_better)

    @classmethod
    def behind(cls, folder, kind: type[Taught], script: Script) -> "Matrix":
        """Return that of what follows upon a training that has ended."""
        first = cls._ended(folder, kind, script)
        with first.template.process(Fate()) as process:
            first.line.follow_up(process.use)
        return cls(folder, first.template, first.line, script)

    @classmethod
    def _ended(cls, folder, kind: type[Line], script: Script) -> "Matrix":
        """Return that of a line to the end of which somebody has lived."""
        (folder / "first").mkdir()
        matrix = cls.of(folder / "first", kind, script)
        with closing(MemoryTrainer({"command": script})) as trainer:
            place = matrix.template.copy(folder / "template", trainer)
            lives(place, matrix.line, 1)
        return evolve(matrix, template=place)

    def live(self, seed: int, *fates: Fate) -> Life:
        """Return what has become of it, and what was done to its trainings."""
        self.copies += 1
        with closing(self.trainer({"command": self.script})) as trainer:
            place = self.template.copy(self.folder / f"{self.copies}", trainer)
            outcome = lives(place, self.line, seed, *fates)
            return Life(outcome, *done_to(trainer))

    def without_a_crash(self, seed: int) -> tuple[Life, list[str]]:
        """Return what becomes of it if nobody dies, and the points that it passes."""
        if seed not in self.crash_free:
            fate = Fate(file_by_file=self.file_by_file)
            self.crash_free[seed] = (self.live(seed, fate), fate.points)
        return self.crash_free[seed]

    def points(self, seed: int, what: str = "") -> Sequence[int]:
        """Return the numbers of its points, or of those whose name begins so."""
        _, points = self.without_a_crash(seed)
        return [n for n, point in enumerate(points, 1) if point.startswith(what)]

    def check(self, seed: int, *deaths: int) -> None:
        """Check that it ends alike when each of the processes dies at its point."""
        expected, _ = self.without_a_crash(seed)
        fates = [Fate(frozenset({death}), self.file_by_file) for death in deaths]
        assert self.live(seed, *fates) == expected, [f.points[-1:] for f in fates]
