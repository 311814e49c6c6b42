"""Call examples: code that runs, whatever the agent is like and is called."""

import ast
import itertools
import json
import math
import pickle
import subprocess
import sys

import gymnasium
import numpy as np
import pytest
from attrs import evolve
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from arena_core.adapters.converters.gymnasium_spaces import space_of
from arena_core.adapters.converters.torch_files import read_pickle
from arena_core.application import bundles as stored
from arena_core.application import npy, observations, spaces
from arena_core.application.callees import Callee
from arena_core.application.heads import bounds
from arena_core.application.resources import AccessView, Language, Shape, Tab
from arena_core.domain.checkpoint import (
    Box,
    Dict,
    Discrete,
    Head,
    LeafSpace,
    MultiBinary,
    MultiDiscrete,
    Policy,
    Signature,
    TensorSpec,
    Tuple,
)
from arena_core.domain.values import Family
from arena_core.entrypoints.http.examples import examples
from arena_core.entrypoints.http.examples.arrays import (
    MOST_WRITTEN_OUT,
    forbidding,
    member,
    observation,
)
from arena_core.entrypoints.http.examples.layout import laid_out, mask, tree
from arena_core.entrypoints.http.examples.literals import python, shell
from arena_core.entrypoints.http.examples.subject import MOST_NAMED, PLAYABLE

import bundles
from every_shape import EVERY_SHAPE, mapped

ENDPOINT = "http://127.0.0.1:8000/inference/8c1f8d1e-7b5c-5a4e-9f43-0b6a0b6f2c11"
KEY = "arena_dep_" + "k" * 80
RUFF = (sys.executable, "-m", "ruff", "format", "--isolated", "--quiet", "--check")
NASTY = (
    "it's", 'say "x"', "'\"", "\"''", "back\\slash", "\\'", "$(touch x)", "`x`",
    "a\nb", "\r\n", "\x00", "\u202eabc", "\n5", "\x017",
    "caf\u00e9", "\u65e5\u672c", "\U0001f600", "\u2028", "-n",
    "--help", "{x}", "%s", "#", "!!", "~", "*", "", " ", '"""', "\\N{DASH}", "\\x41",
)  # fmt: skip
WIDE = ("bool", "int8", "uint8", "int64", "uint64", "float16", "float32", "float64")


def shown(manifest, *, name="balancer", is_only=True, gym=None, endpoint=ENDPOINT):
    callee = Callee(name, is_only, manifest, gym)
    base_url = endpoint.partition("/inference/")[0]
    return examples(callee, endpoint=endpoint, base_url=base_url, api_key=KEY)


def manifest_of(folder):
    data = (folder / stored.MANIFEST_FILE).read_bytes()
    return stored.manifest(data, golden=False)


@pytest.fixture(scope="module")
def manifests(tmp_path_factory):
    """Return the manifest of every shape, and CartPole's."""
    writers = {name: shape.write for name, shape in EVERY_SHAPE.items()}
    writers["cartpole"] = bundles.cartpole
    return {
        name: manifest_of(write(tmp_path_factory.mktemp("bundle")))
        for name, write in writers.items()
    }


@pytest.fixture(scope="module")
def all_shown(manifests):
    """Return what is shown of every shape, and in every other case."""
    cartpole = manifests["cartpole"]
    return {
        **{name: shown(manifest) for name, manifest in manifests.items()},
        "played": shown(cartpole, gym="CartPole-v1"),
        "namesake": shown(cartpole, is_only=False),
        "crowd": shown(crowd(manifests["agents"], 1000)),
        "long name": shown(cartpole, name="n" * 200),
        "nasty name": shown(cartpole, name="".join(NASTY)),
        **{
            f"endpoint of {len(endpoint)}": shown(cartpole, endpoint=endpoint)
            for length in range(1, 90)
            for endpoint in [f"https://{'a' * length}.org/inference/8c1f8d1e"]
        },
    }


def crowd(manifest, size):
    names = itertools.cycle(manifest.policies)
    agents = {f"agent_{number}": next(names) for number in range(size)}
    return evolve(manifest, agents=agents)


def alone(manifest, **changes):
    """Return the manifest of one agent with a changed policy."""
    policy = evolve(manifest.policy, **changes)
    return evolve(manifest, policies={"policy": policy})


def of_tab(shown, tab, language=Language.PYTHON):
    return [x for x in shown if x.tab is tab and x.language is language]


def assigned(code, name):
    """Return what the code assigns to `name`."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Assign) and node.targets[0].id == name:
            return eval(ast.unparse(node.value), {"np": np, "pack": lambda a: a})  # noqa: S307 -- our own code
    raise AssertionError(name)


# --- what is shown -------------------------------------------------------------------


@pytest.mark.parametrize("name", EVERY_SHAPE)
def test_rule_53_every_situation_has_its_example_in_every_tab(manifests, name):
    told = shown(manifests[name])
    assert {example.tab for example in told} == set(Tab)
    assert len({(x.tab, x.title) for x in told}) == len(told)
    for tab in (Tab.ARENA_CLIENT, Tab.MANUAL_HTTP):
        first = of_tab(told, tab)[0].code
        assert ("predict" in first) == EVERY_SHAPE[name].predicts
        assert ("get_action" in first) != EVERY_SHAPE[name].predicts
        assert ("hidden" in first) == ("recurrent" in EVERY_SHAPE[name].flags)


def test_rule_53_a_language_model_has_no_example_yet(manifests):
    assert shown(evolve(manifests["supervised"], family=Family.LLM)) == []


@pytest.mark.parametrize("name", EVERY_SHAPE)
def test_the_observation_fits_the_agent(manifests, name):
    wanted = mapped(lambda array: np.asarray(array[0]), EVERY_SHAPE[name].observe(1))
    called = {"agents": "observations"}.get(name, "observation")
    called = "inputs" if EVERY_SHAPE[name].predicts else called
    for tab in (Tab.ARENA_CLIENT, Tab.MANUAL_HTTP):
        for example in of_tab(shown(manifests[name]), tab):
            given_ = mapped(describe, assigned(example.code, called))
            assert given_ == mapped(describe, wanted)


def describe(array):
    assert isinstance(array, np.ndarray)  # no client takes a mere number
    return array.shape, array.dtype


def test_an_agent_of_a_known_environment_plays_it(all_shown):
    played = of_tab(all_shown["played"], Tab.ARENA_CLIENT)[0]
    assert played.title == "Play an episode of CartPole-v1"
    assert 'gymnasium.make("CartPole-v1")' in played.code
    assert "numpy" not in played.code


@pytest.mark.parametrize(
    ("gym", "changes"),
    [
        ("LunarLander-v3", {}),
        ("CartPole-v1\nimport os", {}),
        ("Acrobot-v1", {}),
        ("Pendulum-v1", {}),
        ("CartPole-v1", {"action_space": Discrete(3)}),
        ("CartPole-v1", {"action_space": Discrete(2, start=1)}),
        ("CartPole-v1", {"observation_space": Discrete(4)}),
    ],
)
def test_an_environment_that_does_not_fit_is_not_played(manifests, gym, changes):
    told = shown(alone(manifests["cartpole"], **changes), gym=gym)
    assert not any("gymnasium" in example.code for example in told)


@pytest.mark.parametrize("name", ["agents", "supervised"])
def test_only_a_single_agent_that_acts_plays(manifests, name):
    told = shown(manifests[name], gym="CartPole-v1")
    assert not any("gymnasium" in example.code for example in told)


@pytest.mark.parametrize("name", PLAYABLE)
def test_environments_are_as_they_are_said_to_be(name, manifests):
    with gymnasium.make(name) as env:
        observed, acts = (
            space_of(read_pickle(pickle.dumps(space)), field="space")
            for space in (env.observation_space, env.action_space)
        )
        assert env.spec.entry_point.startswith("gymnasium.envs.classic_control")
    fitting = alone(
        manifests["cartpole"],
        observation_space=observed,
        action_space=acts,
        head=Head.ACTION,
    )
    assert "gymnasium" in shown(fitting, gym=name)[0].code


def test_an_agent_with_namesakes_is_called_by_its_endpoint(all_shown):
    told = all_shown["namesake"]
    for example in of_tab(told, Tab.ARENA_CLIENT):
        assert "balancer" not in example.code
        assert ENDPOINT in example.code
    (cli,) = of_tab(told, Tab.ARENA_CLI, Language.SHELL)
    assert "agent list --name balancer" in cli.code
    assert "agent run" not in cli.code


def test_of_a_crowd_some_are_named(all_shown):
    for tab in (Tab.ARENA_CLIENT, Tab.MANUAL_HTTP):
        for example in of_tab(all_shown["crowd"], tab):
            assert f"{1000 - MOST_NAMED} more" in example.code
            assert len(assigned(example.code, "observations")) == MOST_NAMED
            assert len(example.code.splitlines()) < 80


def test_as_many_as_can_be_named_are(manifests):
    told = shown(crowd(manifests["agents"], MOST_NAMED))
    assert not any(" more " in example.code for example in told)


def test_large_arrays_are_not_typed(manifests):
    image = Box((64, 64, 3), "uint8", (0,) * 12288, (255,) * 12288)
    told = shown(alone(manifests["image"], observation_space=image))
    assert of_tab(told, Tab.MANUAL_HTTP, Language.SHELL) == []


def test_what_curl_sends_is_the_observation(all_shown):
    (typed,) = of_tab(all_shown["box"], Tab.MANUAL_HTTP, Language.SHELL)
    sent = json.loads(typed.code.partition(" -d '")[2].partition("'")[0])
    assert sent.keys() == {"obs", "batch_size"}
    array = npy.from_base64(sent["obs"], field="obs")
    np.testing.assert_array_equal(array, np.zeros((1, 3), "f4"), strict=True)


def test_the_code_is_no_part_of_what_is_logged(all_shown):
    told = AccessView(ENDPOINT, KEY, "PPO", Shape(*[False] * 4), all_shown["box"])
    assert KEY not in repr(told)
    assert any(KEY in example.code for example in told.examples)


# --- how it is written ---------------------------------------------------------------


def test_the_code_is_as_the_formatter_writes_it(all_shown, tmp_path):
    for name, told in all_shown.items():
        for number, example in enumerate(told):
            if example.language is Language.PYTHON:
                file = tmp_path / f"{name}-{number}.py".replace(" ", "-")
                file.write_text(example.code, encoding="utf-8")
    done = subprocess.run(
        [*RUFF, "--diff", tmp_path], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.returncode) == ("", 0)


def test_the_code_can_be_read_by_what_runs_it(all_shown):
    for example in itertools.chain(*all_shown.values()):
        if example.language is Language.PYTHON:
            compile(example.code, "example", "exec")
        else:
            subprocess.run(["bash", "-n"], input=example.code.encode(), check=True)
        assert example.code.endswith("\n")
        assert "\n\n\n\n" not in example.code


@given(st.text())
def test_a_text_is_the_same_in_python(text):
    code = python(text)
    assert ast.literal_eval(code) == text
    assert code.isprintable()


@pytest.mark.parametrize("text", NASTY)
def test_a_nasty_text_is_the_same_in_python(text):
    assert ast.literal_eval(python(text)) == text


def test_texts_are_quoted_as_the_formatter_quotes_them():
    code = "".join(f"{python(text)}\n" for text in NASTY if '"""' not in text)
    code = "x = 1\n" + code
    done = subprocess.run([*RUFF, "-"], input=code, text=True, check=False)
    assert done.returncode == 0


def words(texts):
    """Return what a shell makes of the words that stand for texts, by byte."""
    command = "printf '%s\\0' " + " ".join(map(shell, texts))
    printed = subprocess.check_output(["bash", "-ec", command], env={"LC_ALL": "C"})
    return printed.decode().split("\0")[:-1]


SAYABLE = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


@given(st.lists(SAYABLE, min_size=1, max_size=50))
@settings(max_examples=20)
def test_a_text_is_the_same_word_in_a_shell(texts):
    assert words(texts) == texts
    assert all(shell(text).isprintable() for text in texts)


def test_a_nasty_text_is_the_same_word_in_a_shell():
    texts = [text for text in NASTY if "\0" not in text]
    assert words(texts) == texts


@given(name=SAYABLE, key=st.text())
def test_no_name_breaks_out_of_its_literal(manifests, name, key):
    policy = evolve(
        manifests["cartpole"].policy,
        observation_space=Dict({key: Discrete(2), "": Discrete(2)}),
    )
    told = shown(evolve(manifests["cartpole"], policies={"p": policy}), name=name)
    for example in of_tab(told, Tab.ARENA_CLIENT):
        assert assigned(example.code, "observation").keys() == {key, ""}
        opened = [
            node.args[0].value
            for node in ast.walk(ast.parse(example.code))
            if isinstance(node, ast.Call)
            and getattr(node.func, "attr", "") == "open_inference_agent"
        ]
        assert opened == [name]


# --- arrays --------------------------------------------------------------------------


@st.composite
def boxes(draw):
    shape = draw(st.lists(st.integers(1, 4), max_size=3).map(tuple))
    dtype = draw(st.sampled_from(WIDE))
    kind = np.dtype(dtype).kind
    if kind == "f":
        numbers = st.floats(-1e4, 1e4, width=16)
    else:
        least, greatest = spaces.integer_limits(np.dtype(dtype))
        numbers = st.integers(max(least, -(2**50)), min(greatest, 2**50))
    pair = st.tuples(st.none() | numbers, st.none() | numbers).map(ordered)
    size = math.prod(shape)
    if draw(st.booleans()):
        pairs = [draw(pair)] * size
    else:
        pairs = draw(st.lists(pair, min_size=size, max_size=size))
    low, high = zip(*pairs, strict=True)
    return Box(shape, dtype, low, high)


def ordered(pair):
    low, high = pair
    return (high, low) if None not in pair and low > high else pair


counts = st.integers(1, 5)
leaves = st.one_of(
    boxes(),
    st.builds(Discrete, counts, st.integers(-3, 3), st.sampled_from(["int8", "int64"])),
    st.lists(counts, min_size=1, max_size=12).map(
        lambda nvec: MultiDiscrete(tuple(nvec), tuple(range(len(nvec))))
    ),
    st.lists(counts, max_size=2).map(lambda shape: MultiBinary(tuple(shape))),
)
trees = st.recursive(
    leaves,
    lambda parts: (
        st.dictionaries(st.text("ab_'\"\n", max_size=60), parts, min_size=1).map(Dict)
        | st.lists(parts, min_size=1, max_size=3).map(lambda p: Tuple(tuple(p)))
    ),
    max_leaves=6,
)


SMALL = Box((2, 2), "float32", (0.1, 2, 3, 4), (None,) * 4)
LARGE = Box((4,), "float32", (1e20, 1e-5, -1, -1), (None, None, -1e20, -1e-5))


def policy_of(space=None, acts=None, head=Head.LOGITS):
    nothing = Signature((TensorSpec("obs", "float32", (None, None, 3)),), ())
    return Policy("policy.onnx", nothing, head, space, acts)


def evaluated(lines):
    return eval("\n".join(lines).removeprefix("x = "), {"np": np})  # noqa: S307 -- our own code


@given(trees)
def test_code_makes_an_observation_of_any_space(space):
    made = evaluated(laid_out("x = ", tree(observation(policy_of(space)))))
    mapped(describe, made)
    flat = dict(spaces.walk(space))
    assume(len(flat) == len(list(spaces.walk(space))))  # else the bundle is refused
    rows = mapped(lambda array: array[np.newaxis], made)
    decode = lambda leaf, field: leaf  # noqa: E731, ARG005 -- arrays already
    understood = observations.gather(rows, space, decode, field="obs")
    for path, leaf in flat.items():
        assert understood[path].dtype == spaces.dtype(leaf)


@given(trees)
@settings(max_examples=20)
def test_observations_of_any_space_are_laid_out_as_the_formatter_does(space):
    code = "\n".join(laid_out("x = ", tree(observation(policy_of(space))))) + "\n"
    done = subprocess.run([*RUFF, "-"], input=code, text=True, check=False)
    too_long = [line for line in code.splitlines() if len(line) > 88]
    assert done.returncode == 0 or too_long


def test_code_of_every_width_is_laid_out_as_the_formatter_does():
    code = "".join(
        f"{line}\n"
        for width in range(1, 70)
        for space in (
            Dict({"k" * width: MultiBinary((3,))}),
            Dict({"k" * width: Discrete(2), "a": Tuple((Discrete(3), Discrete(2)))}),
            Dict({"k": Dict({"k" * width: LARGE, "a": SMALL})}),
            Tuple((Dict({"k" * width: LARGE}),)),
            Tuple((Dict({"k" * width: LARGE}), SMALL)),
        )
        for line in laid_out("x = ", tree(observation(policy_of(space))))
    )
    done = subprocess.run([*RUFF, "-"], input=code, text=True, check=False)
    assert done.returncode == 0


@given(boxes())
def test_an_element_of_a_box_is_within_its_bounds(box):
    low, high = bounds(box)
    assume(member(box).size <= MOST_WRITTEN_OUT or low.max() <= high.min())
    found = member(box).astype("f8")
    assert ((low <= found) & (found <= high)).all()


def test_zeros_are_taken_where_they_are_elements():
    assert not member(Box((3,), "float32", (-1, None, 0), (1, 1, None))).any()


def test_a_large_box_is_filled_with_the_common_element_next_to_zero():
    low, high = tuple(range(20)), tuple(range(30, 50))
    np.testing.assert_array_equal(
        member(Box((20,), "int64", low, high)), np.full(20, 19), strict=True
    )
    down = tuple(-n for n in high), tuple(-n for n in low)
    np.testing.assert_array_equal(
        member(Box((20,), "int64", *down)), np.full(20, -19), strict=True
    )


def test_a_large_box_without_a_common_element_is_written_shortly():
    low = tuple(range(100))
    code = str(tree(member(Box((100,), "int64", low, low))))
    assert len(code) < 60


def test_an_axis_that_is_free_has_one_element():
    assert observation(policy_of()).shape == (1, 3)


MASKED = {
    Discrete(3): ((3,), 0),
    MultiDiscrete((2, 3), (0, 0)): ((5,), 0),
    MultiDiscrete((1, 1, 2), (0, 0, 0)): ((4,), 2),
    MultiBinary((2, 3)): ((2, 3), 0),
}


@pytest.mark.parametrize("space", MASKED, ids=str)
def test_a_mask_forbids_one_choice_and_leaves_others(space: LeafSpace):
    shape, place = MASKED[space]
    made = evaluated([mask(forbidding(policy_of(acts=space)))])
    assert made.shape == shape == spaces.scores(space)
    assert np.flatnonzero(~made).tolist() == [place]


@pytest.mark.parametrize(
    "policy",
    [
        policy_of(acts=Discrete(1)),
        policy_of(acts=MultiDiscrete((1, 1), (0, 0))),
        policy_of(acts=MultiBinary(())),
        policy_of(acts=Discrete(3), head=Head.ACTION),
        policy_of(acts=Box((1,), "float32", (0,), (1,)), head=Head.ACTION),
        policy_of(),
    ],
    ids=str,
)
def test_where_nothing_can_be_forbidden_there_is_no_mask(policy):
    assert forbidding(policy) is None


def test_who_is_told_what_to_do_has_no_mask(manifests):
    lone = evolve(manifests["agents"], agents={"speaker_0": "speaker"})
    for tab in (Tab.ARENA_CLIENT, Tab.MANUAL_HTTP):
        directed = of_tab(shown(lone), tab)[1].code
        assert assigned(directed, "masks") == {}
        assert assigned(directed, "chosen").keys() == {"speaker_0"}
