import io
import struct
import time
import tracemalloc
import zipfile
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arena_core.application import golden, npy
from arena_core.application.golden import Case, GoldenTrace, Step, read, write
from arena_core.domain.errors import Rejected, TooLarge


def step(rows: int, **more: np.ndarray) -> Step:
    return Step(
        {
            "obs": np.full((rows, 4), 0.5, np.float32),
            "action": np.arange(rows, dtype=np.int64),
            **more,
        }
    )


TRACE = GoldenTrace(
    (
        Case("case0", (step(1, **{"outputs//pi/Gemm:0": np.ones((1, 2))}),)),
        Case("case1", (step(7), step(7, action_mask=np.ones((7, 2), np.bool_)))),
    )
)
GOOD = {
    "case0/step0/obs.npy": npy.encode(np.zeros((1, 4))),
    "case0/step0/action.npy": npy.encode(np.zeros(1)),
}


def archive(members, *, compression=zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as target:
        for name, content in members.items():
            target.writestr(name, content)
    return stream.getvalue()


def flat(trace: GoldenTrace):
    return [
        (case.name, number, what, array.dtype, array.shape, array.tobytes())
        for case in trace.cases
        for number, s in enumerate(case.steps)
        for what, array in s.recorded.items()
    ]


def test_what_was_written_is_read():
    assert flat(read(write(TRACE))) == sorted(flat(TRACE), key=lambda entry: entry[:3])


def test_the_same_trace_has_the_same_bytes_whenever_it_is_written(monkeypatch):
    before = write(TRACE)
    reordered = GoldenTrace(
        tuple(
            Case(
                c.name, tuple(Step(dict(reversed(s.recorded.items()))) for s in c.steps)
            )
            for c in reversed(TRACE.cases)
        )
    )
    monkeypatch.setattr(time, "time", lambda: 2_000_000_000.0)
    assert write(reordered) == before


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_what_numpy_saves_is_read(save):
    stream = io.BytesIO()
    save(
        stream,
        **{
            f"{case.name}/step{number}/{what}": array
            for case in TRACE.cases
            for number, s in enumerate(case.steps)
            for what, array in s.recorded.items()
        },
    )
    assert sorted(flat(read(stream.getvalue()))) == sorted(flat(TRACE))


def test_what_is_written_numpy_reads():
    arrays = np.load(io.BytesIO(write(TRACE)), allow_pickle=False)
    assert arrays["case1/step1/action_mask"].shape == (7, 2)


def test_what_is_recorded_of_each_agent_is_told_apart():
    recorded = {
        "agents/a:1/obs/inner/0": np.zeros((2, 4)),
        "agents/a:1/action": np.zeros(2),
        "agents/b/obs": np.zeros((2, 1)),
        "agents/b/outputs/agents/x": np.zeros((2, 1)),
        "agents/b/env_defined_action": np.full(2, np.nan),
        "agents/b/action": np.zeros(2),
    }
    (case,) = read(write(GoldenTrace((Case("case0", (Step(recorded),)),)))).cases
    agents = case.steps[0].by_agent()
    assert {agent: set(whats) for agent, whats in agents.items()} == {
        "a:1": {"obs/inner/0", "action"},
        "b": {"obs", "outputs/agents/x", "env_defined_action", "action"},
    }
    assert case.steps[0].rows == 2


def test_cases_and_steps_come_in_the_order_of_their_numbers():
    trace = GoldenTrace(
        tuple(
            Case(f"case{n}", tuple(step(n + 1) for _ in range(11)))
            for n in (10, 9, 2, 0)
        )
    )
    cases = read(write(trace)).cases
    assert [case.name for case in cases] == ["case0", "case2", "case9", "case10"]
    assert [len(case.steps) for case in cases] == [11] * 4


ONE = npy.encode(np.zeros((1, 4)))
TWO = npy.encode(np.zeros((2, 4)))


@pytest.mark.parametrize(
    ("members", "problem"),
    [
        ({}, "no case"),
        ({"case0/step0/obs.npy": ONE}, "no answer"),
        ({"case0/step0/action.npy": ONE}, "either obs or inputs"),
        (GOOD | {"case0/step0/inputs.npy": ONE}, "either obs or inputs"),
        (GOOD | {"case0/step0/action_mask.npy": TWO}, "number of rows"),
        (GOOD | {"case0/step0/outputs/x.npy": TWO}, "number of rows"),
        (dict.fromkeys(GOOD, npy.encode(np.zeros((0, 4)))), "number of rows"),
        (dict.fromkeys(GOOD, npy.encode(np.zeros(()))), "batch axis"),
        ({n.replace("step0", "step1"): c for n, c in GOOD.items()}, "lacks step 0"),
        (
            GOOD | {n.replace("step0/", "step0/agents/a/"): c for n, c in GOOD.items()},
            "of several agents and of a single one",
        ),
        ({"case0/step0/agents/a/obs.npy": ONE}, "no answer"),
        (
            GOOD | {"case0/step1/agents/a/action.npy": ONE},
            "either obs or inputs",
        ),
        (
            GOOD | {n.replace("step0", "step2"): c for n, c in GOOD.items()},
            "lacks step 1",
        ),
    ],
)
def test_a_trace_that_cannot_be_replayed_is_refused(members, problem):
    with pytest.raises(Rejected, match=problem) as refused:
        read(archive(members))
    assert refused.value.field == "golden.npz"


@pytest.mark.parametrize(
    "name",
    ["obs.npy", "case0/obs.npy", "case0/step0/obs", "case0/step0/reward.npy",
     "case0/step0/obs.npy/x", "/case0/step0/obs.npy", "../case0/step0/obs.npy",
     "case00/step0/obs.npy", "case0/step-1/obs.npy", "case٣/step0/obs.npy",
     "case0/step0/outputs/.npy", "case0/step0/outputs/a b.npy", "case0/step0/",
     "Case0/step0/obs.npy", "case0/step0/obs.npy\n", "case9999999/step0/obs.npy",
     "case0/step0/agents/a/reward.npy", "case0/step0/agents//obs.npy",
     "case0/step0/agents/a b/obs.npy", "case0/step0/agents/a/b/obs.npy",
     "case0/step0/obs/.npy", "case0/step0/obs/a b.npy", "case0/step0/action/x.npy",
     "__pycache__/x.pkl", "case0/step0/outputs/[red].npy"],
)  # fmt: skip
def test_a_member_of_another_name_is_refused(name):
    with pytest.raises(Rejected) as refused:
        read(archive(GOOD | {name: ONE}))
    assert not set("[]\n") & set(str(refused.value))


@pytest.mark.parametrize(
    "content", [b"", b"\x80\x04.", ONE[:-1], ONE + b"\0", archive(GOOD)]
)
def test_a_member_that_is_no_array_is_refused(content):
    with pytest.raises(Rejected, match=r"case0.step0.action_mask\.npy"):
        read(archive(GOOD | {"case0/step0/action_mask.npy": content}))


def test_an_array_of_objects_is_refused():
    stream = io.BytesIO()
    np.save(stream, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(Rejected):
        read(archive(GOOD | {"case0/step0/outputs/x.npy": stream.getvalue()}))


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compressions_are_refused(compression):
    with pytest.raises(Rejected, match="unusual"):
        read(archive(GOOD, compression=compression))


def test_a_name_that_is_there_twice_is_refused():
    members = GOOD | {"case0/step0/obs.npX": ONE}
    data = archive(members).replace(b"obs.npX", b"obs.npy")
    with pytest.raises(Rejected, match="twice"):
        read(data)


def test_an_encrypted_member_is_refused():
    data = bytearray(archive(GOOD))
    at = data.index(b"PK\x01\x02") + 8
    data[at] |= 1
    with pytest.raises(Rejected, match="encrypted"):
        read(bytes(data))


@pytest.mark.parametrize(
    "data", [b"", b"PK", b"PK\x05\x06", b"x" * 1000, ONE, b"PK\x03\x04" * 20]
)
def test_what_is_no_archive_is_refused(data):
    with pytest.raises(Rejected):
        read(data)


def test_an_archive_with_a_comment_is_refused():
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as target:
        target.comment = b"x" * 100
        target.writestr("case0/step0/obs.npy", ONE)
    with pytest.raises(Rejected, match="comment"):
        read(stream.getvalue())


@pytest.mark.parametrize("length", [1, 30, 200, 21, 22, 60])
def test_an_archive_that_is_cut_off_is_refused(length):
    with pytest.raises(Rejected):
        read(archive(GOOD)[:-length])


def test_a_wrong_checksum_is_refused():
    data = bytearray(archive(GOOD, compression=zipfile.ZIP_STORED))
    at = data.index(b"\x93NUMPY") + 130
    data[at] ^= 1
    with pytest.raises(Rejected, match="damaged"):
        read(bytes(data))


# --- bombs -----------------------------------------------------------------------


def peak_bytes(data: bytes) -> int:
    tracemalloc.start()
    try:
        with pytest.raises(TooLarge):
            read(data)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_member_that_inflates_to_too_much_is_refused():
    bomb = archive({"case0/step0/obs.npy": bytes(golden.MOST_MEMBER_BYTES + 1)})
    assert len(bomb) < 200_000
    with pytest.raises(TooLarge):
        read(bomb)


def test_members_that_inflate_to_too_much_together_are_refused(monkeypatch):
    monkeypatch.setattr(golden, "MOST_BYTES", 1 << 20)
    array = npy.encode(np.zeros((1, 40_000)))
    bomb = archive({f"case0/step0/outputs/{n}.npy": array for n in range(4)} | GOOD)
    assert len(bomb) < 1 << 20
    with pytest.raises(TooLarge):
        read(bomb)


def test_sizes_that_the_headers_lie_about_change_nothing():
    members = {"case0/step0/obs.npy": bytes(golden.MOST_MEMBER_BYTES + 1)}
    size = struct.pack("<L", golden.MOST_MEMBER_BYTES + 1)
    data = archive(members).replace(size, struct.pack("<L", 100))
    with pytest.raises(Rejected):
        read(data)


def test_many_members_are_refused_before_they_are_looked_at():
    members = {f"case0/step{n}/obs.npy": b"" for n in range(golden.MOST_MEMBERS + 1)}
    data = archive(members, compression=zipfile.ZIP_STORED)
    with pytest.raises(TooLarge, match="arrays"):
        read(data)


def test_a_directory_of_millions_is_refused_without_reading_it():
    # As many entries as fit, none of which leads anywhere; the count is a lie.
    directory = (b"PK\x01\x02" + bytes(42)) * 400_000
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, len(directory), 0, 0)
    assert peak_bytes(directory + end) < 1_000_000


def test_64_bit_records_are_refused():
    data = archive(GOOD)
    end = data[-22:]
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, 0, 1)
    with pytest.raises(TooLarge, match="64-bit"):
        read(data[:-22] + locator + end)


def test_an_archive_over_the_limit_is_not_opened(monkeypatch):
    monkeypatch.setattr(golden, "MOST_BYTES", 100)
    with pytest.raises(TooLarge):
        read(archive(GOOD))


SOUND = write(TRACE)


@given(
    st.lists(
        st.tuples(st.integers(0, len(SOUND) - 1), st.integers(0, 255)), max_size=4
    ),
    st.integers(0, 60),
)
@settings(deadline=None, max_examples=300)
def test_a_damaged_archive_is_read_or_refused(flips, cut):
    data = bytearray(SOUND)
    for at, value in flips:
        data[at] = value
    with suppress(Rejected):
        read(bytes(data[: len(data) - cut]))


# --- what is not written -----------------------------------------------------------


@pytest.mark.parametrize(
    "trace",
    [
        GoldenTrace(()),
        GoldenTrace((Case("first", (step(1),)),)),
        GoldenTrace((Case("case0", (Step({"obs": np.zeros(1)}),)),)),
        GoldenTrace((Case("case0", (step(2, action_mask=np.zeros(3)),)),)),
        GoldenTrace((Case("case0", (step(2, reward=np.zeros(2)),)),)),
    ],
)
def test_what_could_not_be_read_is_not_written(trace):
    with pytest.raises(Rejected):
        write(trace)
