"""Whether a checkpoint is good enough to be used, and why."""

from arena_core.domain.stage_run import Product
from arena_core.domain.stage_settings import Condition


def judged(
    condition: Condition, candidate: Product | None, live: Product | None
) -> tuple[bool, str]:
    """Say whether the condition is met, and why, in a sentence.

    `live`: what the stage has live; None: nothing.
    """
    if candidate is None:
        return True, "It begins from scratch: there is nothing to judge."
    score = candidate.scores.evaluation
    if score is None:
        return False, "The checkpoint has no evaluation score to be judged by."
    least = condition.min_fitness
    if least is not None and score < least:
        return (
            False,
            f"The fitness {score:g} is below the least that is asked, {least:g}.",
        )
    if condition.better_than_live and live is not None:
        return _compared(candidate, score, live)
    return True, f"The fitness is {score:g}."


def _compared(candidate: Product, score: float, live: Product) -> tuple[bool, str]:
    there = live.scores.evaluation
    if live.digest == candidate.digest:
        return False, "This very checkpoint is live already."
    if there is None:
        return True, f"The fitness is {score:g}; that of what is live is not known."
    if score <= there:
        return (
            False,
            f"The fitness {score:g} is not above that of what is live, {there:g}.",
        )
    return True, f"The fitness {score:g} is above that of what is live, {there:g}."
