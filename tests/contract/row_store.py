"""What every row store promises; the oracle is a dict that is looked through."""

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from attrs import evolve
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arena_core.application.deeds import Deed, Hand, What
from arena_core.application.ports import Batch, Query, Row, RowReader, RowStore
from arena_core.domain import (
    agent,
    checkpoint_import,
    credential,
    deployment,
    experiment,
    organisation,
    parity,
    project,
    sign_in,
    user,
)
from arena_core.domain.ids import OrganisationId
from arena_core.domain.values import Claim, ProjectKind, Role, Scores, Source

IDS = [UUID(int=n * 2**100) for n in range(1, 9)]
PARENTS = [UUID(int=n) for n in range(1, 4)]
ORGANISATIONS = [OrganisationId("default"), OrganisationId("acme")]
NAMES = ["balancer", "Balancer", ""]

names = st.text(
    st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=20
).filter(str.strip)
times = st.datetimes(timezones=st.just(UTC))
counts = st.integers(0, 2**53)
numbers = st.floats(allow_nan=False, allow_infinity=False)
digests = st.text("0123456789abcdef", min_size=64, max_size=64)
scores = st.builds(Scores, st.none() | numbers, st.none() | numbers)
setups = st.builds(
    experiment.Setup, algorithm=names, source=st.none() | st.builds(Source, name=names)
)
written = st.builds(
    experiment.Written,
    step=counts,
    digest=digests,
    size_bytes=counts,
    written_at=times,
)
claims = st.builds(Claim, lease_until=times)
differences = st.builds(
    parity.Difference,
    index=st.lists(counts, max_size=3).map(tuple),
    expected=numbers,
    served=st.none() | numbers,
)
parities = st.builds(
    parity.Parity, values_compared=counts, difference=st.none() | differences
)
STATES: dict[str, st.SearchStrategy[Any]] = {
    project.KIND: st.builds(project.Project, deleted=st.booleans()),
    experiment.KIND: st.builds(
        experiment.Experiment,
        setup=setups,
        status=st.sampled_from(experiment.Status),
        checkpoints=st.lists(written, max_size=3).map(tuple),
        reason=st.none() | st.text(max_size=20),
    ),
    checkpoint_import.KIND: st.builds(
        checkpoint_import.Import,
        files=st.builds(checkpoint_import.Files, digests, counts),
        order=st.builds(
            checkpoint_import.Order,
            format=names,
            step=counts,
            algorithm=st.none() | names,
            scores=scores,
        ),
        status=st.sampled_from(checkpoint_import.Status),
        reason=st.none() | st.text(max_size=20),
        digest=st.none() | digests,
        claim=st.none() | claims,
        claims=counts,
    ),
    agent.KIND: st.builds(
        agent.Agent,
        checkpoint=st.builds(agent.Frozen, step=counts, digest=digests, scores=scores),
        restorable_until=st.none() | times,
    ),
    deployment.KIND: st.builds(
        deployment.Deployment,
        digest=digests,
        status=st.sampled_from(deployment.Status),
        claim=st.none() | claims,
        attempt=counts,
        server=st.none() | st.uuids(),
        parity=st.none() | parities,
    ),
    credential.KIND: st.builds(
        credential.AccessToken,
        secret=st.builds(credential.Secret, digests, st.just("last")),
        deleted=st.booleans(),
    ),
    user.KIND: st.builds(
        user.User,
        organisations=st.lists(names, max_size=3).map(tuple),
        current=st.none() | names,
        token=st.none() | st.uuids(),
    ),
    organisation.KIND: st.builds(
        organisation.Organisation,
        members=st.lists(st.builds(organisation.Member, counts), max_size=2).map(tuple),
        invitations=st.lists(
            st.builds(
                organisation.Invitation,
                counts,
                secret=st.builds(credential.Secret, digests, st.just("last")),
                expires_at=times,
            ),
            max_size=2,
        ).map(tuple),
        numbered=counts,
    ),
    sign_in.KIND: st.builds(sign_in.SignIn, client=names, user=names, expires_at=times),
}
deeds = st.builds(Deed, st.sampled_from(What), st.builds(Hand, at=times))
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


PLAIN: dict[str, st.SearchStrategy[Any]] = {
    project.KIND: st.just(project.Project(IDS[0], "x", ProjectKind.CLASSIC, "")),
    credential.KIND: st.just(
        credential.AccessToken(
            IDS[0],
            credential.TokenKind.USER,
            "x",
            "x",
            Role.VIEWER,
            credential.Secret("0" * 64, "last"),
        )
    ),
}
"""Few kinds and one state of each, for tests that look at the columns only."""


@st.composite
def rows(draw: st.DrawFn, states: dict[str, st.SearchStrategy[Any]]) -> Row:
    kind = draw(st.sampled_from(sorted(states)))
    return Row(
        kind=kind,
        id=draw(st.sampled_from(IDS)),
        organisation=draw(st.sampled_from(ORGANISATIONS)),
        parent=draw(st.none() | st.sampled_from(PARENTS)),
        name=draw(st.sampled_from(NAMES)),
        deleted=draw(st.booleans()),
        created_by=draw(names),
        version=draw(counts),
        created_position=draw(st.integers(1, 6)),
        created_at=draw(times),
        position=draw(st.integers(0, 8) | counts),
        changed_at=draw(times),
        state=draw(states[kind]),
        refers=draw(st.frozensets(st.sampled_from(PARENTS), max_size=2)),
        deeds=draw(st.lists(deeds, max_size=2).map(tuple)),
    )


def queries() -> st.SearchStrategy[Query]:
    return st.builds(
        Query,
        kind=st.sampled_from(sorted(PLAIN)),
        organisation=st.none() | st.sampled_from(ORGANISATIONS),
        parent=st.none() | st.sampled_from(PARENTS),
        name=st.none() | st.sampled_from(NAMES),
        after=st.integers(0, 5),
        limit=st.none() | st.integers(0, 3),
        deleted=st.booleans(),
        refers=st.none() | st.sampled_from(PARENTS),
        changed_since=st.none() | st.integers(0, 6),
    )


def looked_through(rows: dict[UUID, Row], query: Query) -> list[Row]:
    """Return what `query` means, by the words of its docstrings."""
    found = []
    for row in sorted(rows.values(), key=lambda r: (r.created_position, r.id.bytes)):
        if row.kind != query.kind or row.created_position <= query.after:
            continue
        if query.organisation is not None and row.organisation != query.organisation:
            continue
        if query.parent is not None and row.parent != query.parent:
            continue
        if query.name is not None and row.name != query.name:
            continue
        if query.refers is not None and query.refers not in row.refers:
            continue
        since = query.changed_since
        if since is not None and not (row.created_position <= since < row.position):
            continue
        if row.deleted and not query.deleted:
            continue
        found.append(row)
    return found if query.limit is None else found[: query.limit]


def project_row(number: int, name: str = "cartpole", **changes: Any) -> Row:
    row_id = UUID(int=number)
    return evolve(
        Row(
            kind=project.KIND,
            id=row_id,
            organisation=ORGANISATIONS[0],
            parent=None,
            name=name,
            deleted=False,
            created_by="library",
            version=1,
            created_position=number,
            created_at=EPOCH,
            position=number,
            changed_at=EPOCH,
            state=project.Project(row_id, name, ProjectKind.CLASSIC, ""),
        ),
        **changes,
    )


PROJECTS = Query(project.KIND, None, deleted=True)


def put(store: RowStore, position: int, *put_rows: Row) -> int:
    return store.update(lambda *_: Batch(put_rows, position))


def position_of(store: RowStore) -> int:
    return store.update(lambda *_: None)


many = settings(
    deadline=None,
    max_examples=60,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.differing_executors,
        HealthCheck.too_slow,
    ],
)


class Watched(list[Row]):
    """Rows that have something looked at in between, while they are being put."""

    def __init__(self, rows: Iterable[Row], look: Callable[[], object]) -> None:
        super().__init__(rows)
        self.look = look

    def __iter__(self) -> Iterator[Row]:
        for row in super().__iter__():
            yield row
            self.look()


class RowStoreContract:
    @pytest.fixture
    def store(self) -> RowStore:
        raise NotImplementedError("the subclass makes the store")

    def test_a_new_store_is_empty_and_at_position_0(self, store):
        assert position_of(store) == 0
        assert list(store.find(PROJECTS)) == []
        assert store.get(IDS[0]) is None

    @many
    @given(
        st.lists(st.lists(rows(PLAIN), max_size=8), min_size=1, max_size=3),
        st.lists(queries(), min_size=1, max_size=20),
    )
    def test_finds_what_looking_through_all_rows_finds(self, store, batches, asked):
        model: dict[UUID, Row] = {row.id: row for row in batches[0]}
        store.replace(Batch(batches[0], 0))
        for position, batch in enumerate(batches[1:], start=1):
            put(store, position, *batch)
            model.update((row.id, row) for row in batch)
        for query in asked:
            assert list(store.find(query)) == looked_through(model, query)
        for row_id in IDS:
            assert store.get(row_id) == model.get(row_id)

    @many
    @given(rows(STATES), st.text())
    def test_a_row_comes_back_as_it_was_put(self, store, row, name):
        row = evolve(row, name=name)
        store.replace(Batch([row], 1))
        assert store.get(row.id) == row
        assert list(store.find(Query(row.kind, None, name=name, deleted=True))) == [row]

    def test_a_row_that_is_put_again_takes_the_place_of_the_old_one(self, store):
        put(store, 1, project_row(1, "old", parent=PARENTS[0]))
        moved = project_row(1, "new", version=2, parent=PARENTS[1], deleted=True)
        put(store, 2, moved)
        assert list(store.find(PROJECTS)) == [moved]
        assert list(store.find(Query(project.KIND, None, name="old"))) == []
        assert list(store.find(Query(project.KIND, None, parent=PARENTS[0]))) == []

    def test_the_last_of_several_rows_with_one_id_counts(self, store):
        put(store, 1, project_row(1, "first"), project_row(1, "last"))
        assert [row.name for row in store.find(PROJECTS)] == ["last"]

    def test_an_update_returns_and_keeps_the_position(self, store):
        assert put(store, 7, project_row(7)) == 7
        seen = []
        assert store.update(lambda position, _: seen.append(position)) == 7
        assert seen == [7]

    def test_a_step_that_returns_none_changes_nothing(self, store):
        put(store, 3, project_row(1))
        assert store.update(lambda *_: None) == 3
        assert list(store.find(PROJECTS)) == [project_row(1)]

    def test_a_step_that_raises_changes_nothing_and_is_raised(self, store):
        put(store, 3, project_row(1))

        def step(*_: Any) -> Batch | None:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            store.update(step)
        assert list(store.find(PROJECTS)) == [project_row(1)]
        assert put(store, 4, project_row(2)) == 4

    def test_a_batch_that_leads_backwards_is_refused_and_changes_nothing(self, store):
        put(store, 3, project_row(1))
        with pytest.raises(ValueError, match="before"):
            put(store, 2, project_row(2))
        assert position_of(store) == 3
        assert list(store.find(PROJECTS)) == [project_row(1)]

    def test_a_step_reads_what_earlier_updates_have_put(self, store):
        put(store, 1, project_row(1))
        seen: list[Any] = []

        def step(position: int, reader: RowReader) -> Batch | None:
            seen.extend([position, reader.get(UUID(int=1)), *reader.find(PROJECTS)])
            return None

        store.update(step)
        assert seen == [1, project_row(1), project_row(1)]

    def test_readers_do_not_wait_for_a_step_and_see_what_was_before_it(self, store):
        put(store, 1, project_row(1, "before"))

        def step(*_: Any) -> Batch | None:
            names = pool.submit(lambda: [row.name for row in store.find(PROJECTS)])
            got = pool.submit(store.get, UUID(int=2))
            assert names.result(timeout=2) == ["before"]
            assert got.result(timeout=2) is None
            return Batch([project_row(1, "after"), project_row(2, "after")], 2)

        with ThreadPoolExecutor(1) as pool:
            store.update(step)
        assert [row.name for row in store.find(PROJECTS)] == ["after", "after"]

    @pytest.mark.parametrize("how", ["update", "replace"])
    def test_readers_see_a_batch_whole_or_not_at_all(self, store, how):
        def look() -> None:
            seen.append([row.name for row in store.find(PROJECTS)])

        seen: list[list[str]] = []
        put(store, 1, project_row(1, "before"))
        after = [project_row(1, "after"), project_row(2, "after")]
        batch = Batch(Watched(after, look), 2)
        if how == "update":
            store.update(lambda *_: batch)
        else:
            store.replace(batch)
        assert seen == [["before"]] * 2
        look()
        assert seen[-1] == ["after", "after"]

    def test_updates_run_one_after_the_other(self, store):
        def count(position: int, reader: RowReader) -> Batch | None:
            before = reader.get(UUID(int=1))
            version = before.version + 1 if before else 1
            time.sleep(0.0005)
            row = project_row(1, version=version)
            return Batch([row, project_row(position + 2)], position + 1)

        def run(_: int) -> None:
            for _ in range(25):
                store.update(count)

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(run, range(4)))
        assert position_of(store) == 100
        counter = store.get(UUID(int=1))
        assert counter is not None
        assert counter.version == 100
        assert len(store.find(PROJECTS)) == 101

    def test_replace_leaves_nothing_of_what_was(self, store):
        put(store, 5, project_row(1), project_row(2))
        store.replace(Batch([project_row(3)], 3))
        assert list(store.find(PROJECTS)) == [project_row(3)]
        assert store.get(UUID(int=1)) is None
        assert position_of(store) == 3

    def test_closing_twice_is_harmless(self, store):
        store.close()
        store.close()
