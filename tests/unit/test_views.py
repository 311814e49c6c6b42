"""What is read, now or as of any position, is what the log says and nothing else."""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from attrs import define, frozen
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    rule,
    run_state_machine_as_test,
)

from arena_core import MetricPoint, best, dataset, final
from arena_core.adapters.rows.memory import MemoryRowStore
from arena_core.adapters.stores.memory import MemoryEventStore
from arena_core.application.ports import Batch, Query, Write
from arena_core.application.snapshots import Snapshot
from arena_core.application.views import DECIDERS, PAST_VIEWS, Views, advance, fold
from arena_core.domain import agent, project
from arena_core.domain.errors import (
    ArenaError,
    Corrupt,
    NotFound,
    Rejected,
    Unavailable,
    UnknownEvent,
)
from arena_core.domain.ids import DEFAULT_ORGANISATION
from arena_core.domain.values import LIBRARY, Caller, ProjectKind, Role
from unit.scenes import ANN, CARTPOLE, CONTEXT, STRANGER
from unit.workers import World

import bundles

CREATED = project.ProjectCreated(UUID(int=1), "carts", ProjectKind.CLASSIC, "")
NUMBERS = st.integers(0, 9)
OTHER = UUID(int=2)
OPERATOR = Caller(DEFAULT_ORGANISATION, LIBRARY, Role.MANAGER)
ORPHAN = agent.AgentRenamed("of no agent")
"""An event that does not fit: its stream has nothing before it."""


def everything(rows):
    """Return all rows of a reader by their ids."""
    return {
        row.id: row
        for kind in DECIDERS
        for row in rows.find(Query(kind, organisation=None, deleted=True))
    }


def shown(use):
    """Return all that a caller can read."""
    return (
        list(use.projects.list()),
        list(use.experiments.list()),
        [list(use.experiments.checkpoints(e.id)) for e in use.experiments.list()],
        [list(use.experiments.metrics(e.id)) for e in use.experiments.list()],
        list(use.agents.list()),
        list(use.agents.sources("classic")),
        list(use.agents.sources("advanced")),
        list(use.tokens.list()),
        use.audit.replay().agents,
        [e.position for e in use.audit.log()],
    )


# --- the live views, the past and a fold of the log --------------------------------


class Life(RuleBasedStateMachine):
    """Random commands of two organisations, and workers that come and go."""

    folders: tuple

    def __init__(self):
        super().__init__()
        self.world = World()
        self.worker = self.world.worker()
        self.seen = {}
        self.made = {"project": [], "experiment": [], "agent": [], "token": []}
        for caller in (ANN, STRANGER):
            self.create_project(ProjectKind.CLASSIC, caller)
            self.draft(-1, 0)
            self.write_checkpoint(-1, 1, 0, 1.0)
            self.freeze(-1, best)
        self.issue()

    def obey(self, command, *arguments, **options):
        """Carry out a command that may be refused; return what it answers."""
        try:
            return command(*arguments, **options)
        except ArenaError:
            return None
        finally:
            self.note()

    def note(self):
        """Keep what is to be seen now: the last word on a position counts."""
        rows = self.worker.core.views
        rows.catch_up()
        self.seen[self.world.store.head()] = (everything(rows.rows), self.shown())

    def shown(self, as_of=None):
        on_behalf_of = self.worker.application.on_behalf_of
        return [shown(on_behalf_of(c, as_of=as_of)) for c in (ANN, STRANGER, OPERATOR)]

    def use(self, caller=ANN):
        return self.worker.application.on_behalf_of(caller)

    def keep(self, kind, caller, made):
        if made is not None:
            self.made[kind].append((caller, made.id))

    def pick(self, kind, number):
        """Return the use cases of an owner and the id of what is owned."""
        caller, found = self.made[kind][number % len(self.made[kind])]
        return self.use(caller), found

    @rule(kind=st.sampled_from(ProjectKind), caller=st.sampled_from([ANN, STRANGER]))
    def create_project(self, kind, caller):
        made = self.obey(self.use(caller).projects.create, "carts", kind=kind)
        self.keep("project", caller, made)

    @rule(number=NUMBERS, source=st.sampled_from([0, 1]))
    def draft(self, number, source):
        use, project_id = self.pick("project", number)
        made = self.obey(
            use.experiments.create,
            project_id,
            name="ppo",
            algorithm="PPO",
            source=[CARTPOLE, dataset("weather")][source],
        )
        self.keep("experiment", use.session.caller, made)

    @rule(
        number=NUMBERS,
        step=st.sampled_from([1, 2]),
        which=st.sampled_from([0, 1, 2]),
        fitness=st.sampled_from([None, 1.0, 2.0]),
    )
    def write_checkpoint(self, number, step, which, fitness):
        use, experiment_id = self.pick("experiment", number)
        folder = self.folders[which]
        self.obey(
            use.experiments.add_checkpoint,
            experiment_id,
            step=step,
            path=folder,
            fitness=fitness,
        )

    @rule(number=NUMBERS, value=st.floats(0, 9))
    def measure(self, number, value):
        use, experiment_id = self.pick("experiment", number)
        points = [MetricPoint(1, "fitness", value)]
        self.obey(use.experiments.add_metrics, experiment_id, points)

    @rule(number=NUMBERS, step=st.sampled_from([1, 2]))
    def delete_checkpoint(self, number, step):
        use, experiment_id = self.pick("experiment", number)
        self.obey(use.experiments.delete_checkpoint, experiment_id, step)

    @rule(number=NUMBERS, choice=st.sampled_from([best, final]))
    def freeze(self, number, choice):
        use, experiment_id = self.pick("experiment", number)
        made = self.obey(use.agents.create, "a", experiment_id, checkpoint=choice())
        self.keep("agent", use.session.caller, made)

    @rule(number=NUMBERS, command=st.sampled_from(["connect", "disconnect"]))
    def switch(self, number, command):
        use, agent_id = self.pick("agent", number)
        self.obey(getattr(use.agents, command), agent_id)

    @rule(number=NUMBERS, command=st.sampled_from(["delete", "restore", "rotate_key"]))
    def order(self, number, command):
        use, agent_id = self.pick("agent", number)
        self.obey(getattr(use.agents, command), agent_id)

    @rule(number=NUMBERS, name=st.sampled_from(["b", "c", " "]))
    def rename(self, number, name):
        use, agent_id = self.pick("agent", number)
        self.obey(use.agents.edit, agent_id, name=name, description=name)

    @rule(number=NUMBERS)
    def delete_project(self, number):
        use, project_id = self.pick("project", number)
        self.obey(use.projects.delete, project_id)

    @rule()
    def issue(self):
        tokens = self.use(OPERATOR).tokens
        user = f"user {len(self.made['token'])}"
        made = self.obey(tokens.issue, name="t", user=user)
        self.keep("token", OPERATOR, made.view)

    @rule(number=NUMBERS, command=st.sampled_from(["rotate", "revoke"]))
    def replace_token(self, number, command):
        use, token_id = self.pick("token", number)
        self.obey(getattr(use.tokens, command), token_id)

    @rule(number=NUMBERS)
    def put_live(self, number):
        self.switch(number, "connect")
        self.serve()

    @rule()
    def serve(self):
        self.obey(self.worker.pass_)

    @rule(own_memory=st.booleans())
    def restart(self, own_memory):
        self.worker.die()
        if own_memory:
            self.world.rows = MemoryRowStore()
        self.worker = self.world.worker()
        self.note()

    @rule(minutes=st.integers(1, 10))
    def wait(self, minutes):
        self.world.wait(timedelta(minutes=minutes))

    def teardown(self):
        log = self.world.store.read_all(limit=10_000)
        live, _ = self.seen[len(log)]
        fresh = Views(self.world.store, MemoryRowStore())
        fresh.catch_up()
        assert everything(fresh.rows) == live
        for position in range(len(log) + 1):
            views = self.worker.core.views
            past = everything(views.at(position))
            assert past == fold(log[:position], Snapshot([]))
            assert past == everything(views.replayed(position))
            if position in self.seen:
                rows, views = self.seen[position]
                assert past == rows
                assert self.shown(as_of=position) == views


def test_live_rebuilt_and_past_agree_at_every_position(tmp_path):
    one = bundles.cartpole(tmp_path / "one")
    two = bundles.cartpole(tmp_path / "two", with_golden=False)
    wrong = bundles.cartpole(tmp_path / "wrong")
    bundles.write_weights(wrong, bundles.CARTPOLE.swapped())
    machine = type("Life", (Life,), {"folders": (one, two, wrong)})
    run_state_machine_as_test(
        machine, settings=settings(max_examples=15, stateful_step_count=30)
    )


# --- the past ----------------------------------------------------------------------


def test_the_past_cannot_be_changed(scene):
    made = scene.agent()
    past = scene.arena.at(scene.arena.application.core.store.head())
    assert past.agents.get(made.id) == made
    for command in (
        lambda: past.agents.connect(made.id),
        lambda: past.projects.create("x", kind="classic"),
        lambda: past.tokens.issue(name="t", user="tom"),
    ):
        with pytest.raises(Rejected, match="The past cannot be changed") as caught:
            command()
        assert caught.value.field == "as_of"


def test_what_came_later_is_not_there_yet(scene):
    head = scene.arena.application.core.store.head
    empty = head()
    made = scene.agent("first")
    before = head()
    scene.use.agents.edit(made.id, name="second")
    scene.use.agents.delete(made.id)
    assert scene.arena.at(before).agents.get(made.id).name == "first"
    assert scene.arena.at(before + 1).agents.get(made.id).name == "second"
    for position in (empty, head()):
        with pytest.raises(NotFound):
            scene.arena.at(position).agents.get(made.id)


@pytest.mark.parametrize("moment", [1000, -1, "soon", datetime.max.replace(tzinfo=UTC)])
def test_what_lies_ahead_or_is_no_moment_is_refused(scene, moment):
    with pytest.raises(Rejected):
        scene.arena.at(moment)


def test_a_moment_may_be_a_position_or_a_time(scene):
    made = scene.use.projects.create("carts", kind="classic")
    scene.use.projects.edit(made.id, name="boats")
    for moment in (1, "1", made.created_at, made.created_at.isoformat()):
        assert [p.name for p in scene.arena.at(moment).projects.list()] == ["carts"]


def test_a_position_that_lies_ahead_shows_what_is_and_does_not_freeze_it(scene):
    views = scene.arena.application.core.views
    assert not everything(views.at(1000))
    scene.use.projects.create("carts", kind="classic")
    assert len(everything(views.at(1000))) == 1


def test_some_views_of_the_past_are_kept_for_the_next_question(scene):
    scene.agent()
    views = scene.arena.application.core.views
    first = views.at(1)
    assert views.at(1) is first
    for position in range(PAST_VIEWS + 1):
        views.at(position % 5)
    assert views.at(1) is first
    for _ in range(PAST_VIEWS):
        scene.use.projects.create("more", kind="classic")
        views.at(views.catch_up())
    assert views.at(1) is not first
    assert everything(views.at(1)) == everything(first)


# --- events that cannot be understood ----------------------------------------------


def append(store, stream, *events, expected=0):
    write = Write(stream, expected, events)
    return store.append(
        [write],
        context=CONTEXT.__class__(
            CONTEXT.organisation, CONTEXT.actor, uuid4(), uuid4()
        ),
        occurred_at=World().now,
    )


@define
class Ill:
    """A store with one event that this release cannot read, as the port has it."""

    store: MemoryEventStore
    at: int = 0

    def __getattr__(self, name):
        return getattr(self.store, name)

    def read_all(self, *, after=0, limit=500, up_to=None):
        page = self.store.read_all(after=after, limit=limit, up_to=up_to)
        if page and page[0].position == self.at:
            raise UnknownEvent("The event project.painted has no meaning here.")
        return [r for r in page if not after < self.at <= r.position]


@pytest.fixture
def ill():
    store = Ill(MemoryEventStore())
    for number in range(1, 5):
        append(store, UUID(int=number), CREATED)
    store.at = 3
    return store


def test_an_event_that_cannot_be_read_stops_the_views_before_it(ill, caplog):
    views = Views(ill, MemoryRowStore())
    assert views.catch_up() == 2
    assert (views.halted.position, len(everything(views.rows))) == (2, 2)
    assert views.halted.reason == "The event project.painted has no meaning here."
    assert "stopped at 2" in caplog.text
    assert views.catch_up() == 2
    with pytest.raises(Unavailable, match="stopped after position 2: The event proj"):
        views.require_live()


def test_a_rebuild_mends_the_views_once_the_cause_is_gone(ill):
    views = Views(ill, MemoryRowStore())
    views.catch_up()
    with pytest.raises(UnknownEvent):
        views.rebuild()
    assert views.halted
    ill.at = 0
    assert views.rebuild() == 4
    assert views.halted is None
    views.require_live()
    assert len(everything(views.rows)) == 4
    append(ill, UUID(int=9), CREATED)
    assert views.catch_up() == 5


def test_the_past_before_an_event_that_cannot_be_read_can_still_be_seen(ill):
    views = Views(ill, MemoryRowStore())
    assert len(everything(views.at(2))) == 2
    with pytest.raises(Corrupt):
        views.at(3)


def test_an_event_that_does_not_fit_the_state_before_it_stops_the_views(scene):
    made = scene.use.projects.create("carts", kind="classic")
    core = scene.arena.application.core
    append(core.store, uuid4(), ORPHAN)
    assert list(scene.use.projects.list()) == [made]
    assert core.views.halted.reason == (
        "The event agent.renamed at position 2 does not fit the state before it."
    )


def test_while_the_views_stand_still_nothing_can_be_changed(scene):
    core = scene.arena.application.core
    append(core.store, uuid4(), ORPHAN)
    head = core.store.head()
    with pytest.raises(Unavailable, match="Nothing is changed until that is mended"):
        scene.use.projects.create("carts", kind="classic")
    assert core.store.head() == head


def test_one_stream_is_read_from_the_log_even_while_the_views_stand_still(scene):
    made = scene.use.projects.create("carts", kind="classic")
    core = scene.arena.application.core
    append(core.store, uuid4(), ORPHAN)
    core.views.catch_up()
    append(core.store, made.id, project.ProjectRenamed("boats"), expected=1)
    core.views.catch_up()
    assert core.views.rows.get(made.id).name == "carts"
    assert core.views.present(made.id).name == "boats"
    assert core.views.present(uuid4()) is None


def test_an_event_of_no_aggregate_is_not_understood():
    store = MemoryEventStore()
    append(store, UUID(int=1), CREATED)
    (recorded,) = store.read_all()

    @frozen
    class Foreign:
        name: str = "painting.hung"
        stream: UUID = OTHER

    with pytest.raises(UnknownEvent, match="No aggregate knows the event painting"):
        fold([recorded, Foreign()], Snapshot([]))
    assert advance(None, recorded).name == "carts"


# --- several processes, and a log that is older than the rows ----------------------


def test_a_process_whose_rows_another_has_brought_on_goes_on_from_there():
    store, rows = MemoryEventStore(), MemoryRowStore()
    one, other = Views(store, rows), Views(store, rows)
    for number in range(1, 4):
        append(store, UUID(int=number), CREATED)
        (one if number % 2 else other).catch_up()
    assert (one.catch_up(), other.catch_up()) == (3, 3)
    assert len(everything(rows)) == 3


def test_rows_of_a_log_that_was_longer_are_forgotten():
    rows, store = MemoryRowStore(), MemoryEventStore()
    for number in range(1, 4):
        append(store, UUID(int=number), CREATED)
    Views(store, rows).catch_up()
    restored = MemoryEventStore()
    append(restored, UUID(int=1), CREATED)
    views = Views(restored, rows)
    assert views.catch_up() == 1
    assert list(everything(rows)) == [UUID(int=1)]


def test_a_log_longer_than_a_page_is_read_to_its_end():
    store = MemoryEventStore()
    for number in range(1, 1203):
        append(store, UUID(int=number), CREATED)
    views = Views(store, MemoryRowStore())
    assert views.catch_up() == 1202
    assert len(everything(views.rows)) == 1202
    assert len(everything(views.at(777))) == 777


@given(st.lists(st.integers(0, 5), max_size=30))
def test_a_snapshot_with_rows_leaves_the_first_as_it_was(numbers):
    store = MemoryEventStore()
    for number in dict.fromkeys(numbers):
        append(store, UUID(int=number), CREATED)
    rows = [advance(None, recorded) for recorded in store.read_all()]
    first, rest = rows[: len(rows) // 2], rows[len(rows) // 2 :]
    before = Snapshot(first)
    after = before.with_rows(rest)
    assert list(everything(before).values()) == first
    assert list(everything(after).values()) == rows
    assert Batch(rows, 1).rows == rows
