"""What is asked for again under the same key is done once, whoever does it."""

from datetime import timedelta
from uuid import UUID

import pytest
from attrs import evolve

from arena_core import best
from arena_core.application import agents
from arena_core.application.attempts import Attempt, Key
from arena_core.application.handling import Change, Expected
from arena_core.application.projects import Projects
from arena_core.domain import project
from arena_core.domain.errors import (
    AlreadyCarriedOut,
    KeyReused,
    PreconditionFailed,
    Rejected,
)
from arena_core.domain.keyed_request import LIFETIME
from arena_core.domain.values import Actor, ActorKind
from unit.scenes import ANN, MANAGER, STRANGER
from unit.workers import World

import bundles

PATH = "/api/v1/projects"


def key(text="k", *, caller=ANN, asked="a cart", method="POST", path=PATH):
    return Key.of(caller, method, path, text, asked=asked)


def session_of(worker, **attempt):
    return evolve(worker.use.session, attempt=Attempt(**attempt))


def create(session, name="carts"):
    return Projects(session).create(name)


@pytest.fixture
def world():
    return World()


def test_what_is_done_and_that_it_was_are_in_one_append(world):
    worker = world.worker()
    made = create(worker.use.session.under(key()))
    recorded, created = world.store.read_all()
    assert recorded.event.method == "POST"
    assert recorded.event.path == PATH
    assert recorded.context.command_id == created.context.command_id
    assert created.stream == made.id
    assert (recorded.position, created.position) == (1, 2)


def test_the_same_request_is_answered_the_same_and_done_once(world):
    first = world.worker()
    made = create(first.use.session.under(key()))
    Projects(first.use.session).edit(made.id, name="boats")
    for worker in (first, world.worker()):
        head = world.store.head()
        again = worker.use.session.under(key())
        assert create(again) == made
        assert again.attempt.repetition is not None
        assert world.store.head() == head
    assert Projects(first.use.session).get(made.id).name == "boats"


def test_a_repetition_looks_at_the_log_as_it_was_before_and_then_after(world):
    worker = world.worker()
    create(worker.use.session)
    create(worker.use.session.under(key()))
    create(worker.use.session)
    again = worker.use.session.under(key())
    assert (again.as_of, len(Projects(again).list())) == (1, 1)
    handled = again.execute()
    assert (handled.position, handled.states, handled.versions) == (3, {}, {})
    assert (again.as_of, len(Projects(again).list())) == (3, 2)
    again.attempt.look_at_the_present()
    assert (again.as_of, len(Projects(again).list())) == (None, 3)


def test_a_first_attempt_looks_at_the_present_anyway(world):
    session = world.worker().use.session.under(key())
    session.attempt.look_at_the_present()
    assert session.as_of is None


def test_what_is_appended_right_after_it_is_no_part_of_it(world):
    worker = world.worker()
    create(worker.use.session.under(key()))
    create(worker.use.session.under(key("another")))
    again = worker.use.session.under(key())
    again.execute()
    assert again.as_of == 2


def test_the_loser_of_a_race_is_told_that_it_is_done(world):
    first, second = world.worker(), world.worker()
    fast, slow = (w.use.session.under(key()) for w in (first, second))
    made = create(fast)
    with pytest.raises(AlreadyCarriedOut):
        create(slow)
    assert slow.attempt.is_open
    assert create(second.use.session.under(key())) == made
    assert not fast.attempt.is_open


def test_the_loser_that_asked_for_something_else_is_told_that(world):
    fast = world.worker().use.session.under(key())
    slow = world.worker().use.session.under(key(asked="a boat"))
    create(fast)
    with pytest.raises(KeyReused):
        create(slow)
    assert len(world.store.read_all()) == 2


def test_something_else_under_the_key_is_refused_before_it_is_begun(world):
    worker = world.worker()
    create(worker.use.session.under(key()))
    with pytest.raises(KeyReused):
        worker.use.session.under(key(asked="a boat"))


@pytest.mark.parametrize(
    "other",
    [
        key("K"),
        key(path="/api/v1/experiments"),
        key(method="PATCH"),
        key(caller=MANAGER),
        key(caller=STRANGER),
        key(caller=evolve(ANN, actor=Actor(ActorKind.EXTERNAL, "ann"))),
    ],
    ids=["key", "path", "method", "user", "organisation", "kind of actor"],
)
def test_a_key_counts_for_one_caller_one_method_and_one_path(world, other):
    worker = world.worker()
    first = create(worker.use.session.under(key()))
    second = create(worker.use.session.under(other))
    assert first.id != second.id


def test_parts_of_a_scope_do_not_run_together():
    one = key("b", path="/a")
    other = key("", path="/ab")
    assert one.request_id != other.request_id


def test_what_is_refused_is_not_recorded_and_may_be_tried_again(world):
    worker = world.worker()
    with pytest.raises(Rejected):
        create(worker.use.session.under(key()), name=" ")
    assert world.store.head() == 0
    create(worker.use.session.under(key()))
    assert world.store.head() == 2


def test_what_changes_nothing_is_recorded_too(world):
    worker = world.worker()
    made = create(worker.use.session)
    rename = Change(project, made.id, project.RenameProject("carts"))
    worker.use.session.under(key()).execute(rename)
    assert [r.name for r in world.store.read_all()][1:] == ["request.carried_out"]
    assert worker.use.session.under(key()).attempt.repetition is not None


def test_only_the_first_of_several_appends_records_the_request(world):
    session = world.worker().use.session.under(key())
    create(session)
    create(session)
    assert world.log("request") == ["carried_out"]
    assert world.log("project") == ["created", "created"]


def test_a_key_that_is_over_makes_something_new(world):
    worker = world.worker()
    first = create(worker.use.session.under(key()))
    world.wait(LIFETIME - timedelta(microseconds=1))
    assert create(worker.use.session.under(key())).id == first.id
    world.wait(timedelta(microseconds=1))
    second = create(worker.use.session.under(key(asked="a boat")), "boats")
    assert second.id != first.id
    assert create(worker.use.session.under(key(asked="a boat")), "boats") == second


def test_everything_that_one_use_of_a_key_makes_has_an_id_of_its_own():
    ids = [next_id() for next_id in [key().ids(0)] * 3] + [key().ids(1)()]
    assert len(set(ids)) == 4
    assert [key().ids(0)() for _ in range(2)] == [ids[0]] * 2


def test_two_attempts_are_two_commands(world):
    """Else a store would take the second, whatever it is, for the first."""
    sessions = [world.worker().use.session.under(key()) for _ in range(2)]
    commands = {session._context(None).command_id for session in sessions}
    assert len(commands) == 2


def test_a_trace_is_kept_with_every_event(world):
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    worker = world.worker()
    create(session_of(worker, traceparent=trace))
    create(worker.use.session)
    traces = [r.context.traceparent for r in world.store.read_all()]
    assert traces == [trace, None]
    shown = worker.use.audit.log()
    assert [event.traceparent for event in shown] == [trace, None]


def test_what_is_expected_is_so_for_the_first_append_only(world):
    worker = world.worker()
    made = create(worker.use.session)
    expected = Expected((made.id,), frozenset({(1,)}))
    session = session_of(worker, expected=expected)
    Projects(session).edit(made.id, name="boats")
    assert session.attempt.versions == {made.id: 2}
    Projects(session).edit(made.id, name="trains")
    assert session.attempt.versions == {made.id: 3}
    with pytest.raises(PreconditionFailed):
        Projects(session_of(worker, expected=expected)).edit(made.id, name="cars")


def test_a_session_of_another_time_is_no_attempt(world):
    worker = world.worker()
    create(worker.use.session.under(key()))
    again = worker.use.session.under(key())
    assert again.at(None).as_of is None
    assert again.at(2).as_of == 2


def test_a_key_says_nothing_of_what_was_asked_but_its_digest():
    assert UUID(str(key().request_id)).version == 5
    assert "cart" not in repr(key())
    assert len(key().digest) == 64


@pytest.fixture
def agent(world, tmp_path):
    """An agent that has never been connected."""
    use = world.worker().use
    made = use.experiments.create(create(use.session).id, name="ppo", algorithm="PPO")
    folder = bundles.cartpole(tmp_path / "bundle")
    use.experiments.add_checkpoint(made.id, step=10, path=folder, fitness=1.0)
    return use.agents.create("balancer", made.id, checkpoint=best())


def test_what_is_asked_for_again_changes_nothing_of_what_is_served(
    world, agent, monkeypatch
):
    worker, told = world.worker(), []

    def connect():
        keyed = evolve(worker.use, session=worker.use.session.under(key()))
        return keyed.agents.connect(agent.id)

    first = connect()
    worker.use.agents.disconnect(agent.id)
    monkeypatch.setattr(worker.registry, "follow", told.append)
    assert connect() == first
    assert not told, "it was done before, and the log has gone on"


def test_nobody_waits_for_what_was_long_ago(world, agent, monkeypatch):
    monkeypatch.setattr(agents, "AGREEMENT_S", 0.01)
    world.agree = True
    worker = world.worker()
    head = world.store.head()
    world.worker()  # which never follows
    assert worker.use.agents.settled(agent.id) is None
    past = worker.application.on_behalf_of(ANN, as_of=head)
    assert past.agents.settled(agent.id) == agent
