"""Metrics as CSV, read back by the standard library's own reader."""

import csv
import io

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arena_core import MetricPoint
from arena_core.application.metric_tables import as_csv, names_of, table, written
from arena_core.domain.errors import Rejected
from unit.spec import assert_plain

POINTS = [
    MetricPoint(10, "fitness", 2.5),
    MetricPoint(10, "score", 1.0),
    MetricPoint(20, "score", -1e-7),
    MetricPoint(30, "fitness", 4.0),
]


def rows(text):
    return list(csv.reader(io.StringIO(text)))


def test_each_step_has_a_row_and_each_metric_a_column():
    assert as_csv(POINTS) == ("step,fitness,score\n10,2.5,1.0\n20,,-1e-07\n30,4.0,\n")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.builds(
            MetricPoint,
            step=st.integers(0, 5) | st.just(2**63 - 1),
            name=st.sampled_from(["a", "score", "\U0010ffff" * 200]),
            value=st.floats(-1, 1),
        ),
        max_size=12,
    ),
    st.lists(st.sampled_from(["a", "score"]), max_size=3),
    st.integers(0, 4) | st.just(10**30),
    st.integers(-1, 6) | st.just(2**63 - 1),
)
def test_a_table_that_is_read_in_part_is_that_of_all_points(
    scene, measured, columns, rows, after_step
):
    made = scene.experiment(scores={})
    scene.use.experiments.add_metrics(made.id, measured)
    asked = {"columns": columns, "rows": rows, "after_step": after_step}
    try:
        expected = table(scene.use.experiments.metrics(made.id), **asked)
    except Rejected:
        with pytest.raises(Rejected):
            scene.use.measurements.table(made.id, **asked)
    else:
        assert scene.use.measurements.table(made.id, **asked) == expected


def test_no_more_is_read_for_a_table_than_its_rows_may_need(scene, monkeypatch):
    made = scene.experiment(scores={})
    points = [MetricPoint(s, n, 1.0) for s in range(50) for n in ("a", "b", "c")]
    scene.use.experiments.add_metrics(made.id, points)
    store, read = scene.arena.application.core.metrics, []
    whole = store.points
    monkeypatch.setattr(
        store, "points", lambda *a, **k: read.append(whole(*a, **k)) or read[-1]
    )
    shown = scene.use.measurements.table(made.id, columns=["a", "b"], rows=4)
    assert (len(shown.rows), shown.next_after_step) == (4, 3)
    assert [len(each) for each in read] == [10]


def test_only_the_columns_that_are_asked_for_come_in_that_order():
    asked = as_csv(POINTS, columns=["score", "fitness", "score"])
    assert rows(asked)[:2] == [["step", "score", "fitness"], ["10", "1.0", "2.5"]]


def test_a_step_at_which_nothing_of_that_was_measured_has_no_row():
    assert rows(as_csv(POINTS, columns=["score"])) == [
        ["step", "score"],
        ["10", "1.0"],
        ["20", "-1e-07"],
    ]


def test_no_more_rows_come_than_are_asked_for():
    assert [row[0] for row in rows(as_csv(POINTS, rows=2))] == ["step", "10", "20"]
    assert as_csv(POINTS, rows=0) == "step,fitness,score\n"


def test_no_more_rows_come_than_anybody_may_have(monkeypatch):
    monkeypatch.setattr("arena_core.application.metric_tables.MOST_ROWS", 2)
    assert len(rows(as_csv(POINTS, rows=10**9))) == 3


def test_a_table_says_where_the_rest_of_it_begins():
    first = table(POINTS, rows=2)
    assert first.columns == ["step", "fitness", "score"]
    assert first.rows == [[10, 2.5, 1.0], [20, None, -1e-7]]
    assert first.next_after_step == 20
    rest = table(POINTS, rows=2, after_step=first.next_after_step)
    assert (rest.rows, rest.next_after_step) == ([[30, 4.0, None]], None)
    assert table(POINTS, rows=3).next_after_step is None


@given(
    st.lists(
        st.builds(
            MetricPoint,
            step=st.integers(0, 9),
            name=st.sampled_from("abc"),
            value=st.floats(-9, 9),
        ),
        unique_by=lambda point: (point.step, point.name),
    ),
    st.integers(1, 4),
)
def test_the_parts_of_a_table_are_the_whole(points, size):
    points = sorted(points, key=lambda point: (point.step, point.name))
    whole, found, after = table(points), [], -1
    while after is not None:
        part = table(points, rows=size, after_step=after)
        assert part.columns == whole.columns
        found += part.rows
        after = part.next_after_step
    assert found == whole.rows
    assert written(whole) == as_csv(points)


def test_nothing_measured_is_a_table_without_rows():
    assert as_csv([]) == "step\n"
    assert names_of([]) == []


def test_the_names_come_sorted_and_each_once():
    assert names_of(POINTS) == ["fitness", "score"]


def test_an_unknown_metric_is_refused_with_those_that_there_are():
    with pytest.raises(Rejected, match=r"called loss; there are: fitness, score\.$"):
        as_csv(POINTS, columns=["score", "loss"])
    with pytest.raises(Rejected, match=r"there are: none\.$") as caught:
        as_csv([], columns=["[loss]"])
    assert caught.value.field == "metric"
    assert_plain(caught.value)


def test_no_name_is_a_formula_where_the_table_is_opened():
    """Spreadsheets carry out what begins like one, also below a heading."""
    names = ["=cmd|' /C calc'!A0", "+x", "-x", "@x", "a=b"]
    table = as_csv([MetricPoint(1, "-x", -1.0), MetricPoint(1, "a=b", 2.0)])
    assert rows(table) == [["step", "'-x", "a=b"], ["1", "-1.0", "2.0"]]
    points = [MetricPoint(1, name, 1.0) for name in names]
    heading, _ = rows(as_csv(points, columns=names))
    assert heading[1:] == [*(f"'{name}" for name in names[:4]), "a=b"]


NAMES = st.text(
    st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8
).filter(lambda name: name[0] not in "=+-@")
FLOATS = st.floats(allow_nan=False, allow_infinity=False)


@given(st.dictionaries(st.tuples(st.integers(0, 50), NAMES), FLOATS, max_size=12))
def test_whatever_is_measured_is_read_back_as_it_was(values):
    points = [
        MetricPoint(step, name, values[step, name]) for step, name in sorted(values)
    ]
    header, *body = rows(as_csv(points))
    read = {
        (int(step), name): float(cell)
        for step, *cells in body
        for name, cell in zip(header[1:], cells, strict=True)
        if cell
    }
    assert read == values
