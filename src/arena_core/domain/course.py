"""Which training has measured what, and what of it belongs together.

The course of a training is what it has measured, and before that, up to the step at
which it goes on, the course of the one that the checkpoint there is of.  Number 0
stands for what there was before any training was asked for.
"""

from collections.abc import Callable, Sequence
from enum import Enum
from typing import assert_never

from attrs import frozen

from arena_core.domain.ids import Digest
from arena_core.domain.training import Written


class Source(Enum):
    """Who says so."""

    TRAINING = "training"
    HAND = "hand"
    UNKNOWN = "unknown"
    """A release that did not tell one from the other."""


@frozen
class Origin:
    """Where a metric point comes from."""

    training: int
    """The number of the training that it belongs to."""
    source: Source
    digest: Digest | None = None
    """Of the checkpoint that was there when it was said of that step by hand."""


@frozen
class Stretch:
    """A part of a course: what belongs to one training, up to a step."""

    training: int
    up_to: int | None = None
    """None: all of it."""

    def has(self, training: int, step: int) -> bool:
        is_before = self.up_to is None or step <= self.up_to
        return training == self.training and is_before


@frozen
class Begun:
    """What stays known of a training that was asked for."""

    goes_on: Stretch | None
    """Of which it is the rest; None: it began anew, or with what is not from here."""
    has_written: bool = False


def course(begun: Sequence[Begun], number: int) -> Sequence[Stretch]:
    """Return the course of training `number`, the latest part first."""
    parts = [Stretch(number)]
    while before := _before(begun, parts[-1]):
        parts.append(before)
    return parts


def _before(begun: Sequence[Begun], part: Stretch) -> Stretch | None:
    goes_on = begun[part.training - 1].goes_on if part.training else None
    if goes_on is None:
        return None
    ends = [end for end in (part.up_to, goes_on.up_to) if end is not None]
    return Stretch(goes_on.training, min(ends))


def shown(
    begun: Sequence[Begun], has_measured: Callable[[int], bool]
) -> Sequence[Stretch]:
    """Return the course of the latest training that has left anything.

    One that has neither measured nor written anything takes nobody's place.
    """
    for number in range(len(begun), 0, -1):
        if begun[number - 1].has_written or has_measured(number):
            return course(begun, number)
    return course(begun, 0)


def by_hand(
    checkpoints: Sequence[Written], begun: Sequence[Begun]
) -> Callable[[int, Digest | None], Origin]:
    """Return what tells where a point comes from that is added by hand now.

    It is said of the checkpoint at its step, whoever is being trained; where none is,
    it belongs to the latest training.  Who names a digest means that one alone, which
    may have gone meanwhile.
    """
    at = {written.step: written for written in checkpoints}

    def origin(step: int, of: Digest | None = None) -> Origin:
        there = at.get(step)
        if there is None or of not in (None, there.digest):
            return Origin(len(begun), Source.HAND, of)
        return Origin(there.belongs_to, Source.HAND, there.digest)

    return origin


def is_of(origin: Origin, written: Written) -> bool:
    """Say whether what was measured at the step of a checkpoint was measured of it."""
    if origin.training != written.belongs_to:
        return False
    match origin.source:
        case Source.TRAINING:
            return written.training is not None
        case Source.HAND:
            return origin.digest in (None, written.digest)
        case Source.UNKNOWN:
            return True
        case _:
            assert_never(origin.source)
