"""The binary form: arrays as they are, answered bit for bit as the JSON form is."""

import json
import tracemalloc
from contextlib import suppress

import numpy as np
import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from arena_core.application import inference, npy, raw_arrays
from arena_core.application.hidden_states import MAKER
from arena_core.application.inference import (
    GET_ACTION,
    GREEDY,
    PREDICT,
    Choice,
    unwatched,
)
from arena_core.application.models import Acted
from arena_core.application.raw_arrays import MOST_NAMES, RawAnswer, names_of
from arena_core.domain.errors import (
    ArenaError,
    Conflict,
    NotFinite,
    Rejected,
)
from unit import recurrent_bundles
from unit.calls import ask, encoded
from unit.exact_models import SCORES, exact
from unit.models import load

import shapes
from every_shape import EVERY_SHAPE

HEADER = "arena-arrays"
VERBS = {"get_action": GET_ACTION, "predict": PREDICT}
SHAPES = {name: (shape.write, shape.verb) for name, shape in EVERY_SHAPE.items()} | {
    "team": (recurrent_bundles.team_policy, "get_action"),
    "two states": (recurrent_bundles.two_states_policy, "get_action"),
}
SAMPLED = {"dict", "image", "multi discrete", "multi binary", "box", "recurrent"}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return {
        name: load(write(tmp_path_factory.mktemp("bundle") / "bundle"))
        for name, (write, _) in SHAPES.items()
    }


def sent(arrays):
    """Return the names and the body of a request."""
    return tuple(arrays), b"".join(map(npy.encode, arrays.values()))


def asked_raw(model, arrays, *, verb="get_action", choice=GREEDY):
    """Return the arrays that are answered, by name; raise what is refused."""
    names, body = sent(arrays)
    return taken(model, names, body, verb=verb, choice=choice)


def taken(model, names, body, *, verb="get_action", choice=GREEDY):
    call = VERBS[verb].read(model, body, choice, names)
    (answer,) = VERBS[verb].answer(model, [call], unwatched)
    if isinstance(answer, ArenaError):
        raise answer
    assert isinstance(answer, RawAnswer)
    return unpacked(answer)


def unpacked(answer):
    names = names_of(answer.names)
    return dict(zip(names, npy.decode_all(answer.body, names), strict=True))


def refused(model, arrays, *, verb="get_action", choice=GREEDY, as_=Rejected):
    with pytest.raises(as_) as caught:
        asked_raw(model, arrays, verb=verb, choice=choice)
    assert type(caught.value) is as_
    assert not set("[]\n") & set(str(caught.value))
    return caught.value


def flat(tree, at=""):
    """Return the arrays of a JSON tree by their names in the binary form."""
    if isinstance(tree, np.ndarray):
        return {at: tree}
    items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    arrays = {}
    for key, part in items:
        arrays |= flat(part, f"{at}/{key}")
    return arrays


def by_agent(request):
    """Return a JSON request or answer of several agents as arrays by name."""
    arrays = {}
    for what, of_agents in request.items():
        name = "env_defined_action" if what == "env_defined_actions" else what
        for agent, tree in of_agents.items():
            if tree is not None:
                arrays |= flat(tree, f"agents/{agent}/{name}")
    return arrays


def named(model, request):
    """Return the arrays of a JSON request or answer by name."""
    if model.manifest.is_multi_agent:
        return by_agent(request)
    arrays = {}
    for what, tree in request.items():
        arrays |= flat(tree, what)
    return arrays


def same(found, expected):
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype, name
        assert found[name].shape == array.shape, name
        assert found[name].tobytes() == array.tobytes(), name


def questions(name, rows, step=0):
    """Return what is asked of a shape, as a JSON request of arrays."""
    if name == "team":
        return {"obs": recurrent_bundles.team_seen(rows, step)}
    if name == "two states":
        return {"obs": shapes.vectors(rows, 3, seed=step)}
    shape = EVERY_SHAPE[name]
    said = {shape.field: shape.observe(rows)}
    random = np.random.default_rng([rows, step])
    match name:
        case "recurrent" | "dict":
            said["action_mask"] = np.eye(3)[random.integers(0, 3, rows)]
        case "image":
            said["action_mask"] = np.eye(4, dtype="u1")[random.integers(0, 4, rows)]
        case "multi discrete":
            said["action_mask"] = shapes.multi_discrete_mask(rows)
        case "multi binary":
            said["action_mask"] = random.integers(0, 2, (rows, 3)).astype(bool)
        case "agents":
            said["action_mask"] = {"speaker_0": np.eye(3)[random.integers(0, 3, rows)]}
            forced = np.where(np.arange(rows) % 2, np.nan, 1.0)
            said["env_defined_actions"] = {
                "speaker_0": forced,
                "listener_0": np.full((rows, 2), 0.5),
            }
    return said


def listed(tree):
    """Return a tree whose tuples are lists, as JSON has them."""
    if isinstance(tree, dict):
        return {key: listed(part) for key, part in tree.items()}
    return [listed(part) for part in tree] if isinstance(tree, tuple) else tree


# --- the two forms are one -----------------------------------------------------------


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("rows", [1, 5])
def test_both_forms_are_answered_alike_to_the_last_bit(models, name, rows):
    model, said = models[name], questions(name, rows)
    if SHAPES[name][1] == "predict":
        body = json.dumps(encoded(said)).encode()
        answer = json.loads(inference.predict(model, body))
        expected = {"results": npy.from_base64(answer["results"], field="results")}
        same(asked_raw(model, named(model, said), verb="predict"), expected)
        return
    answer = ask(model, **listed(said))
    found = asked_raw(model, named(model, said))
    expected = named(model, answer)
    assert found.keys() == expected.keys()
    same(found, {key: expected[key] for key in found})


@pytest.mark.parametrize("name", ["recurrent", "team", "two states"])
def test_hidden_states_are_handed_back_over_steps_in_both_forms_alike(models, name):
    model, hidden, remembered = models[name], None, {}
    for step in range(4):
        said = questions(name, 3, step)
        answer = ask(model, **said, hidden_state=hidden)
        found = asked_raw(model, named(model, said) | remembered)
        expected = named(model, answer)
        assert found.keys() == expected.keys()
        same(found, {key: expected[key] for key in found})
        hidden = answer["hidden_state"]
        remembered = {k: array for k, array in found.items() if "hidden_state/" in k}
        assert any(key.endswith(f"hidden_state/{MAKER}") for key in remembered)


@pytest.mark.parametrize("name", sorted(SAMPLED))
def test_the_same_seed_draws_the_same_in_both_forms(models, name):
    model, said = models[name], questions(name, 6)
    choice = Choice.of("sample", 3)
    answer = named(model, ask(model, choice=choice, **listed(said)))
    found = asked_raw(model, named(model, said), choice=choice)
    same(found, {key: answer[key] for key in found})


def test_an_agent_that_is_not_named_is_dead(models):
    model = models["agents"]
    living = {a: obs for a, obs in shapes.meeting(2).items() if a != "listener_0"}
    found = asked_raw(model, by_agent({"obs": living}))
    assert list(found) == ["agents/speaker_0/action", "agents/listener_1/action"]
    answer = ask(model, obs=living | {"listener_0": None})
    assert answer["action"]["listener_0"] is None
    same(found, by_agent({"action": {a: answer["action"][a] for a in living}}))


def test_a_hidden_state_of_other_weights_is_refused_in_the_binary_form_too(models):
    said = {"obs": shapes.vectors(1, 3)}
    found = asked_raw(models["recurrent"], said)
    foreign = found["hidden_state/_checkpoint"] ^ 1
    kept = {"hidden_state/h": found["hidden_state/h"]}
    refused(
        models["recurrent"],
        said | kept | {"hidden_state/_checkpoint": foreign},
        as_=Conflict,
    )


@pytest.mark.parametrize(
    ("dtype", "order"), [("f8", "C"), (">f4", "C"), ("f4", "F"), ("i2", "C")]
)
def test_arrays_may_be_written_in_any_order_and_dtype_that_fits(models, dtype, order):
    obs = np.rint(shapes.vectors(4, 3) * 3)
    stated = np.asarray(obs, dtype, order=order)
    file = npy.encode(np.ascontiguousarray(obs, np.dtype(dtype).newbyteorder("<")))
    if order == "F":
        head = npy.encode(obs.astype("f4"))[:-48].replace(b"False", b"True ")
        file = head + stated.tobytes("F")
    elif dtype == ">f4":
        file = file[:-48].replace(b"<f4", b">f4") + stated.tobytes()
    found = taken(models["box"], ("obs",), file)
    same(found, asked_raw(models["box"], {"obs": obs.astype("f4")}))


def test_what_lies_at_an_odd_place_of_a_body_is_read_as_well(models):
    """A mask of 3 bytes makes the arrays behind it begin at odd addresses."""
    mask = np.array([[True, False, True]])
    obs = shapes.vectors(1, 3)
    behind = asked_raw(models["recurrent"], {"action_mask": mask, "obs": obs})
    same(behind, asked_raw(models["recurrent"], {"obs": obs, "action_mask": mask}))


# --- the names -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("obs", ("obs",)),
        ("obs, action_mask", ("obs", "action_mask")),
        (" obs ,\taction_mask ", ("obs", "action_mask")),
        ("agents/a.b-c_0/obs/x/0", ("agents/a.b-c_0/obs/x/0",)),
    ],
)
def test_a_header_lists_names(text, names):
    assert names_of(text) == names


@pytest.mark.parametrize(
    "text",
    [
        "", ",", "obs,", ",obs", "obs,,mask", "obs mask", "obs//x", "/obs", "obs/",
        "obs[0]", "öbs", "obs;mask", "obs\nx", "a:b",
        ", ".join(f"a{n}" for n in range(MOST_NAMES + 1)),
        "obs, obs", "obs, mask,obs",
    ],
)  # fmt: skip
def test_a_header_that_lists_no_names_or_one_twice_is_refused(text):
    with pytest.raises(Rejected, match="The header Arena-Arrays") as caught:
        names_of(text)
    assert caught.value.field == HEADER
    assert not set("[]\n") & set(str(caught.value))


def test_a_header_may_list_as_many_names_as_it_says():
    many = ", ".join(f"a{n}" for n in range(MOST_NAMES))
    assert len(names_of(many)) == MOST_NAMES


OBS = shapes.vectors(2, 3)
MASK = np.ones((2, 3))


@pytest.mark.parametrize(
    ("name", "arrays"),
    [
        ("recurrent", {"action_mask": MASK}),
        ("recurrent", {"obs": OBS, "other": MASK}),
        ("recurrent", {"obs": OBS, "obs/other": OBS}),
        ("recurrent", {"obs": OBS, "action_mask/0": MASK}),
        ("recurrent", {"obs": OBS, "hidden_state": MASK}),
        ("recurrent", {"obs": OBS, "env_defined_actions": MASK}),
        ("recurrent", {"obs": OBS, "inputs": OBS}),
        ("recurrent", {"obs": OBS, "agents/a/obs": OBS}),
        ("recurrent", {"agents/a/obs": OBS}),
        ("agents", {"obs": OBS}),
        ("agents", {"agents/speaker_0": OBS}),
        ("agents", {"agents/speaker_0/action_mask": MASK}),
        ("agents", {"agents/speaker_0/obs": OBS, "agents/other/obs": OBS}),
        ("agents", {"agents/speaker_0/obs": OBS, "obs": OBS}),
        ("agents", {"agents/speaker_0/obs": OBS, "agents/speaker_0/other": OBS}),
        ("dict", {"obs": OBS}),
        ("dict", {"obs/image": OBS, "obs/level": OBS}),
        ("tuple", {"obs/0": OBS[:, :2], "obs/1": OBS[:, 0], "obs/2": OBS}),
        ("supervised", {"obs": OBS}),
        ("supervised", {"inputs": OBS, "other": OBS}),
        ("supervised", {"inputs/0": OBS}),
        ("supervised", {"inputs": OBS, "inputs/0": OBS}),
        ("supervised", {"agents/a/inputs": OBS}),
    ],
)
def test_a_name_that_is_missing_or_unknown_is_refused(models, name, arrays):
    error = refused(models[name], arrays, verb=SHAPES[name][1])
    assert error.field == HEADER
    assert "The header Arena-Arrays names" in str(error) or "must name" in str(error)


@pytest.mark.parametrize(
    ("name", "arrays", "field"),
    [
        ("recurrent", {"obs": OBS[:, :2]}, "obs"),
        ("recurrent", {"obs": OBS[0]}, "obs"),
        ("recurrent", {"obs": OBS * np.nan}, "obs"),
        ("recurrent", {"obs": OBS, "action_mask": MASK[:1]}, "action_mask"),
        ("recurrent", {"obs": OBS, "action_mask": 0 * MASK}, "action_mask"),
        ("recurrent", {"obs": OBS, "hidden_state/h": MASK}, "hidden_state"),
        ("agents", {"agents/speaker_0/obs": OBS[:, :1]}, "obs.speaker_0"),
        (
            "agents",
            {"agents/speaker_0/obs": OBS, "agents/listener_0/obs": np.ones((1, 5))},
            "obs",
        ),
        (
            "agents",
            {
                "agents/speaker_0/obs": OBS,
                "agents/speaker_0/env_defined_action": np.array([7.0, np.nan]),
            },
            "env_defined_actions.speaker_0",
        ),
        ("supervised", {"inputs": OBS[:, :2]}, "inputs"),
    ],
)
def test_what_is_wrong_with_an_array_is_said_as_of_json(models, name, arrays, field):
    error = refused(models[name], arrays, verb=SHAPES[name][1])
    assert error.field == field


def test_the_calls_of_other_families_are_refused_in_the_binary_form_too(models):
    error = refused(models["box"], {"obs": OBS}, verb="predict")
    assert str(error) == "This deployment acts: call get_action, not predict."
    error = refused(models["supervised"], {"obs": OBS})
    assert str(error) == "This deployment predicts: call predict, not get_action."


def test_a_prediction_is_not_sampled_in_the_binary_form_either(models):
    choice = Choice.of("sample")
    error = refused(
        models["supervised"], {"inputs": OBS}, verb="predict", choice=choice
    )
    assert error.field == "mode"


def test_what_the_weights_overflow_on_is_the_fault_of_who_sent_it():
    huge = np.full((1, 4), 3e38, "f4")
    assert refused(exact("plane"), {"obs": huge}, as_=NotFinite).field == "obs"


# --- the bytes -----------------------------------------------------------------------


def test_every_body_that_is_cut_short_is_refused_and_names_the_array(models):
    names, body = sent({"obs": OBS, "action_mask": MASK})
    first = len(npy.encode(OBS))
    for length in range(len(body)):
        with pytest.raises(Rejected) as caught:
            taken(models["recurrent"], names, body[:length])
        assert caught.value.field == ("obs" if length < first else "action_mask")


def test_bytes_behind_the_last_array_are_refused(models):
    names, body = sent({"obs": OBS, "action_mask": MASK})
    for more in (b"\0", npy.encode(OBS)):
        with pytest.raises(Rejected, match="which says") as caught:
            taken(models["recurrent"], names, body + more)
        assert caught.value.field == "action_mask"


def test_more_names_than_arrays_are_refused(models):
    names, body = sent({"obs": OBS})
    with pytest.raises(Rejected, match="npy format") as caught:
        taken(models["recurrent"], (*names, "action_mask"), body)
    assert caught.value.field == "action_mask"


def test_what_a_header_claims_is_not_allocated(models):
    head = npy.encode(np.zeros((2**20, 3), "u1"))[:128]
    mask = npy.encode(MASK)
    huge = head.replace(b"(1048576, 3), }", b"(%d,), }" % (2**63 - 200))
    for names, body in (
        (("obs",), head),
        (("obs", "action_mask"), head + mask),
        (("obs", "action_mask"), huge + mask),
        (("obs", "action_mask"), npy.encode(OBS) + head),
    ):
        with suppress(Rejected):  # caches are warm
            taken(models["recurrent"], names, body)
        tracemalloc.start()
        try:
            with pytest.raises(Rejected, match="bytes behind its header"):
                taken(models["recurrent"], names, body)
            assert tracemalloc.get_traced_memory()[1] < len(body) + 20_000
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize("name", SHAPES)
@given(data=st.data())
def test_any_damage_is_answered_or_plainly_refused(models, name, data):
    model, verb = models[name], SHAPES[name][1]
    names, body = sent(named(model, questions(name, 2)))
    known = [*names, "obs", "inputs", "action_mask", "hidden_state/h", "agents/x/obs"]
    names = list(names)
    for _ in range(data.draw(st.integers(0, 2))):
        place = data.draw(st.integers(0, len(names) - 1))
        names[place] = data.draw(st.sampled_from(known))
    damaged = bytearray(body)
    for _ in range(data.draw(st.integers(0, 3))):
        place = data.draw(st.integers(0, len(damaged) - 1))
        damaged[place] = data.draw(st.integers(0, 255))
    cut = bytes(damaged[: data.draw(st.just(len(body)) | st.integers(0, len(body)))])
    try:
        assert taken(model, names_of(", ".join(names)), cut, verb=verb)
        sentence = ""
    except (Rejected, Conflict) as error:
        sentence = str(error)
    assert not set("[]\n\x1b") & set(sentence)
    assert len(sentence) < 600


@pytest.mark.parametrize("name", SHAPES)
@given(data=st.data())
def test_any_numbers_are_answered_or_plainly_refused(models, name, data):
    model, verb = models[name], SHAPES[name][1]
    arrays = named(model, questions(name, 2))
    changed = data.draw(st.sampled_from(list(arrays)))
    dtype = data.draw(st.sampled_from(["?", "i1", "i8", "u8", "f2", "f4", "f8"]))
    array = data.draw(
        hnp.arrays(dtype, arrays[changed].shape)
        | hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_side=4))
    )
    with suppress(Rejected, Conflict):
        assert asked_raw(model, arrays | {changed: array}, verb=verb)


# --- answers -------------------------------------------------------------------------


def test_an_answer_whose_names_no_header_can_hold_is_refused(models):
    done = {"a b": Acted(np.zeros(1), {})}
    agents = {"a b": models["agents"].agents["speaker_0"]}
    model = evolve(models["agents"], agents=agents)
    answer = raw_arrays.action_answer(model, done)
    with pytest.raises(Rejected, match="use the JSON form") as caught:
        raw_arrays.header(answer)
    assert caught.value.field == "content-type"


def test_an_answer_lists_its_arrays_in_their_order():
    answer = raw_arrays.answer({"action": np.arange(3), "hidden_state/h": np.ones(2)})
    assert raw_arrays.header(answer) == "action, hidden_state/h"
    same(unpacked(answer), {"action": np.arange(3), "hidden_state/h": np.ones(2)})


@pytest.mark.parametrize("action", sorted(SCORES))
def test_raw_and_json_requests_are_answered_together_each_in_its_own_form(action):
    model = exact(action)
    obs = np.arange(12, dtype="f4").reshape(3, 4) - 5
    mask = np.ones((3, *SCORES[action]))
    names, body = sent({"obs": obs, "action_mask": mask})
    in_json = json.dumps(encoded({"obs": obs, "action_mask": mask})).encode()
    calls = [
        GET_ACTION.read(model, in_json, GREEDY, None),
        GET_ACTION.read(model, body, GREEDY, names),
    ]
    first, second = GET_ACTION.answer(model, calls, unwatched)
    action = npy.from_base64(json.loads(first)["action"], field="action")
    same(unpacked(second), {"action": action})


def test_a_batch_is_told_of_once_whatever_no_header_can_hold(models):
    """Whoever watches counts rows: nobody's must count twice."""
    agents = {"speaker 0": models["agents"].agents["speaker_0"]}
    manifest = evolve(models["agents"].manifest, agents={"speaker 0": "speaker"})
    model = evolve(models["agents"], agents=agents, manifest=manifest)
    body = json.dumps({"obs": {"speaker 0": npy.to_base64(OBS)}}).encode()
    call = GET_ACTION.read(model, body, GREEDY, None)
    watched = []
    answers = GET_ACTION.answer(
        model,
        [call, call._replace(names=("agents/speaker_0/obs",)), call],
        lambda *told: watched.append(told),
    )
    assert [type(answer) for answer in answers] == [bytes, RawAnswer, bytes]
    assert len(watched) == 3
    with pytest.raises(Rejected, match="use the JSON form"):
        raw_arrays.header(answers[1])
