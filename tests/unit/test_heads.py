"""From what the weights say to an action: greedy, masked, transformed and sampled."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from arena_core.application.heads import bounds, head_of
from arena_core.domain.checkpoint import (
    ActionTransform,
    Box,
    Discrete,
    Head,
    MultiBinary,
    MultiDiscrete,
    Policy,
    Signature,
    Squash,
    TensorSpec,
)
from arena_core.domain.errors import Rejected, Unavailable

CHOICES = Discrete(4, start=-1)
PARTS = MultiDiscrete((2, 3), (0, 4))
BITS = MultiBinary((2, 2))
PLANE = Box((2,), "float32", (-2.0, 0.0), (2.0, 1.0))
TANH = ActionTransform(Squash.TANH)
TO_BOUNDS = ActionTransform(rescale_from=(-1.0, 1.0))


def head(space, *, says=Head.LOGITS, transform=TANH, log_std=None):
    if not isinstance(space, Box):
        transform = ActionTransform()
    outputs = [TensorSpec("first", "float32", (None, 1))]
    if log_std is not None:
        outputs.append(TensorSpec(log_std, "float32", (None, 1)))
    signature = Signature((), tuple(outputs))
    return head_of(
        Policy(
            "p.onnx",
            signature,
            Head.ACTION if isinstance(space, Box) else says,
            action_space=space,
            transform=transform,
            log_std=log_std,
        )
    )


def choose(of, first, legal=None, random=None, **outputs):
    return of.choose({"first": np.asarray(first), **outputs}, legal, random)


def drawn(of, first, rows, *, legal=None, seed=0, **outputs):
    """Return `rows` actions drawn from what is said once."""
    wide = {name: np.tile(said, (rows, 1)) for name, said in outputs.items()}
    if legal is not None:
        legal = np.tile(legal, (rows, *[1] * np.ndim(legal)))
    first = np.tile(np.asarray(first, "f4"), (rows, *[1] * np.ndim(first)))
    return choose(of, first, legal, np.random.default_rng(seed), **wide)


def chi_square(counts, probabilities) -> float:
    """Return by how many standard deviations chi-square is over what it should be."""
    expected = np.asarray(probabilities) * np.sum(counts)
    freedom = len(expected) - 1
    statistic = float((np.square(counts - expected) / expected).sum())
    return (statistic - freedom) / math.sqrt(2 * freedom)


def softmax(logits):
    powers = np.exp(np.asarray(logits) - np.max(logits))
    return powers / powers.sum()


def scores(rows, width):
    return hnp.arrays(
        st.sampled_from(["f2", "f4", "f8"]),
        (rows, width),
        elements=st.floats(-100, 100, width=16),
    )


# --- greedy ------------------------------------------------------------------------


@pytest.mark.parametrize("says", [Head.LOGITS, Head.Q_VALUES])
@given(logits=scores(3, 4))
def test_the_first_of_the_largest_is_the_action_counted_from_the_start(says, logits):
    actions = choose(head(CHOICES, says=says), logits)
    best = [max(range(4), key=row.__getitem__) for row in logits]
    assert (actions + 1).tolist() == best
    assert (actions.shape, actions.dtype) == ((3,), np.int64)


@given(scores(3, 5))
def test_each_part_of_a_multi_discrete_is_chosen_by_its_own_scores(logits):
    actions = choose(head(PARTS), logits)
    assert actions[:, 0].tolist() == logits[:, :2].argmax(axis=1).tolist()
    assert (actions[:, 1] - 4).tolist() == logits[:, 2:].argmax(axis=1).tolist()
    assert (actions.shape, actions.dtype) == ((3, 2), np.int64)


def test_a_bit_is_one_where_its_logit_is_positive():
    logits = [[[0.1, -0.1], [0.0, 5.0]]]
    actions = choose(head(BITS), logits)
    assert actions.tolist() == [[[1, 0], [0, 1]]]
    assert actions.dtype == np.int8


@pytest.mark.parametrize(
    ("space", "places", "expected"),
    [
        (Discrete(256, start=-128, dtype="int8"), [0, 127, 255], [-128, -1, 127]),
        (Discrete(256, start=0, dtype="uint8"), [0, 127, 255], [0, 127, 255]),
        (
            Discrete(3, start=2**64 - 3, dtype="uint64"),
            [0, 1, 2],
            [2**64 - 3, 2**64 - 2, 2**64 - 1],
        ),
        (Discrete(3, start=-(2**63)), [0, 1, 2], [-(2**63), 1 - 2**63, 2 - 2**63]),
    ],
)
def test_an_action_is_exact_at_the_ends_of_its_dtype(space, places, expected):
    actions = choose(head(space), np.eye(space.n, dtype="f4")[places])
    assert actions.tolist() == expected
    assert actions.dtype == space.dtype


def test_the_parts_of_an_action_may_begin_at_the_end_of_their_dtype_too():
    space = MultiDiscrete((1, 2), (2**64 - 1, 0), "uint64")
    actions = choose(head(space), [[0.0, 0.0, 1.0]])
    assert actions.tolist() == [[2**64 - 1, 1]]


@pytest.mark.parametrize("space", [CHOICES, PARTS, BITS])
def test_what_the_weights_give_as_the_action_is_the_action(space):
    actions = choose(head(space, says=Head.ACTION), np.array([[1, 0], [0, 1]]))
    assert actions.tolist() == [[1, 0], [0, 1]]
    assert actions.dtype == (np.int8 if space is BITS else np.int64)


def test_a_policy_without_an_action_space_has_no_head():
    with pytest.raises(Rejected, match="no action_space"):
        head(None)


# --- masks -------------------------------------------------------------------------


@st.composite
def masks(draw, rows, parts):
    """Return masks of which each part allows one choice at least."""
    columns = []
    for width in parts:
        some = hnp.arrays(bool, (rows, width))
        columns.append(draw(some.filter(lambda part: part.any(axis=1).all())))
    return np.concatenate(columns, axis=1)


@pytest.mark.parametrize("seed", [None, 0, 1])
@given(data=st.data())
def test_no_action_that_a_mask_forbids_is_ever_taken(seed, data):
    rows = data.draw(st.integers(1, 4))
    random = None if seed is None else np.random.default_rng(seed)

    mask = data.draw(masks(rows, [4]))
    actions = choose(head(CHOICES), data.draw(scores(rows, 4)), mask, random)
    assert mask[np.arange(rows), actions + 1].all()

    mask = data.draw(masks(rows, [2, 3]))
    actions = choose(head(PARTS), data.draw(scores(rows, 5)), mask, random)
    for row, (first, second) in enumerate(actions):
        assert mask[row, first]
        assert mask[row, 2 + second - 4]

    mask = data.draw(hnp.arrays(bool, (rows, 2, 2)))
    logits = data.draw(scores(rows, 4)).reshape(rows, 2, 2)
    actions = choose(head(BITS), logits, mask, random)
    assert not actions[~mask].any()


@given(st.data())
def test_of_what_is_legal_the_best_is_taken(data):
    logits, mask = data.draw(scores(3, 4)), data.draw(masks(3, [4]))
    actions = choose(head(CHOICES), logits, mask) + 1
    best = np.where(mask, logits, -np.inf).max(axis=1)
    assert (logits[np.arange(3), actions] == best).all()


@pytest.mark.parametrize("dtype", ["?", "i1", "u8", "f2", "f8"])
@pytest.mark.parametrize("space", [CHOICES, PARTS, BITS])
def test_what_is_not_zero_is_legal(space, dtype):
    of = head(space)
    shape = {CHOICES: (2, 4), PARTS: (2, 5), BITS: (2, 2, 2)}[space]
    mask = np.ones(shape, dtype)
    mask[0, 0] = 0
    legal = of.legal(mask, field="action_mask")
    assert legal.dtype == bool
    assert (legal == (mask != 0)).all()


@pytest.mark.parametrize(
    ("space", "mask", "row"),
    [
        (CHOICES, [[1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]], 1),
        (PARTS, [[1, 0, 1, 0, 0], [1, 1, 0, 0, 0]], 1),
        (PARTS, [[0, 0, 1, 1, 1], [1, 1, 0, 0, 0]], 0),
    ],
)
def test_a_mask_that_leaves_no_choice_is_refused_with_the_row(space, mask, row):
    with pytest.raises(Rejected) as refused:
        head(space).legal(np.array(mask), field="action_mask.a")
    assert str(refused.value) == f"The action_mask.a allows no action in row {row}."
    assert refused.value.field == "action_mask.a"


def test_a_mask_may_forbid_every_bit_for_then_all_are_zero():
    of = head(BITS)
    legal = of.legal(np.zeros((1, 2, 2)), field="action_mask")
    assert choose(of, np.ones((1, 2, 2)), legal).tolist() == [[[0, 0], [0, 0]]]


@pytest.mark.parametrize(
    ("space", "shape"),
    [(CHOICES, (2, 5)), (CHOICES, (2,)), (PARTS, (2, 2)), (BITS, (2, 4))],
)
def test_a_mask_of_another_shape_is_refused_with_the_one_that_fits(space, shape):
    with pytest.raises(Rejected, match=r"must have the shape \(2, "):
        head(space).legal(np.ones(shape), field="action_mask")


@pytest.mark.parametrize("dtype", ["U1", "O", "M8[s]", "c8"])
def test_a_mask_of_anything_but_numbers_is_refused(dtype):
    with pytest.raises(Rejected, match="numbers or booleans"):
        head(CHOICES).legal(np.ones((1, 4)).astype(dtype), field="action_mask")


@pytest.mark.parametrize("of", [head(PLANE), head(CHOICES, says=Head.ACTION)])
def test_a_mask_is_refused_where_actions_are_not_chosen_by_scores(of):
    with pytest.raises(Rejected, match="leave it out"):
        of.legal(np.ones((1, 4)), field="action_mask")


MASKED = {CHOICES: [4], PARTS: [2, 3], BITS: []}
"""The width of each part of a mask that must leave a choice."""


def forbidden_rows(space, says, mask):
    """Count, the slow way, the rows whose greedy action is forbidden."""
    greedy = choose(head(space), says)
    count = 0
    for row, action in enumerate(greedy):
        if space is CHOICES:
            taken = [mask[row, action + 1]]
        elif space is PARTS:
            taken = [mask[row, action[0]], mask[row, 2 + action[1] - 4]]
        else:
            taken = [mask[row][place] for place in np.ndindex(2, 2) if action[place]]
        count += not all(taken)
    return count


@pytest.mark.parametrize("space", [CHOICES, PARTS, BITS])
@given(data=st.data())
def test_a_violation_is_a_row_whose_greedy_action_is_forbidden(space, data):
    rows = data.draw(st.integers(1, 5))
    if space is BITS:
        said = data.draw(scores(rows, 4)).reshape(rows, 2, 2)
        mask = data.draw(hnp.arrays(bool, (rows, 2, 2)))
    else:
        said = data.draw(scores(rows, sum(MASKED[space])))
        mask = data.draw(masks(rows, MASKED[space]))
    found = head(space).violations({"first": said}, mask)
    assert found == forbidden_rows(space, said, mask)
    assert type(found) is int


@pytest.mark.parametrize("space", [CHOICES, PARTS, BITS])
def test_where_everything_is_legal_nothing_is_violated(space):
    shape = {CHOICES: (3, 4), PARTS: (3, 5), BITS: (3, 2, 2)}[space]
    said = np.random.default_rng(0).normal(size=shape)
    assert head(space).violations({"first": said}, np.ones(shape, bool)) == 0


def test_one_bit_is_violated_once_however_many_of_its_row_are():
    said = np.array([1.0, -1.0, 2.0])
    mask = np.array([False, False, True])
    assert head(MultiBinary(())).violations({"first": said}, mask) == 1
    none = np.zeros((2, 2, 2), bool)
    assert head(BITS).violations({"first": np.ones((2, 2, 2))}, none) == 2


@pytest.mark.parametrize("of", [head(PLANE), head(CHOICES, says=Head.ACTION)])
def test_what_takes_no_mask_has_no_violations(of):
    with pytest.raises(Rejected, match="leave it out") as refused:
        of.violations({"first": np.ones((1, 2))}, np.ones((1, 2), bool))
    assert refused.value.field == "action_mask"


# --- a Box of actions --------------------------------------------------------------


@pytest.mark.parametrize(
    ("transform", "said", "answered"),
    [
        (ActionTransform(), [[-3.0, 0.5], [1.5, 2.0]], [[-2.0, 0.5], [1.5, 1.0]]),
        (TANH, [[50.0, 50.0], [-50.0, -50.0]], [[1.0, 1.0], [-1.0, 0.0]]),
        (TO_BOUNDS, [[-1.0, -1.0], [1.0, 1.0]], [[-2.0, 0.0], [2.0, 1.0]]),
        (TO_BOUNDS, [[0.0, 0.5], [9.0, -9.0]], [[0.0, 0.75], [2.0, 0.0]]),
        (
            ActionTransform(rescale_from=(0.0, 4.0)),
            [[1.0, 1.0], [4.0, 0.0]],
            [[-1.0, 0.25], [2.0, 0.0]],
        ),
        (
            ActionTransform(Squash.TANH, (-1.0, 1.0)),
            [[0.5, -0.5], [50.0, -50.0]],
            [[2 * np.tanh(0.5), (1 - np.tanh(0.5)) / 2], [2.0, 0.0]],
        ),
    ],
)
def test_an_action_is_squashed_then_rescaled_then_clipped(transform, said, answered):
    actions = choose(head(PLANE, transform=transform), np.array(said, "f4"))
    assert actions.dtype == np.float32
    assert np.allclose(actions, answered, rtol=1e-6, atol=1e-7)


@given(
    hnp.arrays("f4", (3, 2), elements=st.floats(width=32, allow_nan=False)),
    st.sampled_from([ActionTransform(), TANH, TO_BOUNDS]),
)
def test_no_action_ever_leaves_its_box(said, transform):
    actions = choose(head(PLANE, transform=transform), said)
    low, high = np.array(PLANE.low), np.array(PLANE.high)
    assert ((low <= actions) & (actions <= high)).all()


@pytest.mark.parametrize(
    "dtype",
    ["int8", "int32", "int64", "uint64", "float16", "float32", "float64"],
)
def test_a_box_without_bounds_ends_where_its_dtype_does(dtype):
    space = Box((1,), dtype, (None,), (None,))
    of = head(space, transform=ActionTransform())
    actions = choose(of, np.array([[1e300], [-1e300], [3.0]]))
    assert actions.dtype == dtype
    limit = np.finfo(dtype) if "float" in dtype else np.iinfo(dtype)
    assert actions[0, 0] == pytest.approx(min(1e300, float(limit.max)))
    assert actions[1, 0] == pytest.approx(max(-1e300, float(limit.min)))
    assert actions[2, 0] == 3


@pytest.mark.parametrize("dtype", ["int64", "uint64"])
def test_a_bound_at_the_end_of_the_integers_does_not_wrap_around(dtype):
    most = int(np.iinfo(dtype).max)
    space = Box((1,), dtype, (0,), (most,))
    actions = choose(head(space, transform=ActionTransform()), np.array([[1e30]]))
    assert most - 2**12 < int(actions[0, 0]) <= most


def test_bounds_are_given_in_the_shape_of_the_space():
    space = Box((1, 2), "float32", (None, -1.0), (3.5e38, 2.0))
    low, high = bounds(space)
    largest = float(np.finfo("f4").max)
    assert low.tolist() == [[-largest, -1.0]]
    assert high.tolist() == [[largest, 2.0]]


def test_what_is_too_large_to_be_rescaled_is_clipped():
    space = Box((1,), "float64", (-1e300,), (1e300,))
    actions = choose(head(space, transform=TO_BOUNDS), np.array([[1e300], [-1e300]]))
    assert actions.tolist() == [[1e300], [-1e300]]


# --- rows --------------------------------------------------------------------------


@pytest.mark.parametrize("space", [CHOICES, PARTS, BITS, PLANE])
def test_rows_do_not_see_each_other(space):
    width = {CHOICES: (4,), PARTS: (5,), BITS: (2, 2), PLANE: (2,)}[space]
    said = np.random.default_rng(0).normal(size=(7, *width)).astype("f4")
    of = head(space)
    alone = [choose(of, said[row : row + 1])[0] for row in range(7)]
    assert choose(of, said).tolist() == np.array(alone).tolist()
    assert choose(of, said[::-1]).tolist() == np.array(alone)[::-1].tolist()


# --- sampling ----------------------------------------------------------------------

ROWS = 20_000
LOGITS = [1.0, -1.0, 0.0, 2.0]
FAR = 4.5
"""Standard deviations that chance does not reach; the seeds are fixed anyway."""


@pytest.mark.parametrize("seed", range(3))
def test_a_discrete_action_is_drawn_as_often_as_its_probability_says(seed):
    actions = drawn(head(CHOICES), LOGITS, ROWS, seed=seed)
    counts = np.bincount(actions + 1, minlength=4)
    assert abs(chi_square(counts, softmax(LOGITS))) < FAR
    assert abs(chi_square(counts, [0.25] * 4)) > FAR


@pytest.mark.parametrize("seed", range(3))
def test_under_a_mask_the_legal_share_the_probability_of_the_forbidden(seed):
    legal = np.array([True, False, True, True])
    actions = drawn(head(CHOICES), LOGITS, ROWS, legal=legal, seed=seed)
    counts = np.bincount(actions + 1, minlength=4)
    assert counts[1] == 0
    wanted = softmax(np.array(LOGITS)[legal])
    assert abs(chi_square(counts[legal], wanted)) < FAR


def test_the_parts_of_a_multi_discrete_are_drawn_independently():
    logits = [0.5, 0.0, 1.0, -1.0, 0.0]
    actions = drawn(head(PARTS), logits, ROWS)
    pairs = actions[:, 0] * 3 + actions[:, 1] - 4
    wanted = np.outer(softmax(logits[:2]), softmax(logits[2:])).ravel()
    assert abs(chi_square(np.bincount(pairs, minlength=6), wanted)) < FAR


def test_bits_are_drawn_independently_with_the_probability_of_their_logits():
    logits = np.array([[2.0, -1.0], [0.0, 0.5]])
    actions = drawn(head(BITS), logits, ROWS).reshape(ROWS, 4)
    ones = 1 / (1 + np.exp(-logits.ravel()))
    cells = actions @ [8, 4, 2, 1]
    wanted = [
        math.prod(p if cell >> 3 - bit & 1 else 1 - p for bit, p in enumerate(ones))
        for cell in range(16)
    ]
    assert abs(chi_square(np.bincount(cells, minlength=16), wanted)) < FAR


def test_a_continuous_action_is_drawn_from_its_gaussian_then_transformed():
    wide = Box((2,), "float64", (-2.0, 0.0), (2.0, 1.0))
    transform = ActionTransform(Squash.TANH, (-1.0, 1.0))
    of = head(wide, transform=transform, log_std="log_std")
    means, log_std = np.array([0.3, -0.6]), np.array([-1.0, 0.2])
    actions = drawn(of, means, ROWS, log_std=log_std)
    low, high = np.array(wide.low), np.array(wide.high)
    before = np.arctanh(2 * (actions - low) / (high - low) - 1)
    normal = (before - means) / np.exp(log_std)
    edges = [-2, -1, -0.5, 0, 0.5, 1, 2]
    cumulative = [(1 + math.erf(edge / math.sqrt(2))) / 2 for edge in edges]
    wanted = np.diff([0, *cumulative, 1])
    for column in (0, 1):
        counts = np.bincount(np.digitize(normal[:, column], edges), minlength=8)
        assert abs(chi_square(counts, wanted)) < FAR
    assert abs(np.corrcoef(normal.T)[0, 1]) < FAR / math.sqrt(ROWS)


@pytest.mark.parametrize("space", [CHOICES, PARTS, BITS, PLANE])
def test_the_same_seed_draws_the_same_and_another_another(space):
    width = {CHOICES: 4, PARTS: 5, BITS: (2, 2), PLANE: 2}[space]
    of = head(space, log_std="log_std" if space is PLANE else None)
    more = {"log_std": np.zeros(2)} if space is PLANE else {}
    once, again, other = (
        drawn(of, np.zeros(width), 50, seed=seed, **more).tolist() for seed in (1, 1, 2)
    )
    assert once == again != other


def test_sampling_without_deviation_is_greedy():
    of = head(PLANE, log_std="log_std")
    said = np.array([[0.3, 0.9]])
    log_std = np.full((1, 2), -np.inf)
    actions = choose(of, said, None, np.random.default_rng(0), log_std=log_std)
    assert actions.tolist() == choose(of, said).tolist()


@pytest.mark.parametrize("log_std", [np.nan, np.inf, 1000.0])
def test_a_deviation_that_is_no_number_makes_no_action(log_std):
    of = head(PLANE, log_std="log_std")
    deviation = np.full((1, 2), log_std, "f4")
    with pytest.raises(Unavailable, match="deviation"):
        choose(of, np.zeros((1, 2)), None, np.random.default_rng(0), log_std=deviation)


@pytest.mark.parametrize(
    "of",
    [
        head(CHOICES, says=Head.Q_VALUES),
        head(CHOICES, says=Head.ACTION),
        head(PLANE, log_std=None),
    ],
)
def test_what_has_no_distribution_is_not_sampled(of):
    with pytest.raises(Rejected, match="no distribution to sample from") as refused:
        choose(of, np.zeros((1, 4)), None, np.random.default_rng(0))
    assert refused.value.field == "mode"
