"""The contract of the Runtime port: one class of tests for every adapter."""

import re
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from arena_core.application.ports import Array, Runtime, Tensors
from arena_core.domain.checkpoint import Signature, TensorSpec
from arena_core.domain.errors import Rejected, Unavailable, Unloaded

MOST_ROWS = 9
TOLERANCE = 1e-5

examples = settings(
    max_examples=40,
    deadline=None,
    # Every adapter runs these tests from a class of its own: that is the point.
    suppress_health_check=[HealthCheck.differing_executors],
)


def shape(spec: TensorSpec, rows: int, free: int) -> tuple[int, ...]:
    return (rows, *(free if size is None else size for size in spec.shape[1:]))


def elements(dtype: np.dtype):
    if dtype.kind == "f":
        return st.floats(-8, 8, width=dtype.itemsize * 8, allow_subnormal=False)
    if dtype.kind == "b":
        return st.booleans()
    return st.integers(0, 1)  # legal wherever numbers pick something


@st.composite
def batches(draw, signature: Signature) -> dict[str, Array]:
    rows, free = draw(st.integers(1, MOST_ROWS)), draw(st.integers(1, 3))
    drawn = {}
    for spec in signature.inputs:
        dtype = np.dtype(spec.dtype)
        arrays = hnp.arrays(dtype, shape(spec, rows, free), elements=elements(dtype))
        drawn[spec.name] = draw(arrays)
    return drawn


def some(signature: Signature, *, rows: int = 3, seed: int = 0) -> dict[str, Array]:
    """Return inputs that differ from seed to seed."""
    random = np.random.default_rng(seed)
    return {
        spec.name: random.normal(size=shape(spec, rows, 2)).astype(spec.dtype)
        if spec.dtype.startswith("float")
        else random.integers(0, 2, shape(spec, rows, 2)).astype(spec.dtype)
        for spec in signature.inputs
    }


def row_count(tensors: Tensors) -> int:
    return len(next(iter(tensors.values())))


def take(tensors: Tensors, rows) -> dict[str, Array]:
    return {name: array[rows] for name, array in tensors.items()}


def assert_close(ones: Mapping[str, Array], others: Mapping[str, Array]) -> None:
    assert ones.keys() == others.keys()
    for name, one in ones.items():
        np.testing.assert_allclose(
            one, others[name], rtol=TOLERANCE, atol=TOLERANCE, err_msg=name
        )


def refused(runtime: Runtime, inputs: Tensors) -> Rejected:
    """Run `inputs`, which must be refused, in one plain sentence."""
    with pytest.raises(Rejected) as refusal:
        runtime.run(inputs)
    assert re.fullmatch(r"[^\[\]]+: [^\[\]]+\.", str(refusal.value))
    return refusal.value


class RuntimeContract:
    @pytest.fixture(scope="class")
    @classmethod
    def signature(cls) -> Signature:
        raise NotImplementedError("the subclass says what the weights are")

    @pytest.fixture(scope="class")
    @classmethod
    def load(cls) -> Callable[[], Runtime]:
        raise NotImplementedError("the subclass loads them, anew at each call")

    @pytest.fixture(scope="class")
    @classmethod
    def runtime(cls, load):
        runtime = load()
        yield runtime
        runtime.close()

    def test_the_signature_is_the_one_that_was_asked_for(self, runtime, signature):
        assert runtime.signature == signature

    def test_it_says_what_runs_it_and_where(self, runtime):
        assert re.fullmatch(r"\w+ \d[\w.+]*", runtime.name)
        assert re.fullmatch(r"cpu|cuda:\d", runtime.device)

    @examples
    @given(data=st.data())
    def test_each_input_row_gets_one_row_of_each_output(self, runtime, signature, data):
        inputs = data.draw(batches(signature))
        outputs = runtime.run(inputs)
        specs = signature.outputs
        assert list(outputs) == [spec.name for spec in specs]
        for spec in specs:
            output = outputs[spec.name]
            assert output.dtype == spec.dtype
            assert output.shape[0] == row_count(inputs)
            assert len(output.shape) == len(spec.shape)
            sizes = zip(output.shape[1:], spec.shape[1:], strict=True)
            assert all(said in (None, size) for size, said in sizes)

    @examples
    @given(data=st.data())
    def test_rows_do_not_see_each_other(self, runtime, signature, data):
        inputs = data.draw(batches(signature))
        together = runtime.run(inputs)
        for row in range(row_count(inputs)):
            alone = runtime.run(take(inputs, slice(row, row + 1)))
            assert_close(alone, take(together, slice(row, row + 1)))

    @examples
    @given(data=st.data())
    def test_rows_may_come_in_any_order(self, runtime, signature, data):
        inputs = data.draw(batches(signature))
        order = data.draw(st.permutations(range(row_count(inputs))))
        shuffled = runtime.run(take(inputs, order))
        assert_close(shuffled, take(runtime.run(inputs), order))

    def test_arrays_may_be_read_only_and_in_any_memory_order(self, runtime, signature):
        inputs = some(signature)
        odd = {name: np.asfortranarray(array) for name, array in inputs.items()}
        for array in odd.values():
            array.flags.writeable = False
        assert_close(runtime.run(odd), runtime.run(inputs))
        wide = {name: np.repeat(array, 2, axis=0) for name, array in inputs.items()}
        assert_close(runtime.run(take(wide, slice(0, None, 2))), runtime.run(inputs))

    def test_inputs_and_earlier_answers_are_left_alone(self, runtime, signature):
        inputs = some(signature, seed=1)
        before = {name: array.copy() for name, array in inputs.items()}
        answer = runtime.run(inputs)
        for name, array in inputs.items():
            np.testing.assert_array_equal(array, before[name])
        kept = {name: array.copy() for name, array in answer.items()}
        runtime.run(some(signature, seed=2))
        for array in inputs.values():
            array.fill(0)
        assert_close(answer, kept)

    def test_an_unknown_input_is_refused_without_repeating_it(self, runtime, signature):
        inputs = some(signature)
        some_array = next(iter(inputs.values()))
        error = refused(runtime, inputs | {"surprise": some_array})
        assert error.field == "surprise"
        assert "surprise" not in str(error)
        assert all(name in str(error) for name in inputs)

    def test_a_missing_input_is_refused_by_its_name(self, runtime, signature):
        for name in (inputs := some(signature)):
            rest = {other: array for other, array in inputs.items() if other != name}
            error = refused(runtime, rest)
            assert error.field == name
            assert name in str(error)

    def test_a_wrong_dtype_is_refused_with_the_right_one(self, runtime, signature):
        inputs = some(signature)
        for spec in signature.inputs:
            for wrong in {"float64", "int64", "int8", "bool", ">i8"} - {spec.dtype}:
                cast = {spec.name: inputs[spec.name].astype(wrong)}
                error = refused(runtime, inputs | cast)
                assert error.field == spec.name
                assert spec.dtype in str(error)

    def test_a_wrong_shape_is_refused_by_the_inputs_name(self, runtime, signature):
        inputs = some(signature)
        for spec in signature.inputs:
            array = inputs[spec.name]
            wrong = [array[..., None], array.reshape(-1)[0]]
            if len(spec.shape) > 1:
                wrong.append(array[:, 0])
            if spec.shape[-1] is not None and len(spec.shape) > 1:
                wrong += [array[..., :-1], np.concatenate([array, array], axis=-1)]
            for misfit in wrong:
                error = refused(runtime, inputs | {spec.name: np.asarray(misfit)})
                assert error.field == spec.name
                assert spec.name in str(error)

    def test_no_rows_are_refused(self, runtime, signature):
        refused(runtime, some(signature, rows=0))

    def test_inputs_with_different_numbers_of_rows_are_refused(
        self, runtime, signature
    ):
        names = [spec.name for spec in signature.inputs]
        if len(names) == 1:
            pytest.skip("a single input has no other to differ from")
        for name in names:
            uneven = some(signature, rows=3)
            uneven[name] = some(signature, rows=2)[name]
            assert refused(runtime, uneven).field in names

    def test_a_refusal_changes_nothing(self, runtime, signature):
        inputs = some(signature)
        before = runtime.run(inputs)
        refused(runtime, {})
        assert_close(runtime.run(inputs), before)

    def test_concurrent_callers_get_their_own_answers(self, runtime, signature):
        asked = [
            some(signature, rows=seed % MOST_ROWS + 1, seed=seed) for seed in range(200)
        ]
        expected = [runtime.run(inputs) for inputs in asked]
        with ThreadPoolExecutor(8) as pool:
            for answer, own in zip(pool.map(runtime.run, asked), expected, strict=True):
                assert_close(answer, own)

    def test_closing_twice_is_harmless(self, load):
        runtime = load()
        runtime.close()
        runtime.close()

    def test_a_closed_runtime_is_unavailable(self, load, signature):
        runtime = load()
        runtime.close()
        with pytest.raises(Unloaded):
            runtime.run(some(signature))

    def test_closing_one_leaves_another_alone(self, load, runtime, signature):
        load().close()
        runtime.run(some(signature))

    def test_closing_lets_those_who_run_finish(self, load, signature):
        inputs = some(signature)
        runtime = load()
        expected = runtime.run(inputs)
        everyone_runs = Barrier(5)

        def run_until_closed() -> None:
            assert_close(runtime.run(inputs), expected)
            everyone_runs.wait()
            while True:
                try:
                    answer = runtime.run(inputs)
                except Unavailable:
                    return
                assert_close(answer, expected)

        with ThreadPoolExecutor(4) as pool:
            runners = [pool.submit(run_until_closed) for _ in range(4)]
            everyone_runs.wait()
            runtime.close()
            for runner in runners:
                runner.result()
