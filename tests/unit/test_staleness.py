"""Rule 78: whether a stage is stale, against a model that knows nothing of how."""

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from arena_core.application.pipeline_views import Why
from arena_core.domain.errors import Conflict, Rejected
from arena_core.domain.lineage import fingerprint
from arena_core.domain.stage_run import AT_WORK, Status
from unit.chains import Chain, digest
from unit.scenes import Scene

# --- the oracle: plain lists, and the rule as it is written --------------------------


class Oracle:
    """What each stage has taken, what each has left, and what is there still."""

    def __init__(self):
        self.order, self.kind, self.bound, self.rule = [], {}, {}, {}
        self.took, self.left, self.there = {}, {}, {}
        self.measured = {}
        self.start, self.agents = None, {}

    def before(self, stage):
        earlier = self.order[: self.order.index(stage)]
        return [s for s in earlier if self.kind[s] == "experiment"][-1:]

    def now(self, stage):
        what = (self.kind[stage], self.bound.get(stage))
        if before := self.before(stage):
            found = self.left.get(before[0], {}).get(self.rule[stage])
            letter = None if found is None or found not in self.live() else found[1]
        else:
            letter = self.agents.get(self.start.get(stage)) if self.start else None
        return (*what, letter)

    def live(self):
        return {(e, x) for e, written in self.there.items() for _, x in written}

    def takes(self, stage):
        self.took[stage] = self.now(stage)

    def goes_on(self, stage):
        same = stage in self.took and self.took[stage][1] == self.bound[stage]
        if not same:
            self.took[stage] = ("experiment", self.bound[stage], None)

    def ends(self, stage, scores):
        e = self.bound[stage]
        written = sorted(self.there.get(e, []))
        self.measured |= {(e, s): scores[x] for s, x in written if x in scores}
        scored = [
            (self.measured[e, step], step, x)
            for step, x in written
            if (e, step) in self.measured
        ]
        found = {"final": written[-1][1] if written else None}
        found["best"] = max(scored)[2] if scored else None
        self.left[stage] = {k: v and (e, v) for k, v in found.items()}

    def is_new(self, e, step, *, anew):
        """Forget what earlier trainings have measured of what is written anew."""
        gone = [m for m in self.measured if m[0] == e and (anew or m[1] == step)]
        for measured in gone:
            del self.measured[measured]

    def stale(self, stage):
        return stage in self.took and self.took[stage] != self.now(stage)


# --- random pipelines, compared after every step -------------------------------------

WHICH = st.integers(1, 4)
LETTER = st.sampled_from("abc")
HOW = st.sampled_from(["trigger", "retry", "train"])
UP, DOWN = {"a": 1.0, "b": 2.0, "c": 3.0}, {"a": 3.0, "b": 2.0, "c": 1.0}
SCORES = st.sampled_from([UP, DOWN, {"a": 1.0, "b": 1.0}, {}])


def positions_in(kind):
    """Return a rule's argument: one of the positions that the machine has to offer."""
    return st.runner().flatmap(lambda machine: st.sampled_from(kind(machine)))


def with_a(kind):
    return precondition(lambda machine: bool(kind(machine)))


def all_of(machine):
    return list(range(1, len(machine.oracle.order) + 1))


def those(*statuses):
    def kind(machine):
        stages = machine.chain.view.stages
        return [s.position for s in stages if s.status in statuses]

    return kind


def editable(machine):
    return [] if those(*AT_WORK)(machine) else all_of(machine)


def trainable(machine):
    stages = machine.chain.view.stages
    trained = machine.oracle.there
    return [s.position for s in stages if trained.get(s.experiment_id)]


PENDING = those(Status.PENDING)
WORKING = those(Status.RUNNING, Status.STOPPING)


class Staleness(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.scene = Scene.open(Path())
        self.chain = Chain.begin(self.scene)
        self.oracle = Oracle()
        self.oracle.start = {}
        self.fresh = {}
        """Whether the present training of a stage has replaced what was there."""

    def teardown(self):
        self.scene.arena.close()

    def at(self, which):
        stages = self.chain.view.stages
        return stages[which - 1] if which <= len(stages) else None

    @initialize(kinds=st.lists(st.booleans(), max_size=3), auto=st.booleans())
    def begin(self, kinds, auto):
        for deployment in (False, *kinds):
            self.insert(deployment, None, auto)
        for which in range(1, len(kinds) + 2):
            self.run_at_once(which, "a", {"a": 1.0}, "trigger")

    @precondition(lambda machine: len(machine.oracle.order) < 4)
    @rule(deployment=st.booleans(), position=st.none() | WHICH, auto=st.booleans())
    def insert(self, deployment, position, auto):
        fields = {"trigger": "auto"} if auto and self.oracle.order else {}
        if deployment:
            fields["type"] = "deployment"
        with suppress(Rejected, Conflict):
            made = self.chain.insert(position=position, **fields)
            self.oracle.order.insert(made.position - 1, made.id)
            self.oracle.kind[made.id] = made.type.value
            self.oracle.bound[made.id] = made.experiment_id
            self.oracle.rule[made.id] = "best"

    @with_a(editable)
    @rule(which=positions_in(editable), to=WHICH)
    def move(self, which, to):
        stage = self.at(which)
        with suppress(Rejected, Conflict, IndexError):
            self.chain.move(which, to)
            self.oracle.order.remove(stage.id)
            self.oracle.order.insert(to - 1, stage.id)

    @with_a(editable)
    @rule(which=positions_in(editable))
    def remove(self, which):
        stage = self.at(which)
        with suppress(Rejected, Conflict, IndexError):
            self.chain.remove(which)
            self.oracle.order.remove(stage.id)

    @with_a(editable)
    @rule(which=positions_in(editable), best=st.booleans())
    def hand_over(self, which, best):
        wanted = "best" if best else "final"
        with suppress(Rejected, Conflict, IndexError):
            stage = self.chain.edit(which, checkpoint=wanted)
            self.oracle.rule[stage.id] = wanted

    @with_a(editable)
    @rule(which=positions_in(editable), trigger=st.sampled_from(["auto", "manual"]))
    def set_trigger(self, which, trigger):
        with suppress(Rejected, Conflict, IndexError):
            self.chain.edit(which, trigger=trigger)

    @with_a(editable)
    @rule(which=positions_in(editable))
    def rebind(self, which):
        stage = self.at(which)
        if stage is None or stage.experiment_id is None:
            return
        with suppress(Rejected, Conflict):
            made = self.chain.edit(which, experiment_id=self.chain.experiment())
            self.oracle.bound[stage.id] = made.experiment_id

    @with_a(editable)
    @rule(which=positions_in(editable), algorithm=st.sampled_from(["PPO", "DQN"]))
    def configure(self, which, algorithm):
        """Have it train otherwise: that makes nothing stale of what it has taken."""
        stage = self.at(which)
        if stage is not None and stage.experiment_id is not None:
            with suppress(Rejected, Conflict):
                edit = self.chain.use.experiments.edit
                edit(stage.experiment_id, algorithm=algorithm)

    @rule(letter=LETTER)
    def begin_with(self, letter):
        with suppress(Rejected, Conflict, IndexError):
            saved = self.chain.saved(letter)
            stage = self.chain.edit(1, start=saved)
            self.oracle.agents[saved] = letter
            self.oracle.start[stage.id] = saved

    @rule(letter=LETTER, gone=st.booleans())
    def change_the_agent(self, letter, gone):
        for saved, was in list(self.oracle.agents.items()):
            if gone and was is not None:
                self.chain.use.agents.delete(saved)
                self.oracle.agents[saved] = None
            elif was is not None:
                self.chain.replace(saved, letter)
                self.oracle.agents[saved] = letter

    @with_a(all_of)
    @rule(which=positions_in(all_of), how=HOW)
    def run(self, which, how):
        with suppress(Rejected, Conflict, IndexError):
            stage = getattr(self.chain, how)(which)
            self.oracle.takes(stage.id)

    @with_a(all_of)
    @rule(which=positions_in(all_of), letter=LETTER, scores=SCORES, how=HOW)
    def run_at_once(self, which, letter, scores, how):
        """Do in one step what the rules do in several: chains get longer like that."""
        self.run(which, how)
        self.start(which)
        self.write(which, 10, letter)
        self.end(which, scores, Chain.end)

    @with_a(trainable)
    @rule(which=positions_in(trainable))
    def resume(self, which):
        stage = self.at(which)
        if stage is None or not self.oracle.there.get(stage.experiment_id):
            return
        step = max(self.oracle.there[stage.experiment_id])[0]
        with suppress(Rejected, Conflict):
            self.chain.resume(which, step)
            self.oracle.goes_on(stage.id)

    @with_a(PENDING)
    @rule(which=positions_in(PENDING))
    def start(self, which):
        stage = self.at(which)
        if stage is None or stage.status is not Status.PENDING:
            return
        self.chain.start(which)
        begun = self.chain.state(which)
        if begun.status is Status.RUNNING:  # what it goes on from was not deleted
            self.fresh[stage.id] = begun.run.resume_step is None

    @with_a(WORKING)
    @rule(which=positions_in(WORKING), step=st.sampled_from([10, 20]), letter=LETTER)
    def write(self, which, step, letter):
        stage = self.at(which)
        if stage is None or stage.status not in {Status.RUNNING, Status.STOPPING}:
            return
        if stage.experiment_id is None:
            return
        self.chain.write(which, step, letter)
        written = self.oracle.there.setdefault(stage.experiment_id, [])
        kept = [] if self.fresh.pop(stage.id, False) else written
        if (step, letter) not in kept:
            self.oracle.is_new(stage.experiment_id, step, anew=not kept)
        kept = [(s, x) for s, x in kept if s != step]
        self.oracle.there[stage.experiment_id] = [*kept, (step, letter)]

    @with_a(WORKING)
    @rule(
        which=positions_in(WORKING),
        scores=SCORES,
        how=st.sampled_from([Chain.end, Chain.fail, Chain.halt]),
    )
    def end(self, which, scores, how):
        stage = self.at(which)
        if stage is None or stage.status not in {Status.RUNNING, Status.STOPPING}:
            return
        behind = self.at(which + 1)
        how(self.chain, which, scores)
        if stage.experiment_id is not None:
            self.oracle.ends(stage.id, scores)
        after = self.at(which + 1)
        if behind is not None and after.run != behind.run:
            self.oracle.takes(behind.id)

    @with_a(PENDING)
    @rule(which=positions_in(PENDING))
    def stop(self, which):
        stage = self.at(which)
        if stage is not None and stage.status is Status.PENDING:
            self.chain.use.pipelines.stop(self.chain.id, stage.id)

    @with_a(trainable)
    @rule(which=positions_in(trainable), step=st.sampled_from([10, 20]))
    def forget(self, which, step):
        stage = self.at(which)
        written = (
            [] if stage is None else self.oracle.there.get(stage.experiment_id, [])
        )
        if any(s == step for s, _ in written):
            self.chain.forget(which, step)
            written[:] = [(s, x) for s, x in written if s != step]

    @invariant()
    def the_view_says_what_the_oracle_says(self):
        stages = self.chain.view.stages
        assert [s.id for s in stages] == self.oracle.order
        for stage in stages:
            assert stage.stale is self.oracle.stale(stage.id), stage
            assert stage.stale is bool(stage.stale_because)

    @invariant()
    def a_cause_names_events_that_the_run_has_not_seen(self):
        for stage in self.chain.view.stages:
            for cause in stage.stale_because:
                assert cause.positions == sorted(set(cause.positions))
                # A run that took nothing, or failed to, may have no event to name.
                assert cause.positions or cause.consumed is None or cause.now is None


TestStaleness = pytest.mark.slow(Staleness.TestCase)
TestStaleness.settings = settings(
    stateful_step_count=40, suppress_health_check=[HealthCheck.filter_too_much]
)


# --- cases ---------------------------------------------------------------------------


@pytest.fixture
def chain(scene):
    return Chain.begin(scene)


def names(chain, positions):
    store = chain.scene.arena.application.core.store
    found = {r.position: r.name for r in store.read_all(limit=10_000)}
    return [found[position] for position in positions]


def ran(chain, *letters):
    """Insert a stage for each letter, and run them one after the other."""
    for position, letter in enumerate(letters, start=1):
        chain.insert()
        chain.run(position, letter)


def cause(chain, position):
    (only,) = chain.stage(position).stale_because
    return only


def test_what_took_the_old_checkpoint_is_stale_although_it_ended_later(chain):
    """Dagster 10160: the one before is run again while the one behind is running."""
    ran(chain, "a")
    chain.insert()
    chain.trigger(2)
    chain.start(2)
    chain.run(1, "c")
    assert chain.stage(2).stale, "it is made of what is not there any more"
    chain.write(2, 10, "b")
    chain.end(2, {"b": 1.0})
    second = chain.stage(2)
    assert second.run.ended_at > chain.stage(1).run.ended_at
    assert second.stale
    assert (cause(chain, 2).consumed, cause(chain, 2).now) == (digest("a"), digest("c"))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("ab", "c"), ("a", "bc")),
        (("", "a"), ("a", "")),
        (("a",), ("a", "")),
        (("a\0", "b"), ("a", "\0b")),
        (("1", "2:3"), ("1:2", "3")),
        (("é",), ("e\u0301",)),
    ],
)
def test_no_two_lists_of_parts_have_the_same_fingerprint(one, other):
    """Dagster 34184: parts that were joined without anything between them."""
    assert fingerprint(*one) != fingerprint(*other)
    assert fingerprint(*one) == fingerprint(*one)


@given(
    st.lists(st.text(max_size=3), max_size=3), st.lists(st.text(max_size=3), max_size=3)
)
def test_a_fingerprint_tells_any_two_lists_of_parts_apart(one, other):
    assert (fingerprint(*one) == fingerprint(*other)) is (one == other)


def test_a_run_that_yields_the_same_makes_nothing_stale(chain):
    ran(chain, "a", "b")
    chain.run(1, "a")
    assert not chain.stage(2).stale


def test_a_run_that_yields_the_old_one_again_makes_fresh_what_was_stale(chain):
    ran(chain, "a", "b")
    chain.run(1, "c")
    assert chain.stage(2).stale
    chain.run(1, "a")
    assert not chain.stage(2).stale


def test_rule_78_the_same_checkpoint_at_another_step_makes_nothing_stale(chain):
    ran(chain, "a", "b")
    chain.trigger(1)
    chain.start(1)
    chain.write(1, 20, "a")
    chain.end(1, {"a": 1.0})
    assert not chain.stage(2).stale


def test_rule_78_the_same_checkpoint_of_another_stage_makes_nothing_stale(chain):
    ran(chain, "a", "a", "b")
    chain.remove(2)
    assert not chain.stage(2).stale


def test_what_is_behind_a_stale_stage_is_not_stale_by_that(chain):
    ran(chain, "a", "b", "c")
    chain.run(1, "d")
    assert [s.stale for s in chain.view.stages] == [False, True, False]


def test_a_resumed_run_takes_nothing_new_so_what_was_stale_stays_stale(chain):
    ran(chain, "a", "b")
    chain.run(1, "c")
    chain.resume(2, 10)
    chain.start(2)
    chain.write(2, 20, "d")
    chain.end(2, {"d": 1.0})
    assert chain.stage(2).stale
    assert chain.stage(2).run.consumed.digest == digest("a")
    assert names(chain, cause(chain, 2).positions) == [
        "stage.triggered",
        "stage.succeeded",
    ], "what the run before it has not seen"


def test_who_resumes_another_experiment_than_was_run_is_made_of_nothing_before(chain):
    ran(chain, "a", "b")
    chain.edit(2, experiment_id=chain.experiment())
    chain.resume(2, 10)
    assert chain.stage(2).run.consumed is None
    assert cause(chain, 2).why is Why.PRODUCED


def test_the_chain_of_causes_goes_back_to_the_first_event_that_was_not_seen(chain):
    ran(chain, "a")
    chain.insert(trigger="auto")
    chain.insert()
    chain.run(1, "a")
    chain.work(2, "b")
    chain.run(3, "c")
    assert not chain.stage(3).stale
    chain.run(1, "d")
    chain.work(2, "e")
    found = cause(chain, 3)
    assert found.why is Why.PRODUCED
    assert found.stage_id == chain.stage(2).id
    assert names(chain, found.positions) == [
        "stage.triggered",
        "stage.succeeded",
        "stage.triggered",
        "stage.succeeded",
    ]
    log = {r.position: r for r in chain.scene.arena.application.core.store.read_all()}
    streams = [log[position].stream for position in found.positions]
    first, second = chain.stage(1).id, chain.stage(2).id
    assert streams == [first, first, second, second]


def test_events_that_the_run_has_seen_are_no_cause(chain):
    chain.insert()
    chain.insert(trigger="auto")
    chain.insert()
    chain.run(1, "a")
    chain.work(2, "b")
    chain.run(1, "a")
    chain.trigger(3)
    assert chain.stage(3).run.consumed.digest == digest("b"), "the new one is not there"
    chain.work(2, "c")
    found = cause(chain, 3)
    assert (found.consumed, found.now) == (digest("b"), digest("c"))
    assert names(chain, found.positions) == ["stage.succeeded"]


def test_what_was_deleted_is_told(chain):
    ran(chain, "a", "b")
    chain.forget(1, 10)
    found = cause(chain, 2)
    assert (found.why, found.now) == (Why.DELETED, None)
    assert names(chain, found.positions) == ["experiment.checkpoint_deleted"]
    assert "stage 1" in found.sentence


def test_where_there_is_no_best_checkpoint_any_more_that_is_told(chain):
    ran(chain, "a", "b")
    chain.run(1, "c", None)
    found = cause(chain, 2)
    assert (found.why, found.now) == (Why.PRODUCED, None)
    assert found.sentence == "Stage 1 yields no best checkpoint now."
    assert chain.stage(1).run.produced.digest == digest("c"), "what it has left is told"


def test_what_makes_way_for_a_new_run_was_not_deleted_by_anybody(chain):
    ran(chain, "a", "b")
    chain.trigger(1)
    chain.start(1)
    chain.write(1, 10, "c")
    found = cause(chain, 2)
    assert found.why is Why.DELETED
    assert found.sentence == (
        "The checkpoint that stage 1 has left makes way for that of its new run."
    )


def test_another_rule_is_told_and_taking_it_back_makes_fresh(chain):
    chain.insert()
    chain.insert()
    chain.trigger(1)
    chain.start(1)
    chain.write(1, 10, "a")
    chain.write(1, 20, "b")
    chain.end(1, {"a": 1.0})
    chain.run(2, "c")
    chain.edit(2, checkpoint="final")
    found = cause(chain, 2)
    assert (found.why, found.now) == (Why.RULE, digest("b"))
    assert names(chain, found.positions) == ["pipeline.stage_edited"]
    chain.edit(2, checkpoint="best")
    assert not chain.stage(2).stale


def test_another_order_is_told_and_moving_back_makes_fresh(chain):
    ran(chain, "a", "b", "c")
    chain.move(3, 2)
    found = {s.run.consumed.digest[0]: s.stale_because for s in chain.view.stages[1:]}
    assert {c.why for causes in found.values() for c in causes} == {Why.SOURCE}
    assert names(chain, found["b"][0].positions) == ["pipeline.stage_moved"]
    chain.move(2, 3)
    assert not any(s.stale for s in chain.view.stages)


def test_what_becomes_the_first_would_begin_from_scratch(chain):
    ran(chain, "a", "b")
    chain.remove(1)
    found = cause(chain, 1)
    assert (found.why, found.now) == (Why.SOURCE, None)
    assert names(chain, found.positions) == ["pipeline.stage_removed"]


def test_another_experiment_is_told(chain):
    ran(chain, "a")
    chain.edit(1, experiment_id=chain.experiment())
    found = cause(chain, 1)
    assert found.why is Why.BINDING
    assert names(chain, found.positions) == ["pipeline.stage_edited"]


def test_another_binding_and_another_input_are_both_told(chain):
    ran(chain, "a", "b")
    chain.edit(2, experiment_id=chain.experiment())
    chain.run(1, "c")
    assert [c.why for c in chain.stage(2).stale_because] == [Why.BINDING, Why.PRODUCED]


def test_another_checkpoint_of_the_saved_agent_is_told(chain):
    saved = chain.saved("f")
    chain.insert(start=saved)
    chain.run(1, "a")
    chain.replace(saved, "e")
    found = cause(chain, 1)
    assert (found.why, found.consumed, found.now) == (
        Why.START,
        digest("f"),
        digest("e"),
    )
    assert names(chain, found.positions) == ["agent.checkpoint_replaced"]
    chain.edit(1, start=None)
    assert names(chain, cause(chain, 1).positions) == ["pipeline.stage_edited"]


def test_a_deployment_is_stale_like_any_other_stage(chain):
    ran(chain, "a")
    chain.insert(type="deployment")
    chain.trigger(2)
    chain.start(2)
    chain.end(2)
    chain.run(1, "c")
    assert cause(chain, 2).why is Why.PRODUCED


def test_a_stage_that_has_never_run_is_not_stale(chain):
    ran(chain, "a")
    chain.insert()
    chain.run(1, "c")
    assert not chain.stage(2).stale


def test_an_auto_stage_that_found_nothing_is_stale_once_there_is_something(chain):
    chain.insert()
    chain.insert(trigger="auto")
    chain.run(1, "a", fitness=None)
    assert chain.stage(2).status is Status.FAILED
    assert not chain.stage(2).stale
    chain.edit(2, checkpoint="final")
    assert cause(chain, 2).why is Why.PRODUCED
