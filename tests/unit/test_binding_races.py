"""Of all who want to bind one experiment at the same time one has it, in any order."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from tempfile import TemporaryDirectory
from uuid import uuid4

import pytest
from attrs import frozen
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arena_core.application.handling import Change
from arena_core.application.session import Session
from arena_core.domain import experiment, pipeline
from arena_core.domain.errors import ArenaError, Conflict, Rejected
from arena_core.domain.ids import ExperimentId, StageId
from arena_core.domain.lineage import trains
from arena_core.domain.stage_settings import Settings, StageType
from unit.chains import Chain
from unit.scenes import Scene

REFUSAL = "is bound to a stage: say duplicate"


@pytest.fixture
def chain(scene):
    return Chain.begin(scene)


def pipelines(chain, number):
    use = chain.use.pipelines
    return [use.create(chain.project, name=f"{n}").id for n in range(number)]


@contextmanager
def happening(before):
    """Have something happen between what a caller has decided and its append."""
    execute, inside = Session.execute, []

    def interposed(self, *changes, reason=None):
        if not inside:
            inside.append(True)
            before()
            inside.clear()
        return execute(self, *changes, reason=reason)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Session, "execute", interposed)
        yield


def once(doing, *said, **named):
    left = [doing]
    return lambda: left and left.pop()(*said, **named)


def bindings(chain):
    """Return which stages have which experiment, by what the pipelines say."""
    found = {}
    for row in chain.use.session.query(pipeline.KIND, parent=chain.project):
        for planned in row.state.stages:
            bound = planned.settings.experiment_id
            if bound is not None:
                found.setdefault(bound, []).append(planned.id)
    return found


def assert_each_has_its_own(chain):
    found = bindings(chain)
    assert all(len(stages) == 1 for stages in found.values()), found
    rows = chain.use.session.query(experiment.KIND, parent=chain.project)
    said = {r.id: [r.state.bound_to] for r in rows if r.state.bound_to is not None}
    assert found == said


def test_who_binds_what_was_bound_elsewhere_meanwhile_is_told_to_duplicate(chain):
    one, other = pipelines(chain, 2)
    wanted, use = chain.experiment(), chain.use.pipelines
    first = once(lambda: use.insert_stage(one, experiment_id=wanted))
    with happening(first), pytest.raises(Conflict, match=REFUSAL):
        use.insert_stage(other, experiment_id=wanted)
    assert (len(use.get(one).stages), list(use.get(other).stages)) == (1, [])
    use.insert_stage(other, experiment_id=wanted, duplicate=True)
    assert_each_has_its_own(chain)


def test_what_is_trained_meanwhile_is_not_bound(chain):
    wanted, use = chain.experiment(), chain.use.pipelines
    training = once(lambda: chain.use.training.train(wanted))
    with happening(training), pytest.raises(Conflict, match="has run already"):
        use.insert_stage(chain.id, experiment_id=wanted)
    assert not chain.view.stages


def test_what_is_bound_meanwhile_is_trained_by_its_stage(chain):
    wanted = chain.experiment()
    with happening(once(lambda: chain.insert(wanted))):
        chain.use.training.train(wanted)
    assert chain.stage(1).run.cause.value == "train"
    assert chain.use.session.find(experiment.KIND, wanted).state.training is None


def test_what_is_configured_meanwhile_is_bound_as_it_is_then(chain):
    chain.insert()
    wanted = chain.experiment()
    configuring = once(chain.use.experiments.edit, wanted, algorithm="DQN")
    with happening(configuring), pytest.raises(Rejected, match="DQN cannot use"):
        chain.insert(wanted)
    assert len(chain.view.stages) == 1


def test_what_is_bound_meanwhile_is_not_configured_so_that_it_fits_no_more(chain):
    chain.insert()
    wanted = chain.experiment()
    binding = once(lambda: chain.insert(wanted))
    with happening(binding), pytest.raises(Rejected, match="DQN cannot use"):
        chain.use.experiments.edit(wanted, algorithm="DQN")
    assert chain.stage(2).experiment_id == wanted


def test_what_is_taken_off_its_stage_meanwhile_is_configured_at_will(chain):
    wanted = chain.insert().experiment_id
    with happening(once(lambda: chain.remove(1))):
        chain.use.experiments.edit(wanted, algorithm="DQN")
    assert chain.use.experiments.get(wanted).algorithm == "DQN"
    assert not chain.view.stages


def test_what_follows_what_is_configured_meanwhile_has_to_fit_it(chain):
    first = chain.insert().experiment_id
    configuring = once(chain.use.experiments.edit, first, algorithm="DQN")
    with happening(configuring), pytest.raises(Rejected, match="checkpoint of DQN"):
        chain.insert()


def test_what_is_bound_meanwhile_is_not_deleted(chain):
    wanted = chain.experiment()
    binding = once(lambda: chain.insert(wanted))
    with happening(binding), pytest.raises(Conflict, match="bind another one to it"):
        chain.use.experiments.delete(wanted)
    assert chain.stage(1).experiment_id == wanted


def test_an_experiment_of_a_stage_that_is_no_more_can_be_bound_again(chain):
    first, second, third = (chain.experiment() for _ in range(3))
    chain.insert(first)
    chain.insert(second)
    chain.edit(2, experiment_id=third)
    chain.edit(1, experiment_id=second)
    chain.remove(2)
    chain.insert(third)
    chain.edit(2, type="deployment")
    chain.insert(third)
    chain.use.pipelines.delete(chain.id)
    (other,) = pipelines(chain, 1)
    for wanted in (first, second, third):
        chain.use.pipelines.insert_stage(other, experiment_id=wanted)
    assert_each_has_its_own(chain)


def test_the_experiments_of_a_duplicate_are_its_own(chain):
    chain.insert()
    made = chain.use.pipelines.duplicate(chain.id)
    assert made.stages[0].experiment_id is not None
    assert_each_has_its_own(chain)


def test_what_was_bound_before_that_was_recorded_with_it_is_bound_all_the_same(chain):
    wanted, use = chain.experiment(), chain.use.pipelines
    state = chain.use.session.find(experiment.KIND, wanted).state
    bound = Settings(StageType.EXPERIMENT, experiment_id=wanted, trains=trains(state))
    stage_id = StageId(uuid4())
    chain.handle(Change(pipeline, chain.id, pipeline.InsertStage(stage_id, bound)))
    (other,) = pipelines(chain, 1)
    with pytest.raises(Conflict, match=REFUSAL):
        use.insert_stage(other, experiment_id=wanted)
    with pytest.raises(Conflict, match="bound to a stage of the pipeline chain"):
        chain.use.experiments.delete(wanted)
    chain.remove(1)
    use.insert_stage(other, experiment_id=wanted)
    assert_each_has_its_own(chain)


@frozen
class People:
    """What they do to two pipelines and two experiments, each known by its number."""

    chain: Chain
    pipelines: list
    experiments: list

    def bind(self, where, which, **said):
        bound = self.experiments[which]
        use = self.chain.use.pipelines
        use.insert_stage(self.pipelines[where], experiment_id=bound, **said)

    def copy(self, where, which):
        self.bind(where, which, duplicate=True)

    def rebind(self, where, which):
        bound = self.experiments[which]
        use = self.chain.use.pipelines
        first = self._stages(where)[0].id
        use.edit_stage(self.pipelines[where], first, experiment_id=bound)

    def remove(self, where):
        last = self._stages(where)[-1].id
        self.chain.use.pipelines.remove_stage(self.pipelines[where], last)

    def end(self, where):
        self.chain.use.pipelines.delete(self.pipelines[where])

    def duplicate(self, where):
        self.chain.use.pipelines.duplicate(self.pipelines[where])

    def delete(self, which):
        self.chain.use.experiments.delete(self.experiments[which])

    def nothing(self):
        """Let the others go on."""

    def act(self, what, *numbers):
        # What is refused, or finds no stage to begin with, is no matter here.
        with suppress(ArenaError, IndexError):
            getattr(self, what)(*numbers)

    def _stages(self, where):
        return self.chain.use.pipelines.get(self.pipelines[where]).stages


number = st.integers(0, 1)
acts = st.one_of(
    st.tuples(st.sampled_from(["bind", "copy", "rebind"]), number, number),
    st.tuples(st.sampled_from(["remove", "end", "duplicate", "delete"]), number),
)


@pytest.mark.slow
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(turns=st.lists(st.tuples(acts, st.none() | acts), min_size=1, max_size=8))
def test_whoever_comes_between_no_experiment_has_two_stages(turns):
    with TemporaryDirectory() as folder:
        scene = Scene.open(folder)
        chain = Chain.begin(scene)
        people = People(
            chain, pipelines(chain, 2), [chain.experiment(), chain.experiment()]
        )
        for turn, between in turns:
            with happening(once(people.act, *(between or ["nothing"]))):
                people.act(*turn)
            assert_each_has_its_own(chain)
        scene.arena.close()


@pytest.mark.slow
@pytest.mark.parametrize("store", ["memory:", "arena.db"])
def test_of_many_who_bind_one_experiment_at_once_one_does(tmp_path, store):
    scene = Scene.open(tmp_path, store if store == "memory:" else str(tmp_path / store))
    chain = Chain.begin(scene)
    wanted, places = chain.experiment(), pipelines(chain, 16)

    def bind(place):
        try:
            chain.use.pipelines.insert_stage(place, experiment_id=wanted)
        except Conflict as refusal:
            return str(refusal)
        return None

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(bind, places))
    assert answers.count(None) == 1
    assert {a for a in answers if a} == {experiment.NOT_TO_BE_BOUND}
    assert len(bindings(chain)[ExperimentId(wanted)]) == 1
    assert_each_has_its_own(chain)
    scene.arena.close()
