"""Episodes of recurrent policies whose memory the server keeps.

An episode belongs to who began it, and goes on with the weights that it began with:
those that were live then, whatever is live now.  It ends when its caller says so, when
nobody has gone on with it for a while, and when its weights are gone.  Kept by one
process, in memory: it does not outlive it.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from itertools import takewhile

from attrs import define, field, frozen

from arena_core.application.golden import Step
from arena_core.application.open_inference import SequenceId
from arena_core.application.ports import Array
from arena_core.application.serving import Live
from arena_core.domain.errors import Overloaded, Rejected
from arena_core.domain.ids import DeploymentId
from arena_core.domain.values import shown

MOST_EPISODES = 1024
"""Of one deployment."""
MOST_BYTES = 256 << 20
"""Of what all episodes remember."""
MARGIN_S = 10.0
"""For how long a step may take: its weights stay loaded so much longer."""
_HIDDEN = "hidden_state/"


@frozen
class Whose:
    """What an episode is known by: nobody else can go on with it."""

    deployment_id: DeploymentId
    principal: str
    """Who asks, as the log would have it; empty for the deployment's own key."""
    sequence_id: SequenceId


@define(eq=False)
class Episode:
    """What is remembered between two steps."""

    live: Live
    """What has answered its first step."""
    used_s: float
    rows: int | None = None
    """None before the first step is answered."""
    _memory: dict[str, dict[str, Array]] = field(factory=dict)
    """Hidden states by agent."""

    @property
    def size(self) -> int:
        states = (array for own in self._memory.values() for array in own.values())
        return sum(array.nbytes for array in states)

    def asked(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Return `inputs` with what is remembered of the agents that are asked.

        Raises `Rejected` for another number of rows than the episode has.
        """
        whole = dict(inputs)
        for agent, own in Step(whole.copy()).by_agent().items():
            if any(what.startswith(_HIDDEN) for what in own):
                raise Rejected(
                    "The server keeps the hidden_state of a sequence: leave it out.",
                    field="hidden_state",
                )
            self._check_rows(own)
            at = f"agents/{agent}/" if agent else ""
            remembered = self._memory.get(agent, {})
            whole |= {f"{at}{what}": array for what, array in remembered.items()}
        return whole

    def _check_rows(self, own: Mapping[str, Array]) -> None:
        for what, array in own.items():
            if self.rows is not None and array.shape[:1] != (self.rows,):
                raise Rejected(
                    f"The sequence began with {self.rows} rows, so {what} must have "
                    "as many: begin another with sequence_start.",
                    field=what,
                )

    def remember(self, answer: Mapping[str, Array]) -> dict[str, Array]:
        """Keep the hidden states of an answer; return the rest of it.

        An agent that was not asked goes on later where it was.
        """
        rest: dict[str, Array] = {}
        for agent, own in Step(dict(answer)).by_agent().items():
            at = f"agents/{agent}/" if agent else ""
            kept = {what: a for what, a in own.items() if what.startswith(_HIDDEN)}
            rest |= {f"{at}{w}": array for w, array in own.items() if w not in kept}
            self._memory[agent] = kept
            self.rows = len(next(iter(own.values())))
        return rest


class Episodes:
    """All episodes of one process.  For one thread."""

    def __init__(
        self,
        pin: Callable[[Live, float], bool],
        *,
        idle_s: float,
        most: int = MOST_EPISODES,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        """`pin(live, for_s)` keeps a model loaded, and says whether it still is.

        `idle_s`: for how long nobody need go on with an episode.
        """
        self._pin = pin
        self._idle_s = idle_s
        self._most = most
        self._most_bytes = most_bytes
        self._episodes: dict[Whose, Episode] = {}
        """Those that were used last come last."""
        self._of: Counter[DeploymentId] = Counter()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._episodes)

    def begin(self, whose: Whose, live: Live, now_s: float) -> Episode:
        """Return a new episode with what is live, in place of one of that name."""
        self.end(whose)
        self.sweep(now_s)
        if self._of[whose.deployment_id] >= self._most:
            self._forget_gone()
        if self._of[whose.deployment_id] >= self._most:
            raise Overloaded(
                f"There are {self._most} sequences of this deployment under way: end "
                "some with sequence_end, or try again later.",
                retry_after_s=self._idle_s,
            )
        return self._held(whose, Episode(live, now_s))

    def going_on(self, whose: Whose, now_s: float) -> Episode:
        """Return the episode that was begun.  Raises `Rejected` if it is over."""
        self.sweep(now_s)
        episode = self._taken(whose)
        if episode is None:
            raise self._unknown(whose)
        episode.used_s = now_s
        return self._held(whose, episode)

    def answered(
        self, whose: Whose, episode: Episode, answer: Mapping[str, Array], now_s: float
    ) -> dict[str, Array]:
        """Remember what an answer holds; return the rest of it."""
        self.end(whose)
        rest = episode.remember(answer)
        if self._bytes + episode.size > self._most_bytes:
            self._forget_gone()
        if self._bytes + episode.size > self._most_bytes:
            raise Overloaded(
                "The server remembers as much of sequences as it may, so this one is "
                "over: end others, or use fewer rows.",
                retry_after_s=self._idle_s,
            )
        episode.used_s = now_s
        self._put(whose, episode)
        return rest

    def end(self, whose: Whose) -> None:
        """Forget an episode, if there is one."""
        self._taken(whose)

    def sweep(self, now_s: float) -> None:
        """Forget what nobody has gone on with."""
        left_s = now_s - self._idle_s
        by_use = self._episodes.items()
        for whose, _ in list(takewhile(lambda each: each[1].used_s < left_s, by_use)):
            self.end(whose)

    def _forget_gone(self) -> None:
        """Forget what nobody can go on with, for its weights are gone."""
        lives = {id(each.live.model): each.live for each in self._episodes.values()}
        gone = {model for model, live in lives.items() if not self._pin(live, 0.0)}
        for whose, episode in list(self._episodes.items()):
            if id(episode.live.model) in gone:
                self.end(whose)

    def _held(self, whose: Whose, episode: Episode) -> Episode:
        """Keep its weights loaded; where they are gone, it is over."""
        if not self._pin(episode.live, self._idle_s + MARGIN_S):
            raise self._unknown(whose)
        self._put(whose, episode)
        return episode

    def _put(self, whose: Whose, episode: Episode) -> None:
        self._episodes[whose] = episode
        self._of[whose.deployment_id] += 1
        self._bytes += episode.size

    def _taken(self, whose: Whose) -> Episode | None:
        episode = self._episodes.pop(whose, None)
        if episode is not None:
            self._of[whose.deployment_id] -= 1
            if not self._of[whose.deployment_id]:
                del self._of[whose.deployment_id]
            self._bytes -= episode.size
        return episode

    def _unknown(self, whose: Whose) -> Rejected:
        return Rejected(
            f"No sequence {shown(str(whose.sequence_id))} of yours is under way here: "
            "begin it with sequence_start. One ends when the deployment is "
            f"disconnected and after {self._idle_s:g} seconds without a step, and only "
            "the process of the server that has begun it knows it: keep to one "
            "connection.",
            field="sequence_id",
        )
