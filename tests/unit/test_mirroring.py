"""A mirror: what it counts of a checkpoint, and how it compares it with another."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import pytest
from attrs import define, frozen

from arena_core.application import mirroring
from arena_core.application.action_requests import ActionRequest, understood
from arena_core.application.comparing import MOST_ROWS
from arena_core.application.mirroring import Mirror
from arena_core.application.models import SINGLE, Acted, Model, Turn
from arena_core.application.ports import Runtime
from arena_core.domain.errors import Rejected
from arena_core.domain.ids import Digest
from unit.models import load

import bundles
import shapes
from every_shape import ACTING, EVERY_SHAPE

ROWS = 8


@define
class Clock:
    """Stands still unless it is moved."""

    now_s: float = 0.0

    def __call__(self) -> float:
        return self.now_s


@frozen(eq=False)
class Changed:
    """Real weights of which something is changed."""

    runtime: Runtime
    change: Callable

    name = "changed"
    device = "cpu"

    @property
    def signature(self):
        return self.runtime.signature

    def run(self, inputs):
        return self.change(self.runtime.run, inputs)

    def close(self):
        self.runtime.close()


def changed(model, change, policies=None):
    """Return a model that runs `change(run, inputs)` in place of its weights.

    `policies`: by name, only those.
    """
    runtimes = {
        policy.policy.weights: Changed(policy.runtime, change)
        if policies is None or name in policies
        else policy.runtime
        for name, policy in model.policies.items()
    }
    if model.decoder is not None:
        runtimes[model.manifest.decoder.weights] = model.decoder
    return Model.of(model.manifest, runtimes, Digest("1" * 64))


def opposite(run, inputs):
    return {name: -array for name, array in run(inputs).items()}


def always_the_first(run, inputs):
    return {name: 0 * array for name, array in run(inputs).items()}


def is_positive(inputs):
    """Return the rows whose observation begins with a positive number."""
    return inputs["obs"].reshape(len(inputs["obs"]), -1)[:, 0] > 0


def silent_where_positive(run, inputs):
    outputs = run(inputs)
    for array in outputs.values():
        array[is_positive(inputs)] = np.nan
    return outputs


def refusing_what_is_positive(run, inputs):
    if is_positive(inputs).any():
        raise Rejected("The weights can't take these inputs.")
    return run(inputs)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Return the model of a shape, by its name."""

    @cache
    def of(name):
        return load(EVERY_SHAPE[name].write(tmp_path_factory.mktemp("bundle")))

    return of


@pytest.fixture(scope="module")
def cartpole(tmp_path_factory):
    return load(bundles.cartpole(tmp_path_factory.mktemp("cartpole")))


@pytest.fixture
def mirror():
    """Make mirrors that compare everything; their clock stands still."""
    made = []

    def make(other, served, **settings):
        settings = {"clock": Clock(), **settings}
        made.append(Mirror(other, served, **settings))
        return made[-1]

    yield make
    for each in made:
        each.close()


def asked(model, name, rows=ROWS):
    """Return the turns of a request, and what the model does."""
    tree = EVERY_SHAPE[name].observe(rows)
    if not model.acts:
        observed = model.single.observe(tree, lambda leaf, _: leaf, field="inputs")
        return {SINGLE: Turn(observed, rows)}, {SINGLE: Acted(*model.predict(observed))}
    turns = understood(model, ActionRequest(tree), lambda leaf, _: leaf).turns
    return turns, model.act(turns)


def turn(rows=ROWS, **more):
    return {SINGLE: Turn({"": bundles.observations(rows, 4)}, rows, **more)}


def compared(mirror, turns, acted):
    mirror.answered(turns, acted, latencies_s=())
    mirror.drain()
    return mirror.figures()


# --- every kind of agent -------------------------------------------------------------


@pytest.mark.parametrize("name", EVERY_SHAPE)
def test_an_equal_checkpoint_has_a_shift_of_exactly_0(models, mirror, name):
    model = models(name)
    figures = compared(mirror(model, model), *asked(model, name))
    assert (figures.compared, figures.action_shift) == (ROWS, 0.0)


@pytest.mark.parametrize("name", EVERY_SHAPE)
def test_an_opposite_checkpoint_shifts(models, mirror, name):
    model = models(name)
    figures = compared(mirror(changed(model, opposite), model), *asked(model, name))
    assert figures.compared == ROWS
    assert figures.action_shift > 0.1


@pytest.mark.parametrize("name", ACTING)
def test_what_is_preferred_is_compared_though_what_is_answered_is_sampled(
    models, mirror, name
):
    model = models(name)
    turns, acted = asked(model, name)
    drawn = {a: done._replace(actions=done.actions * 0) for a, done in acted.items()}
    figures = compared(mirror(model, model), turns, drawn)
    assert (figures.compared, figures.action_shift) == (ROWS, 0.0)


def test_the_opposite_policy_differs_wholly(mirror, cartpole, tmp_path):
    swapped = bundles.cartpole(tmp_path, network=bundles.CARTPOLE.swapped())
    turns = turn()
    figures = compared(mirror(load(swapped), cartpole), turns, cartpole.act(turns))
    assert (figures.compared, figures.action_shift) == (ROWS, 1.0)


def test_the_shift_is_the_share_of_rows_on_which_the_actions_differ(
    mirror, cartpole, tmp_path
):
    nearly = bundles.CARTPOLE.perturbed(1.0)
    turns = turn(MOST_ROWS)
    obs = turns[SINGLE].observed[""]
    both = [net(obs).argmax(axis=1) for net in (bundles.CARTPOLE, nearly)]
    share = (both[0] != both[1]).mean()
    assert 0 < share < 1
    other = load(bundles.cartpole(tmp_path, network=nearly))
    figures = compared(mirror(other, cartpole), turns, cartpole.act(turns))
    assert figures.action_shift == share


def test_of_several_agents_the_one_that_differs_counts(models, mirror):
    model = models("agents")
    other = changed(model, always_the_first, policies=["speaker"])
    turns, acted = asked(model, "agents")
    alone = {"speaker_0": turns["speaker_0"]}
    expected = compared(mirror(other, model), alone, acted).action_shift
    figures = compared(mirror(other, model), turns, acted)
    assert figures.action_shift == expected > 0
    # The speaker's choice, and two numbers of each listener.
    assert figures.greatest_of == 1 + 2 + 2


def test_a_dead_agent_is_not_compared(models, mirror):
    model = models("agents")
    turns, _ = asked(model, "agents")
    del turns["speaker_0"]
    mirror = mirror(changed(model, opposite), model)
    figures = compared(mirror, turns, model.act(turns))
    assert figures.compared == ROWS


# --- what is left out ----------------------------------------------------------------


def test_a_row_that_is_partly_forced_is_left_out(models, mirror):
    model = models("agents")
    tree = shapes.meeting(ROWS)
    forced = np.full((ROWS, 2), np.nan)
    forced[1:, 0] = 0.5
    request = ActionRequest(
        {"listener_0": tree["listener_0"]}, env_defined_actions={"listener_0": forced}
    )
    turns = understood(model, request, lambda leaf, _: leaf).turns
    figures = compared(mirror(model, model), turns, model.act(turns))
    assert figures.compared == 1


def test_only_the_beginning_of_an_episode_is_compared(models, mirror):
    model = models("recurrent")
    hidden = model.single.memory.beginning(ROWS)
    hidden["h"][3:] = 0.25
    observed = {"": shapes.vectors(ROWS, 3)}
    turns = {SINGLE: Turn(observed, ROWS, hidden=hidden)}
    figures = compared(mirror(model, model), turns, model.act(turns))
    assert (figures.compared, figures.action_shift) == (3, 0.0)


def test_an_episode_that_goes_on_is_asked_for_masks_only(models, mirror):
    model = models("recurrent")
    hidden = model.single.memory.beginning(ROWS)
    hidden["h"] += 0.25
    plain = {SINGLE: Turn({"": shapes.vectors(ROWS, 3)}, ROWS, hidden=hidden)}
    masked = {SINGLE: plain[SINGLE]._replace(legal=np.ones((ROWS, 3), bool))}
    mirror = mirror(model, model)
    assert compared(mirror, plain, model.act(plain)).masked_rows == 0
    figures = compared(mirror, masked, model.act(masked))
    assert (figures.masked_rows, figures.compared) == (ROWS, 0)
    assert figures.action_shift is None


def test_a_policy_without_memory_is_not_compared_with_one_that_has_some(
    models, mirror, tmp_path
):
    recurrent = models("recurrent")
    space = recurrent.single.action_space
    network = shapes.Linear({"obs": ("float32", (3,))}, {"logits": 3})
    described = {
        "observation_space": shapes.box(3),
        "action_space": {"type": "Discrete", "n": space.n},
        "head": "logits",
    }
    plain = load(shapes._write(tmp_path, "PPO", described, network, [_step(network)]))
    turns = {SINGLE: Turn({"": shapes.vectors(ROWS, 3)}, ROWS)}
    assert compared(mirror(recurrent, plain), turns, plain.act(turns)).compared == 0
    hidden = recurrent.single.memory.beginning(ROWS)
    turns = {SINGLE: turns[SINGLE]._replace(hidden=hidden)}
    back = compared(mirror(plain, recurrent), turns, recurrent.act(turns))
    assert back.compared == ROWS


def _step(network):
    obs = shapes.vectors(1, 3)
    logits = network({"obs": obs})["logits"]
    return {"obs": obs, "outputs/logits": logits, "action": logits.argmax(axis=1)}


def test_of_a_large_turn_a_few_rows_from_all_over_are_compared(mirror, cartpole):
    turns = turn(10 * MOST_ROWS)
    obs = turns[SINGLE].observed[""]
    obs[:, 0] = -1
    obs[5 * MOST_ROWS :, 0] = 1
    other = changed(cartpole, silent_where_positive)
    figures = compared(mirror(other, cartpole), turns, cartpole.act(turns))
    assert figures.compared == MOST_ROWS
    assert figures.action_shift == pytest.approx(0.5, abs=0.01)


def test_what_is_mirrored_is_a_copy(mirror, cartpole):
    gate = threading.Event()

    def waiting(run, inputs):
        gate.wait()
        return run(inputs)

    gate.set()
    other = changed(cartpole, waiting)
    gate.clear()
    mirror = mirror(other, cartpole)
    turns = turn()
    acted = cartpole.act(turns)
    mirror.answered(turns, acted, latencies_s=())
    turns[SINGLE].observed[""][:] = 0
    acted[SINGLE].outputs["logits"][:] = 0
    gate.set()
    mirror.drain()
    assert mirror.figures().action_shift == 0


# --- masks ---------------------------------------------------------------------------


def test_rows_whose_preference_a_mask_forbids_are_counted(mirror, cartpole):
    turns = turn()
    preferred = cartpole.act(turns)[SINGLE].actions
    legal = np.ones((ROWS, 2), bool)
    legal[np.arange(3), preferred[:3]] = False
    turns = turn(legal=legal)
    figures = compared(mirror(cartpole, cartpole), turns, cartpole.act(turns))
    assert (figures.masked_rows, figures.mask_violations) == (ROWS, 3)
    assert figures.action_shift == 0


def test_rows_without_a_mask_do_not_count_as_masked(mirror, cartpole):
    turns = turn()
    figures = compared(mirror(cartpole, cartpole), turns, cartpole.act(turns))
    assert figures.masked_rows == 0


def test_both_prefer_what_the_mask_allows(mirror, cartpole, tmp_path):
    legal = np.tile([True, False], (ROWS, 1))
    turns = turn(legal=legal)
    swapped = bundles.cartpole(tmp_path, network=bundles.CARTPOLE.swapped())
    figures = compared(mirror(load(swapped), cartpole), turns, cartpole.act(turns))
    assert figures.action_shift == 0


# --- what the other checkpoint cannot answer -----------------------------------------


@pytest.mark.parametrize("change", [silent_where_positive, refusing_what_is_positive])
def test_rows_that_the_other_cannot_answer_differ_and_only_they(
    mirror, cartpole, change
):
    turns = turn()
    share = (turns[SINGLE].observed[""][:, 0] > 0).mean()
    assert 0 < share < 1
    other = changed(cartpole, change)
    figures = compared(mirror(other, cartpole), turns, cartpole.act(turns))
    assert (figures.compared, figures.action_shift) == (ROWS, share)


@pytest.mark.parametrize(
    ("other", "name"),
    [
        ("box", "supervised"),
        ("supervised", "box"),
        ("box", "agents"),
        ("dict", "multi discrete"),
        ("multi binary", "multi discrete"),
    ],
)
def test_a_checkpoint_that_cannot_stand_in_differs_wholly(models, mirror, other, name):
    model = models(name)
    figures = compared(mirror(models(other), model), *asked(model, name))
    assert (figures.compared, figures.action_shift) == (ROWS, 1.0)


def test_a_model_that_was_closed_meanwhile_is_no_difference(mirror, tmp_path, cartpole):
    other = load(bundles.cartpole(tmp_path))
    mirror = mirror(other, cartpole)
    turns = turn()
    acted = cartpole.act(turns)
    assert compared(mirror, turns, acted).compared == ROWS
    other.close()
    for _ in range(2):
        figures = compared(mirror, turns, acted)
        assert (figures.compared, figures.action_shift) == (ROWS, 0.0)


def test_what_nobody_foresaw_ends_comparing_and_not_counting(mirror, cartpole, caplog):
    def failing(run, inputs):
        if inputs["obs"].any():
            raise ZeroDivisionError
        return run(inputs)

    mirror = mirror(changed(cartpole, failing), cartpole)
    turns = turn()
    acted = cartpole.act(turns)
    for _ in range(3):
        mirror.answered(turns, acted, latencies_s=[0.01])
        mirror.drain()
    assert (mirror.figures().requests, mirror.figures().compared) == (3, 0)
    assert len(caplog.records) == 1


# --- requests ------------------------------------------------------------------------


def test_requests_and_errors_are_counted(mirror, cartpole):
    mirror = mirror(cartpole, cartpole)
    mirror.answered({}, {}, latencies_s=[0.002, 0.002])
    mirror.failed()
    mirror.failed(3)
    figures = mirror.figures()
    assert (figures.requests, figures.errors) == (6, 4)
    assert figures.p99_ms == pytest.approx(2.0, rel=0.03)


def test_nothing_seen_has_figures_too(mirror, cartpole):
    figures = mirror(cartpole, cartpole).figures()
    assert (figures.requests, figures.p99_ms, figures.action_shift) == (0, None, None)


def test_the_share_of_a_second_that_is_slow_counts_once_it_is_over(mirror, cartpole):
    clock = Clock()
    mirror = mirror(cartpole, cartpole, slow_ms=5, clock=clock)
    mirror.answered({}, {}, latencies_s=[0.001, 0.009])
    assert mirror.figures().seconds == 0
    clock.now_s = 1.0
    assert (mirror.figures().seconds, mirror.figures().slow_seconds) == (1, 0.5)


class Polite(list):
    """Lets other threads go first whenever its length is asked for."""

    def __len__(self):
        time.sleep(0)
        return super().__len__()


def test_nothing_is_lost_by_threads_that_count_at_once(mirror, cartpole):
    mirror = mirror(cartpole, cartpole)

    def count(_):
        for _ in range(100):
            mirror.answered({}, {}, latencies_s=Polite([0.001] * 3))
            mirror.failed()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(count, range(8)))
    assert (mirror.figures().requests, mirror.figures().errors) == (3200, 800)


# --- never in the way ----------------------------------------------------------------


@pytest.fixture
def slow_other(cartpole):
    """Return a model that moves the clock, and one that waits until it may go on."""
    clock, gate, entered = Clock(), threading.Event(), threading.Event()

    def slowly(run, inputs):
        if inputs["obs"].any():
            entered.set()
            gate.wait()
            clock.now_s += 1.0
        return run(inputs)

    yield changed(cartpole, slowly), clock, gate, entered
    gate.set()


def test_what_does_not_fit_into_the_queue_is_dropped(mirror, cartpole, slow_other):
    other, clock, gate, entered = slow_other
    mirror = mirror(other, cartpole, clock=clock)
    turns = turn(1)
    acted = cartpole.act(turns)
    mirror.answered(turns, acted, latencies_s=())
    entered.wait()
    for _ in range(3 * mirroring.MOST_QUEUED):
        mirror.answered(turns, acted, latencies_s=())
    gate.set()
    mirror.drain()
    assert mirror.figures().compared == 1 + mirroring.MOST_QUEUED


def test_the_other_runs_for_a_share_of_the_time_only(mirror, cartpole, slow_other):
    other, clock, gate, _ = slow_other
    gate.set()
    mirror = mirror(other, cartpole, clock=clock, busy_share=0.2)
    turns = turn(1)
    acted = cartpole.act(turns)
    while clock.now_s < 100:
        mirror.answered(turns, acted, latencies_s=())
        mirror.drain()
        clock.now_s += 0.25
    assert mirror.figures().compared == pytest.approx(20, abs=1)


def test_what_was_queued_is_rested_for_too(mirror, cartpole, slow_other):
    other, clock, gate, entered = slow_other
    mirror = mirror(other, cartpole, clock=clock, busy_share=0.2)
    turns = turn(1)
    acted = cartpole.act(turns)
    mirror.answered(turns, acted, latencies_s=())
    entered.wait()
    mirror.answered(turns, acted, latencies_s=())
    gate.set()
    mirror.drain()
    for now_s, expected in [(9.5, 2), (10.0, 3)]:
        clock.now_s = now_s
        mirror.answered(turns, acted, latencies_s=())
        mirror.drain()
        assert mirror.figures().compared == expected


def test_nobody_waits_for_a_checkpoint_that_hangs(
    mirror, cartpole, slow_other, monkeypatch
):
    """Who asks for figures, or closes, follows the log as well."""
    other, clock, gate, entered = slow_other
    monkeypatch.setattr(mirroring, "CLOSE_S", 0.0)
    mirror = mirror(other, cartpole, clock=clock)
    mirror.answered(turn(1), cartpole.act(turn(1)), latencies_s=[0.001])
    entered.wait()
    assert (mirror.figures().compared, mirror.figures().requests) == (0, 1)
    mirror.close()
    gate.set()
    mirror._thread.join()


def test_closing_ends_the_thread_and_drops_what_is_queued(mirror, cartpole, slow_other):
    other, clock, gate, entered = slow_other
    before = threading.active_count()
    mirror = mirror(other, cartpole, clock=clock)
    turns = turn(1)
    acted = cartpole.act(turns)
    mirror.answered(turns, acted, latencies_s=())
    entered.wait()
    mirror.answered(turns, acted, latencies_s=())
    closing = threading.Thread(target=mirror.close)
    closing.start()
    with mirror._changed:
        mirror._changed.wait_for(lambda: mirror._is_closed)
    gate.set()
    closing.join()
    assert threading.active_count() == before
    mirror.answered(turns, acted, latencies_s=[0.001])
    mirror.drain()
    mirror.close()
    assert (mirror.figures().compared, mirror.figures().requests) == (1, 1)
