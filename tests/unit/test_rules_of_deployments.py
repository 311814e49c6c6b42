"""Rules 38 to 47 and 51: an agent is put live, taken back, deleted and restored."""

import pytest
from starlette.testclient import TestClient

from arena_core import dataset
from arena_core.application.handling import Change
from arena_core.application.npy import to_base64
from arena_core.domain import deployment
from arena_core.domain.deployment import MemoryScope, Status
from arena_core.domain.errors import Conflict, NotFound, Unavailable
from arena_core.domain.ids import AgentId, deployment_of
from arena_core.domain.parity import Verdict
from unit.scenes import CONTEXT, key_of

import bundles
import shapes

OBSERVATION = [0.0, 0.0, 0.0, 0.0]


@pytest.fixture
def broken(scene):
    """A bundle that can be stored, but answers otherwise than in training."""
    folder = scene.bundle()
    bundles.write_weights(folder, bundles.CARTPOLE.swapped())
    return folder


def in_status(scene, status, agent, broken_agent):
    """Bring one of two agents into `status` and return it."""
    match status:
        case Status.UNDEPLOYED:
            return agent
        case Status.PENDING:
            return scene.use.agents.connect(agent.id)
        case Status.DEPLOYED:
            return scene.live(agent)
        case Status.FAILED:
            return scene.live(broken_agent)


def test_rule_38_connect_on_classic_turns_on_the_row_that_is_there(scene):
    made = scene.agent()
    live = scene.live(made)
    assert live.deployment.id == made.deployment.id
    assert live.deployment.status is Status.DEPLOYED
    assert live.deployment.connected
    assert scene.log().count("deployment.created") == 1


def test_rule_38_the_first_connect_on_advanced_creates_the_deployment(scene):
    saved = scene.saved_model()
    asked = scene.use.agents.connect(saved.id)
    assert asked.deployment.id == deployment_of(AgentId(saved.id))
    assert asked.deployment.memory_scope is MemoryScope.USER
    assert scene.live(saved).deployment.status is Status.DEPLOYED


def test_rule_38_a_later_connect_on_advanced_enables_the_same_deployment(scene):
    saved = scene.saved_model()
    first = scene.live(saved).deployment.id
    assert not scene.use.agents.disconnect(saved.id).deployment.connected
    assert scene.live(saved).deployment.id == first
    assert scene.log().count("deployment.created") == 1


def test_rule_39_connecting_or_disconnecting_again_records_nothing(scene):
    made = scene.agent()
    scene.use.agents.disconnect(made.id)
    scene.use.agents.connect(made.id)
    scene.use.agents.connect(made.id)
    live = scene.live(made)
    assert scene.use.agents.connect(made.id) == live
    assert scene.log().count("deployment.connect_requested") == 1
    assert "deployment.disconnected" not in scene.log()


def test_rule_40_disconnect_keeps_the_agent_and_its_choice(scene):
    live = scene.live(scene.agent())
    off = scene.use.agents.disconnect(live.id)
    assert off.deployment.status is Status.UNDEPLOYED
    assert (off.id, off.name, off.checkpoint) == (live.id, live.name, live.checkpoint)


@pytest.mark.parametrize("kind", ["classic", "advanced"])
def test_rule_41_a_deleted_agent_is_gone_with_its_deployment(scene, kind):
    made = scene.agent() if kind == "classic" else scene.saved_model()
    scene.live(made)
    assert scene.registry.live(key_of(made))

    scene.use.agents.delete(made.id, reason="not needed")

    assert scene.registry.live(key_of(made)) is None
    assert not list(scene.use.agents.list())
    for call in ("get", "connect", "disconnect", "rotate_key", "access", "delete"):
        with pytest.raises(NotFound, match="no such agent"):
            getattr(scene.use.agents, call)(made.id)
    with TestClient(scene.arena.asgi()) as client:
        assert client.get(f"/inference/{key_of(made)}/status").status_code == 404
    last = scene.use.audit.timeline(made.id)[-2:]
    assert [e.name for e in last] == ["agent.deleted", "deployment.deleted"]
    assert {e.reason for e in last} == {"not needed"}


def test_rule_41_a_saved_model_without_a_deployment_can_be_deleted_and_restored(scene):
    saved = scene.saved_model()
    scene.use.agents.delete(saved.id)
    assert scene.use.agents.restore(saved.id) == saved
    assert not [name for name in scene.log() if name.startswith("deployment.")]


def test_rule_41_a_restored_agent_is_undeployed_and_connects_at_its_old_address(scene):
    live = scene.live(scene.agent())
    scene.use.agents.rotate_key(live.id)
    key = scene.use.agents.access(live.id).api_key
    scene.use.agents.delete(live.id)

    back = scene.use.agents.restore(live.id, reason="a mistake")

    assert back.deployment.status is Status.UNDEPLOYED
    assert back.checkpoint == live.checkpoint
    assert [a.id for a in scene.use.agents.list()] == [live.id]
    assert scene.live(back).deployment.id == live.deployment.id
    assert scene.use.agents.access(live.id).api_key == key


def test_rule_41_restoring_what_is_there_changes_nothing(scene):
    live = scene.live(scene.agent())
    assert scene.use.agents.restore(live.id) == live
    assert scene.registry.live(key_of(live))


def test_rule_42_connect_answers_at_once_and_waiting_ends_when_it_is_live(scene):
    made = scene.agent()
    asked = scene.use.agents.connect(made.id)
    assert asked.deployment.status is Status.PENDING
    assert scene.use.agents.wait(made.id, timeout_s=0.01) == asked
    with pytest.raises(Unavailable, match="The agent is Pending"):
        scene.arena.inference(made.id, timeout_s=0.0)
    scene.arena.supervisor.start()
    live = scene.use.agents.wait(made.id, timeout_s=60)
    assert live.deployment.status is Status.DEPLOYED


def test_rule_43_a_failed_row_says_why(scene, broken):
    failed = scene.live(scene.agent(bundle=broken))
    assert failed.deployment.status is Status.FAILED
    assert failed.deployment.reason.startswith("Parity failed: ")
    assert not failed.deployment.connected
    with pytest.raises(Unavailable, match=r"The agent is Failed.*Parity failed: "):
        scene.arena.inference(failed.id, timeout_s=0)


def test_rule_43_a_failed_parity_says_where(scene, broken):
    failed = scene.live(scene.agent(bundle=broken)).deployment
    assert failed.reason.startswith(
        "Parity failed: outputs/logits of case0/step0 at index (0, 0) is "
    )
    assert failed.parity.verdict is Verdict.FAILED


@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize("kind", ["classic", "advanced"])
def test_rule_44_there_is_no_key_to_show_unless_it_is_deployed(
    scene, broken, kind, status
):
    make = scene.agent if kind == "classic" else scene.saved_model
    found = in_status(scene, status, make(), make("other", bundle=broken))
    if found.deployment is None:
        with pytest.raises(NotFound):
            scene.use.agents.access(found.id)
        return
    assert found.deployment.status is status
    assert found.deployment.url is None
    if status is Status.DEPLOYED:
        assert scene.use.agents.access(found.id).api_key
        return
    with pytest.raises(Conflict, match=f"The agent is {status.value}: .*[.] \\w"):
        scene.use.agents.access(found.id)


@pytest.mark.parametrize("kind", ["classic", "advanced"])
def test_rule_45_details_are_there_as_long_as_it_is_deployed(scene, kind):
    made = scene.agent() if kind == "classic" else scene.saved_model()
    details = [_has_details(scene, scene.live(made))]
    details += [_has_details(scene, scene.use.agents.disconnect(made.id))]
    details += [_has_details(scene, scene.use.agents.connect(made.id))]
    details += [_has_details(scene, scene.live(made))]
    assert details == [True, False, False, True]


def _has_details(scene, agent):
    try:
        return bool(scene.use.agents.access(agent.id).api_key)
    except Conflict:
        return False


@pytest.mark.parametrize("call", ["access", "disconnect", "rotate_key"])
def test_rule_46_a_saved_model_without_a_deployment_is_told_so(scene, call):
    saved = scene.saved_model()
    with pytest.raises(NotFound) as caught:
        getattr(scene.use.agents, call)(saved.id)
    assert str(caught.value) == "No deployment found for this agent"


@pytest.mark.parametrize(
    ("algorithm", "bundle", "shape"),
    [
        ("PPO", bundles.cartpole, (False, False, False, False)),
        ("Recurrent PPO", shapes.recurrent_policy, (True, False, False, False)),
        ("MADDPG", shapes.multi_agent_policy, (False, True, False, False)),
        ("Supervised", bundles.regressor, (False, False, True, False)),
        ("LatentPPO", shapes.latent_policy, (False, False, True, False)),
    ],
)
def test_rule_47_details_give_the_key_the_algorithm_and_its_shape(
    scene, algorithm, bundle, shape
):
    said = {"algorithm": algorithm, "bundle": scene.bundle(bundle)}
    live = scene.live(scene.agent(source=dataset("weather"), **said))
    access = scene.use.agents.access(live.id)
    found = access.shape
    assert (found.recurrent, found.multi_agent, found.supervised, found.llm) == shape
    assert access.algorithm == algorithm
    assert access.api_key.startswith("arena_dep_")


def test_rule_47_the_endpoint_is_where_the_data_plane_answers(scene):
    live = scene.live(scene.agent())
    token = scene.arena.tokens.issue(name="t", user="ann").token
    with TestClient(scene.arena.asgi()) as client:
        bearer = {"Authorization": f"Bearer {token}"}
        path = f"/api/v1/agents/{live.id}/access"
        access = client.get(path, headers=bearer).json()
        status = client.get(access["endpoint"] + "/status").json()
    assert status["deployment_id"] == str(live.deployment.id)
    assert access["api_key"] == scene.use.agents.access(live.id).api_key


def test_rule_51_calls_fail_once_it_is_not_deployed_until_it_is_again(scene):
    made = scene.agent()
    with pytest.raises(Unavailable, match="The agent is Undeployed"):
        scene.arena.inference(made.id, timeout_s=0)
    scene.live(made)
    inference = scene.arena.inference(made.id)
    assert inference.get_action(OBSERVATION) in (0, 1)

    scene.use.agents.disconnect(made.id)

    with pytest.raises(Unavailable, match="not live"):
        inference.get_action(OBSERVATION)
    scene.live(made)
    assert inference.get_action(OBSERVATION) in (0, 1)


def test_rule_51_a_saved_model_that_was_never_connected_does_not_answer(scene):
    with pytest.raises(Unavailable, match="The agent is Undeployed"):
        scene.arena.inference(scene.saved_model().id, timeout_s=0)


def test_rule_51_over_http_a_call_that_finds_nothing_says_so(scene):
    live = scene.live(scene.agent())
    key = scene.use.agents.access(live.id).api_key
    call = {
        "url": f"/inference/{live.deployment.id}/get_action",
        "json": {"obs": to_base64(bundles.observations(1, 4))},
        "headers": {"Authorization": f"Bearer {key}"},
    }
    with TestClient(scene.arena.asgi()) as client:
        assert client.post(**call).status_code == 200
        lose = deployment.LoseConnection(scene.arena.supervisor.worker, "unplugged")
        _record(scene, live, lose)
        assert client.post(**call).status_code == 503
        scene.pass_()
        assert client.post(**call).status_code == 200
        scene.use.agents.disconnect(live.id)
        assert client.post(**call).status_code == 404


def _record(scene, agent, command):
    core = scene.arena.application.core
    core.handler.handle(CONTEXT, Change(deployment, agent.deployment.id, command))
    core.views.catch_up()
    scene.registry.follow(core.views.rows.get(agent.deployment.id))
