"""When a swapped checkpoint is so bad that the one before must come back.

A guard names limits; figures say what was seen while the new checkpoint answered.
Whoever judges may look at them as often as he likes: see `crossed`.
"""

import math
from enum import Enum
from typing import assert_never

from attrs import Attribute, field, frozen

from arena_core.domain.errors import Rejected
from arena_core.domain.values import finite, natural

LONGEST_BAKE_S = 7 * 24 * 3600.0
FALSE_ALARM = 1e-6
"""How probable it is at most that a limit that is kept seems crossed, ever."""
SLOW_SHARE = 0.01
"""Of requests, over the limit of p99: that is what p99 means."""
ALTERNATIVES = 32
"""Rates over the limit that are weighed against it."""


def _positive(_: object, attribute: "Attribute[float]", value: float | None) -> None:
    if value is not None and not 0 < value < math.inf:
        raise Rejected(
            f"The {attribute.name} must be a finite number greater than 0.",
            field=attribute.name,
        )


def _share(_: object, attribute: "Attribute[float]", value: float | None) -> None:
    if value is not None and not 0 <= value <= 1:
        raise Rejected(
            f"The {attribute.name} must be a number from 0 to 1.", field=attribute.name
        )


def _baked(_: object, attribute: "Attribute[float]", value: float) -> None:
    if not 0 < value <= LONGEST_BAKE_S:
        raise Rejected(
            f"The {attribute.name} must be greater than 0 and at most "
            f"{LONGEST_BAKE_S:.0f}, which is a week.",
            field=attribute.name,
        )


class Limit(Enum):
    """What a guard may limit, by the name of its field, and the order of judging."""

    ERROR_RATE = "error_rate"
    P99_MS = "p99_ms"
    MASK_VIOLATION_RATE = "mask_violation_rate"
    ACTION_SHIFT = "action_shift"


@frozen
class Guard:
    """Limits that a checkpoint must keep for `bake_s`; None: not limited.

    Each is the most that is allowed.  Zero is a limit too: one case crosses it.
    """

    bake_s: float = field(validator=_baked)
    error_rate: float | None = field(default=None, validator=_share)
    """Of requests that were answered with an error of the server."""
    p99_ms: float | None = field(default=None, validator=_positive)
    mask_violation_rate: float | None = field(default=None, validator=_share)
    """Of rows with a mask: the weights would have preferred what it forbids."""
    action_shift: float | None = field(default=None, validator=_share)
    """See `Figures.action_shift`."""

    def __attrs_post_init__(self) -> None:
        if all(self.of(limit) is None for limit in Limit):
            names = ", ".join(limit.value for limit in Limit)
            raise Rejected(
                f"The guard has no limit: give one of {names} at least.", field="guard"
            )

    def of(self, limit: Limit) -> float | None:
        value: float | None = getattr(self, limit.value)
        return value


@frozen
class Figures:
    """What was seen of a checkpoint so far."""

    requests: int = field(default=0, validator=natural)
    errors: int = field(default=0, validator=natural)
    seconds: int = field(default=0, validator=natural)
    """In which requests were answered, and which are over."""
    slow_seconds: float = field(default=0.0, validator=finite)
    """The sum, over these seconds, of the share that was slower than the limit."""
    p99_ms: float | None = field(default=None, validator=finite)
    """Of all requests that were answered; None: of none."""
    masked_rows: int = field(default=0, validator=natural)
    mask_violations: int = field(default=0, validator=natural)
    compared: int = field(default=0, validator=natural)
    """Rows that the other checkpoint was asked too."""
    action_shift: float | None = field(default=None, validator=_share)
    """By how much the two checkpoints differ on these rows, from 0 to 1.

    The share of rows on which they prefer different choices; the mean difference, as
    a share of its range, of a number.  Of an action with several parts the greatest.
    """
    greatest_of: int = field(default=1, validator=natural)
    """Of how many parts' differences the shift is the greatest."""

    def of(self, limit: Limit) -> float | None:
        """Return what was measured, in the unit of the limit; None: nothing was."""
        match limit:
            case Limit.ERROR_RATE:
                return self.errors / self.requests if self.requests else None
            case Limit.P99_MS:
                return self.p99_ms
            case Limit.MASK_VIOLATION_RATE:
                rows = self.masked_rows
                return self.mask_violations / rows if rows else None
            case Limit.ACTION_SHIFT:
                return self.action_shift
            case _:
                assert_never(limit)


def crossed(guard: Guard, figures: Figures) -> Limit | None:
    """Return the first limit that is crossed beyond doubt; None: none is.

    Each limit is a null hypothesis: what is counted happens at most at that rate.  It
    is rejected by the method of mixtures (Robbins, 1970, Statistical methods related
    to the law of the iterated logarithm): the likelihood of what was seen under rates
    over the limit, averaged over `ALTERNATIVES` of them and divided by its likelihood
    at the limit, is a supermartingale while the limit is kept, so that by Ville's
    inequality the probability that it ever reaches 1 / `FALSE_ALARM` is less than
    `FALSE_ALARM`, however often somebody looks.  The same holds for means of
    numbers in 0..1 (Hoeffding, 1963), hence for shares and differences.

    Rejecting takes that cases come one after another at no more than the limit,
    whatever came before.  Requests that are slow come in bursts, and therefore the
    share of each second counts as one case.
    """
    for limit in Limit:
        most = guard.of(limit)
        if most is not None and _is_over(limit, most, figures):
            return limit
    return None


def _is_over(limit: Limit, most: float, seen: Figures) -> bool:
    match limit:
        case Limit.ERROR_RATE:
            evidence = _evidence(seen.errors, seen.requests, most)
        case Limit.P99_MS:
            evidence = _evidence(seen.slow_seconds, seen.seconds, SLOW_SHARE)
        case Limit.MASK_VIOLATION_RATE:
            evidence = _evidence(seen.mask_violations, seen.masked_rows, most)
        case Limit.ACTION_SHIFT:
            shift = seen.action_shift or 0.0
            evidence = _evidence(seen.compared * shift, seen.compared, most)
            evidence -= math.log(max(1, seen.greatest_of))
        case _:
            assert_never(limit)
    return evidence >= -math.log(FALSE_ALARM)


def _evidence(total: float, cases: int, rate: float) -> float:
    """Return the logarithm of the averaged likelihood ratio against `rate`.

    `total`: the sum of `cases` numbers in 0..1.  The odds of the alternatives are
    those of `rate` times powers of the square root of 2.
    """
    if rate == 0:
        return math.inf if total > 0 else -math.inf
    if rate == 1:
        return -math.inf
    odds = rate / (1 - rate)
    ratios = []
    for step in range(1, ALTERNATIVES + 1):
        raised = odds * 2 ** (step / 2)
        # (1 - q) / (1 - p) and (q / p) of the alternative q and the rate p
        unhappened = math.log1p(odds) - math.log1p(raised)
        happened = unhappened + step / 2 * math.log(2)
        ratios.append(total * happened + (cases - total) * unhappened)
    most = max(ratios)
    mean = sum(math.exp(ratio - most) for ratio in ratios) / ALTERNATIVES
    return most + math.log(mean)
