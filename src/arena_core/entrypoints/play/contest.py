"""One agent, or two on the same episodes, and what came of it."""

from collections.abc import Iterable, Iterator, Sequence

from attrs import field, frozen

from arena_core.application.inference import Mode
from arena_core.domain.errors import Rejected
from arena_core.entrypoints.play.endpoint import Endpoint
from arena_core.entrypoints.play.environments import loop_of
from arena_core.entrypoints.play.episodes import Environment, Episode, Loop, play
from arena_core.entrypoints.play.player import Player
from arena_core.entrypoints.play.report import Report, sentence
from arena_core.entrypoints.play.statistics import Comparison, compare


@frozen(eq=False)
class Contestant:
    """An agent in an environment, with the episodes that it has played."""

    name: str
    endpoint: Endpoint
    loop: Loop
    episodes: list[Episode] = field(factory=list)

    @classmethod
    def of(cls, name: str, endpoint: Endpoint, env: Environment) -> "Contestant":
        """Ask the agent what it is.  Raises `Rejected` if it is not for `env`."""
        status = endpoint.status()
        if not status.acts:
            raise Rejected(f"The agent {name} does not act, so it cannot play.")
        return cls(name, endpoint, loop_of(env, multi_agent=status.agent.multi_agent))


@frozen
class Result:
    """What `agent play --json` prints."""

    environment: str
    mode: Mode
    complete: bool
    """Whether all episodes were played that were asked for."""
    agent: Report
    other: Report | None = None
    comparison: Comparison | None = None
    verdict: str | None = None
    """The comparison as a sentence."""

    @classmethod
    def of(
        cls,
        environment: str,
        mode: Mode,
        contestants: Sequence[Contestant],
        *,
        complete: bool,
    ) -> "Result":
        """Sum up; the first contestant must have played an episode."""
        first, *others = contestants
        ours = Report.of(first.name, first.episodes)
        for other in others:
            if other.episodes:
                theirs = Report.of(other.name, other.episodes)
                said = compare(*_paired(ours.returns, theirs.returns))
                told = sentence(ours.name, theirs.name, said)
                return cls(environment, mode, complete, ours, theirs, said, told)
        return cls(environment, mode, complete, ours)


def episodes_of(
    env: Environment,
    mode: Mode,
    contestants: Sequence[Contestant],
    seeds: Iterable[int],
) -> Iterator[Contestant]:
    """Play an episode for each seed; give whoever has just played one.

    Two contestants play in turns, so that they can be compared whenever one stops.
    """
    for seed in seeds:
        for contestant in contestants:
            player = Player.of(contestant.endpoint, mode, seed)
            contestant.episodes.append(play(env, contestant.loop, player, seed))
            yield contestant


def _paired(
    first: Sequence[float], second: Sequence[float]
) -> tuple[Sequence[float], Sequence[float]]:
    pairs = min(len(first), len(second))
    return first[:pairs], second[:pairs]
