"""The past by what has changed since, against the past by all that has happened."""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import UUID

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from arena_core.adapters.rows.memory import MemoryRowStore
from arena_core.adapters.rows.sqlite import SQLiteRowStore
from arena_core.application.past import Past
from arena_core.application.ports import Batch, Query, Row, RowReader, RowStore
from arena_core.application.snapshots import Snapshot
from arena_core.domain import project
from arena_core.domain.ids import OrganisationId
from arena_core.domain.values import ProjectKind

IDS = [UUID(int=number * 2**100) for number in range(1, 7)]
PARENTS = [UUID(int=number) for number in (1, 2)]
OURS, THEIRS = OrganisationId("ours"), OrganisationId("theirs")
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)

History = list[Row]
"""What each position has left of the row that changed there."""


@st.composite
def histories(draw: st.DrawFn) -> History:
    rows: dict[UUID, Row] = {}
    history = []
    for position in range(1, draw(st.integers(1, 14)) + 1):
        row_id = draw(st.sampled_from(IDS))
        name = draw(st.sampled_from("ab"))
        before = rows.get(row_id)
        rows[row_id] = Row(
            kind=project.KIND,
            id=row_id,
            organisation=OURS if row_id in IDS[:4] else THEIRS,
            parent=draw(st.none() | st.sampled_from(PARENTS)),
            name=name,
            deleted=draw(st.booleans()),
            created_by="library",
            version=1 if before is None else before.version + 1,
            created_position=position if before is None else before.created_position,
            created_at=EPOCH,
            position=position,
            changed_at=EPOCH,
            state=project.Project(row_id, name, ProjectKind.CLASSIC, ""),
            refers=draw(st.frozensets(st.sampled_from(PARENTS), max_size=1)),
        )
        history.append(rows[row_id])
    return history


queries = st.builds(
    Query,
    kind=st.just(project.KIND),
    organisation=st.none() | st.sampled_from([OURS, THEIRS]),
    parent=st.none() | st.sampled_from(PARENTS),
    name=st.none() | st.sampled_from("ab"),
    after=st.integers(0, 5),
    limit=st.none() | st.integers(0, 3),
    deleted=st.booleans(),
    refers=st.none() | st.sampled_from(PARENTS),
)


def then(history: History, position: int) -> Snapshot:
    """Return the rows of a position, by going through all that has happened."""
    return Snapshot({row.id: row for row in history[:position]})


def folder(history: History) -> Callable[[UUID, int], Row | None]:
    return lambda row_id, position: then(history, position).get(row_id)


STORES: dict[str, Callable[[Path], RowStore]] = {
    "memory": lambda _: MemoryRowStore(),
    "sqlite": lambda folder: SQLiteRowStore.open(folder / "rows.db"),
}


@pytest.mark.parametrize("opened", STORES.values(), ids=STORES)
@given(history=histories(), asked=st.lists(queries, min_size=1, max_size=6))
def test_every_question_to_every_position_has_the_answer_of_then(
    opened, history, asked
):
    with TemporaryDirectory() as scratch:
        present = opened(Path(scratch))
        present.replace(Batch(history, len(history)))
        for position in range(len(history) + 1):
            past, model = (
                Past(position, present, folder(history)),
                then(history, position),
            )
            for query in asked:
                assert past.find(query) == model.find(query)
            assert [past.get(each) for each in IDS] == [model.get(each) for each in IDS]
        present.close()


class Moving:
    """A reader of a log that goes on each time that somebody looks."""

    def __init__(self, history: History, position: int, pace: Iterator[int]) -> None:
        self._history, self._position, self._pace = history, position, pace

    def find(self, query: Query) -> Sequence[Row]:
        self._position += next(self._pace, 0)
        return then(self._history, self._position).find(query)

    def get(self, row_id: UUID) -> Row | None:
        return then(self._history, self._position).get(row_id)


@given(st.data(), histories(), queries)
def test_what_changes_while_somebody_looks_is_not_missed(data, history, query):
    position = data.draw(st.integers(0, len(history)))
    pace = data.draw(st.lists(st.integers(0, 3), max_size=8))
    present = Moving(history, position, iter(pace))
    past = Past(position, present, folder(history))
    assert past.find(query) == then(history, position).find(query)


def row(number: int, position: int, name: str = "a", *, created: int = 0) -> Row:
    return Row(
        kind=project.KIND,
        id=IDS[number],
        organisation=OURS,
        parent=None,
        name=name,
        deleted=False,
        created_by="library",
        version=2 if created else 1,
        created_position=created or position,
        created_at=EPOCH,
        position=position,
        changed_at=EPOCH,
        state=None,
    )


def test_what_has_changed_since_takes_nothing_of_the_limit():
    history = [row(0, 1, "b"), row(1, 2), row(0, 3, created=1)]
    past = Past(2, then(history, 3), folder(history))
    assert past.find(Query(project.KIND, OURS, name="a", limit=1)) == [history[1]]


def test_what_is_deleted_between_two_looks_is_still_what_it_was():
    gone = evolve(row(0, 2, created=1), deleted=True)
    history = [row(0, 1), gone]
    deleted_at_the_second_look = Moving(history, 1, iter([0, 1]))
    past = Past(1, deleted_at_the_second_look, folder(history))
    assert past.find(Query(project.KIND, OURS)) == [history[0]]


def test_only_the_streams_that_have_changed_since_are_read():
    first, second, later = row(0, 1), row(1, 2), row(2, 3)
    present: RowReader = Snapshot([first, later, row(1, 4, "b", created=2)])
    read: list[Any] = []

    def fold(row_id: UUID, position: int) -> Row:
        read.append((row_id, position))
        return second

    past = Past(2, present, fold)
    for _ in range(2):
        assert past.find(Query(project.KIND, OURS)) == [first, second]
        assert past.get(IDS[1]) == second
        assert past.get(IDS[2]) is None
    assert read == [(IDS[1], 2)]
