"""How long a batch takes: a line through what was measured."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arena_core.application import pace
from arena_core.application.pace import (
    LARGEST_BATCH,
    LONGEST_RUN_S,
    USUAL_BATCH,
    Pace,
    measure,
    try_once,
)


class Machine:
    """Runs batches in times of its own, which its clock tells."""

    def __init__(self, seconds, *, disturbed=()):
        self.now = 0.0
        self.ran = []
        self._seconds = seconds
        self._disturbed = disturbed

    def perf_counter(self):
        return self.now

    def run(self, rows):
        extra = 1.0 if len(self.ran) in self._disturbed else 0.0
        self.ran.append(rows)
        self.now += self._seconds(rows) + extra


@pytest.fixture
def measured(monkeypatch):
    def measured(seconds, *, disturbed=()):
        machine = Machine(seconds, disturbed=disturbed)
        clock = SimpleNamespace(perf_counter=machine.perf_counter)
        with monkeypatch.context() as patched:
            patched.setattr(pace, "time", clock)
            return measure(machine.run), machine.ran

    return measured


def line(fixed, row):
    return lambda rows: fixed + rows * row


def test_a_batch_takes_what_is_fixed_and_so_much_for_each_row():
    assert Pace(0.5, 0.25, 8).seconds(4) == 1.5


@pytest.mark.parametrize("fixed", [1e-6, 2e-5, 1e-3])
@pytest.mark.parametrize("row", [1e-7, 1e-6, 1e-5])
def test_a_straight_line_is_found_where_batches_pay(measured, fixed, row):
    found, _ = measured(line(fixed, row))
    truth = line(fixed, row)
    for rows in (1, found.most_rows):
        assert found.seconds(rows) == pytest.approx(truth(rows), rel=1e-6)


def test_a_batch_pays_until_twice_as_many_rows_take_nearly_twice_as_long(measured):
    # 60 + 2n < 1.8 (60 + n) for n < 240.
    found, ran = measured(line(60e-6, 1e-6))
    assert found.most_rows == 256
    assert sorted(set(ran)) == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]


def test_what_takes_the_same_however_many_is_tried_up_to_the_largest_batch(measured):
    found, ran = measured(line(1e-5, 0.0))
    assert found.most_rows == max(ran) == LARGEST_BATCH
    assert found.row_s == pytest.approx(0)
    assert found.fixed_s == pytest.approx(1e-5)


def test_what_takes_as_long_for_each_row_is_run_row_by_row(measured):
    found, ran = measured(line(0.0, 1e-4))
    assert (found.most_rows, max(ran)) == (1, 2 * USUAL_BATCH)
    assert found.seconds(10) == pytest.approx(1e-3)


def test_what_gains_less_and_less_is_run_in_batches_of_the_usual_size(measured):
    # A convolutional network: 501, 324, 229, 202, 191, 197 us a row.
    us = {1: 501, 2: 648, 4: 915, 8: 1612, 16: 3062, 32: 6296, 64: 12_600}
    found, ran = measured(lambda rows: us[rows] / 1e6)
    assert (found.most_rows, max(ran)) == (USUAL_BATCH, 2 * USUAL_BATCH)


def test_nothing_larger_is_tried_once_a_run_was_long(measured):
    found, ran = measured(line(LONGEST_RUN_S * 1.01, 0.0))
    assert (found.most_rows, set(ran)) == (1, {1})
    found, ran = measured(line(LONGEST_RUN_S * 0.7, LONGEST_RUN_S / 10))
    assert (found.most_rows, set(ran)) == (4, {1, 2, 4})


def test_what_was_disturbed_does_not_count(measured):
    """All tries of a size but one may be disturbed."""
    calm, _ = measured(line(60e-6, 1e-6))
    for kept in range(pace.TRIES):
        disturbed = [n for n in range(pace.TRIES * 11) if n % pace.TRIES != kept]
        found, _ = measured(line(60e-6, 1e-6), disturbed=disturbed)
        assert found.most_rows == calm.most_rows
        assert found.fixed_s == pytest.approx(calm.fixed_s)
        assert found.row_s == pytest.approx(calm.row_s)


@given(st.lists(st.floats(1e-9, 0.05), min_size=11, max_size=11))
def test_no_time_is_ever_negative(times):
    by_rows = {2**doubled: seconds for doubled, seconds in enumerate(times)}
    machine = Machine(by_rows.__getitem__)
    before = pace.time
    pace.time = SimpleNamespace(perf_counter=machine.perf_counter)
    try:
        found = measure(machine.run)
    finally:
        pace.time = before
    assert found.fixed_s >= 0
    assert found.row_s >= 0
    assert found.seconds(found.most_rows) > 0
    assert found.most_rows in by_rows


def test_it_is_measured_by_a_clock_that_goes():
    found = measure(lambda rows: sum(range(1000 * rows)))
    assert found.seconds(1) > 0


def test_what_is_only_looked_at_runs_one_row_once():
    machine = Machine(lambda rows: 0.001 * rows)
    assert try_once(machine.run) == pace.UNKNOWN
    assert machine.ran == [1]
