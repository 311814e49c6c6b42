"""A random life of any aggregate, and what is always true of it.

The commands are all that the types in each module allow, with fields from pools
so small that they meet; one that is added later is tried without a word here.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from enum import Enum
from functools import cache, reduce
from itertools import product
from types import ModuleType, UnionType
from typing import Any, ClassVar, Union, get_args, get_origin, get_type_hints
from uuid import UUID

import attrs
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from arena_core.domain import (
    agent,
    checkpoint_import,
    credential,
    experiment,
    guards,
    parity,
    swap,
)
from arena_core.domain.errors import ArenaError, Rejected
from arena_core.domain.ids import Digest, ExperimentId, ProjectId
from arena_core.domain.values import CheckpointType, Family, Scores, Source, SourceKind
from unit.spec import assert_plain

NOW = datetime(2026, 9, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
LEASE = 2 * MINUTE
IDS = (UUID(int=1), UUID(int=2))
DIGESTS = (Digest("a" * 64), Digest("b" * 64))
ELSEWHERE = Digest("c" * 64)
"""Of a checkpoint of another experiment."""
GYM = Source(SourceKind.GYM, "CartPole-v1")
POOLS: Mapping[Any, Sequence[Any]] = {
    str: ("one", " two ", " "),
    int: (1, 2),
    float: (0.5,),
    UUID: IDS,
    Digest: DIGESTS,
    datetime: (NOW, NOW + LEASE),
    timedelta: (MINUTE, 4 * MINUTE),
    agent.Origin: (
        agent.Origin(
            ExperimentId(IDS[0]), "ppo", ProjectId(IDS[1]), "PPO", Family.RL, None
        ),
    ),
    agent.Frozen: tuple(
        agent.Frozen(CheckpointType.FINAL, 1, digest, Scores()) for digest in DIGESTS
    ),
    checkpoint_import.Files: tuple(
        checkpoint_import.Files(digest, 1) for digest in DIGESTS
    ),
    checkpoint_import.Order: (checkpoint_import.Order("sb3", 1),),
    credential.Secret: tuple(credential.Secret(digest, "1234") for digest in DIGESTS),
    parity.Parity: tuple(parity.Parity(v) for v in parity.Verdict),
    guards.Guard: (guards.Guard(60.0, error_rate=0.1),),
    guards.Figures: (guards.Figures(),),
    swap.Shadow: (swap.Shadow(60.0),),
    experiment.ConfigureExperiment: (
        experiment.ConfigureExperiment(),
        experiment.ConfigureExperiment(algorithm="DQN"),
        experiment.ConfigureExperiment(recipe="train.py", family=Family.RL),
    ),
    experiment.Beginning: (
        experiment.Beginning(),
        experiment.Beginning(DIGESTS[0], DIGESTS[1], 1),
    ),
    experiment.RequestTraining: (
        experiment.RequestTraining(),
        experiment.RequestTraining(1),
        experiment.RequestTraining(2, 2),
        experiment.RequestTraining(1, resume_digest=ELSEWHERE, resume_of=IDS[0]),
        experiment.RequestTraining(stage=IDS[1]),
        experiment.RequestTraining(1, stage=IDS[1]),
    ),
    experiment.Setup: (
        experiment.Setup("PPO", Family.RL, GYM),
        experiment.Setup("DQN", Family.RL, GYM),
        experiment.Setup("PPO", Family.RL),
    ),
}


@cache
def every(kind: Any) -> Sequence[Any]:
    """Return all values of `kind` that can be made of `POOLS`."""
    plain = getattr(kind, "__supertype__", kind)
    if kind in POOLS or plain in POOLS:
        return POOLS.get(kind, POOLS.get(plain, ()))
    if kind is type(None):
        return (None,)
    if get_origin(kind) in {Union, UnionType}:
        return [value for member in get_args(kind) for value in every(member)]
    if issubclass(kind, Enum):
        return tuple(kind)
    hints = get_type_hints(kind)
    found = []
    for values in product(*(every(hints[a.name]) for a in attrs.fields(kind))):
        with suppress(Rejected):  # a value that refuses to exist is none
            found.append(kind(*values))
    return found


def one_kind_of(values: Sequence[Any]) -> st.SearchStrategy[Any]:
    """Return a strategy that chooses the class first, then one of its values."""
    kinds = {type(value): [] for value in values}
    for value in values:
        kinds[type(value)].append(value)
    return st.sampled_from(list(kinds.values())).flatmap(st.sampled_from)


@cache
def creations(module: ModuleType) -> Sequence[Any]:
    """Return the commands that can begin a life: all of the first class, if valid."""
    first, *_ = get_args(module.Command)
    return [
        command
        for command in every(first)
        if " " not in {getattr(command, "name", ""), getattr(command, "user", "")}
    ]


class Life(RuleBasedStateMachine):
    """One aggregate, from its creation on, under any commands at any times."""

    module: ClassVar[ModuleType]
    each_time: ClassVar[tuple[type, ...]] = ()
    """The commands that are meant to do something whenever they are repeated."""
    ends: ClassVar[tuple[type, ...]] = ()
    revivals: ClassVar[tuple[type, ...]] = ()

    def __init__(self):
        super().__init__()
        self.now = NOW
        self.state = None
        self.history = []

    def commands(self) -> Sequence[Any]:
        return every(self.module.Command)

    def steps(self) -> Sequence[Any]:
        """Return the commands that do something now, but for those that end all."""
        left_out = (get_args(self.module.Command)[0], *self.ends)
        return [
            command
            for command in self.commands()
            if not isinstance(command, left_out) and self.decided(command)
        ]

    @initialize(
        command=st.runner().flatmap(
            lambda life: st.sampled_from(creations(life.module))
        )
    )
    def begin(self, command):
        self.obey(command)
        assert self.state is not None

    @rule(command=st.runner().flatmap(lambda life: one_kind_of(life.commands())))
    def anything(self, command):
        self.obey(command)

    @precondition(lambda life: life.steps())
    @rule(command=st.runner().flatmap(lambda life: one_kind_of(life.steps())))
    def something(self, command):
        self.obey(command)

    def obey(self, command):
        before, seen = self.state, repr(self.state)
        events = self.decided(command)
        assert events == self.decided(command), "decide is no function"
        assert repr(before) == seen, "decide has changed the state"
        if before is not None and before.deleted and events:
            assert type(command) in self.revivals, "the dead have moved"
        for event in events or ():
            self.happen(event)
        if type(command) not in self.each_time:
            assert not self.decided(command), "once more is not the same"

    def decided(self, command):
        """Return the events of `command`, or None if it is refused."""
        try:
            return list(self.module.decide(command, self.state, self.now))
        except ArenaError as refusal:
            assert_plain(refusal)
            return None

    def happen(self, event):
        self.history.append((self.now, event))
        self.state = self.module.evolve(self.state, event)

    @property
    def events(self):
        return [event for _, event in self.history]

    @invariant()
    def the_state_is_what_the_history_says(self):
        assert reduce(self.module.evolve, self.events, None) == self.state


class TimedLife(Life):
    """A life to which the passing of time matters."""

    @rule(minutes=st.integers(1, 3))
    def wait(self, minutes):
        self.now += minutes * MINUTE
