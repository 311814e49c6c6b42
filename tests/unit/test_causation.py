"""What goes live says because of what: cause by cause, back to what somebody did."""

import pytest

from arena_core.adapters.trainers.memory import MemoryTrainer
from arena_core.application.pipeline_runner import PipelineRunner
from arena_core.domain.errors import Unavailable
from unit.pipelines_at_work import Works
from unit.workers import World

import bundles

OF_THE_SUPERVISOR = ("connect_claimed", "parity_checked", "connected")


def train(run):
    """Write one checkpoint, and end."""
    yield
    run.log(10, fitness=1.0)
    run.checkpoint(10, bundles.cartpole(run.folder / "made"))


@pytest.fixture
def works(tmp_path):
    works = Works(tmp_path, World(trainer=MemoryTrainer({"command": train})))
    yield works
    works.close()


def put_live(works):
    """Trigger a pipeline and have it train: an agent is to be connected then."""
    works.train()
    works.deploy()
    works.trigger()
    for _ in range(5):
        works.worker.trainings.reconcile()
        works.go_on()
    assert works.statuses() == ["Succeeded", "Running"]


def of_the_supervisor(works):
    return [works.last(f"deployment.{name}") for name in OF_THE_SUPERVISOR]


def causes(works, recorded):
    """Return the event and all that led to it, the latest first."""
    known = {event.event_id: event for event in works.events()}
    chain = [recorded]
    while (cause := chain[-1].context.causation_id) is not None:
        chain.append(known[cause])
    return chain


def assert_led_to_by_the_trigger(works):
    asked = next(e for e in works.events() if e.name == "stage.triggered")
    assert asked.context.actor == works.use.session.caller.actor
    for recorded in of_the_supervisor(works):
        chain = causes(works, recorded)
        assert chain[-1] == asked, recorded.name
        assert {e.context.correlation_id for e in chain} == {asked.context.command_id}
        assert str(recorded.context.actor) == "system:supervisor"


def test_what_goes_live_is_caused_by_whoever_has_triggered_the_pipeline(works):
    put_live(works)
    works.connect()
    assert works.statuses() == ["Succeeded", "Succeeded"]
    assert_led_to_by_the_trigger(works)


def first_causes(works):
    """Return the first cause of each event of the agent, that of its end at last."""
    audit = works.use.audit
    events = audit.timeline(works.run(works.view().stages[-1].position).agent_id)
    return [audit.first_causes(events)[event.event_id] for event in events]


def test_the_audit_tells_whose_command_began_what_went_live(works):
    put_live(works)
    works.connect()
    asked = next(e for e in works.events() if e.name == "stage.triggered")
    assert {cause.position for cause in first_causes(works)} == {asked.position}


def test_who_approves_and_what_happens_beside_it_is_no_first_cause(works):
    bound = works.train()
    works.deploy(approval=True)
    works.use.pipelines.trigger(
        works.pipeline, works.stage(1).id, reason="the data is new"
    )
    works.go_on()
    for _ in range(5):
        works.worker.trainings.reconcile()
    works.use.experiments.edit(bound, name="renamed meanwhile")
    works.go_on()
    works.use.pipelines.approve(works.pipeline, works.stage(2).id)
    works.go_on()
    works.connect()
    assert works.statuses() == ["Succeeded", "Succeeded"]
    assert {cause.reason for cause in first_causes(works)} == {"the data is new"}


def test_what_another_process_puts_live_is_caused_by_the_same(works):
    put_live(works)
    works.world.presence.withdraw(works.worker.id)
    works.worker = works.world.worker()
    works.runner = PipelineRunner(works.worker.core)
    works.connect()
    assert works.statuses() == ["Succeeded", "Succeeded"]
    assert_led_to_by_the_trigger(works)


def test_what_is_live_again_after_a_restart_is_caused_by_the_same(works):
    put_live(works)
    works.connect()
    works.world.presence.withdraw(works.worker.id)
    works.worker = works.world.worker()
    works.connect()
    names = works.log("deployment")
    assert names.count("deployment.connected") == 2
    assert names.count("deployment.connection_lost") == 1
    assert_led_to_by_the_trigger(works)


def test_what_fails_to_go_live_is_caused_by_the_same(works):
    put_live(works)

    def refuse():
        raise Unavailable("no memory")

    works.worker.loader.before = refuse
    works.connect()
    failed = works.last("deployment.connect_failed")
    assert causes(works, failed)[-1].name == "stage.triggered"
