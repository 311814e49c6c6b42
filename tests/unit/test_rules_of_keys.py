"""Rules 48 to 50: a deployment's key opens its data plane, and nothing else."""

from base64 import b64encode
from io import BytesIO
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from arena_core.application.identity import authenticate
from arena_core.application.keys import DeploymentKeys
from arena_core.application.npy import to_base64
from arena_core.application.secrets import LONGEST, base62, is_intact, sealed
from arena_core.domain.errors import Unauthenticated
from arena_core.domain.ids import DeploymentId
from unit.scenes import ANN, key_of

import bundles

ID = DeploymentId(UUID(int=5))
KEYS = DeploymentKeys(b"master")


@pytest.fixture
def client(scene):
    with TestClient(scene.arena.asgi()) as client:
        yield client


def call(client, agent, key):
    """Return the status of a call of the agent's data plane with `key`."""
    return client.post(
        f"/inference/{key_of(agent)}/get_action",
        json={"obs": to_base64(bundles.observations(1, 4))},
        headers={"Authorization": f"Bearer {key}"},
    ).status_code


def test_rule_48_a_key_opens_the_data_plane_of_its_own_deployment_only(scene, client):
    first, second = scene.live(scene.agent()), scene.live(scene.agent())
    key = scene.use.agents.access(first.id).api_key
    assert call(client, first, key) == 200
    assert call(client, second, key) == 403


def test_rule_48_no_token_is_needed_with_a_key_and_a_key_is_no_token(scene, client):
    live = scene.live(scene.agent())
    assert not list(scene.arena.tokens.list())
    key = scene.use.agents.access(live.id).api_key
    assert call(client, live, key) == 200
    with pytest.raises(Unauthenticated):
        authenticate(scene.arena.application.core, key)
    bearer = {"Authorization": f"Bearer {key}"}
    assert client.get("/api/v1/agents", headers=bearer).status_code == 401


def test_rule_48_another_master_secret_another_deployment_another_key():
    keys = [
        KEYS.issue(ID, 1),
        KEYS.issue(ID, 2),
        KEYS.issue(DeploymentId(UUID(int=6)), 1),
        DeploymentKeys(b"other").issue(ID, 1),
    ]
    secrets = {key.rpartition("_")[2][:-6] for key in keys}
    assert len(secrets) == len(keys), "the checksum aside"
    assert KEYS.issue(ID, 1) == keys[0]
    assert all(is_intact(key) and key.startswith("arena_dep_") for key in keys)


def test_rule_49_the_old_key_is_dead_when_rotate_returns(scene, client):
    live = scene.live(scene.agent())
    old = scene.use.agents.access(live.id).api_key

    rotated = scene.use.agents.rotate_key(live.id, reason="it leaked")

    new = scene.use.agents.access(live.id).api_key
    assert rotated.deployment.connected
    assert rotated.deployment.key_version == 2
    assert (call(client, live, old), call(client, live, new)) == (401, 200)
    assert scene.use.audit.timeline(live.id)[-1].reason == "it leaked"


def test_rule_49_a_key_that_is_rotated_while_off_is_dead_when_it_is_on(scene, client):
    live = scene.live(scene.agent())
    old = scene.use.agents.access(live.id).api_key
    scene.use.agents.disconnect(live.id)
    scene.use.agents.rotate_key(live.id)
    scene.live(live)
    assert call(client, live, old) == 401


def test_rule_50_a_url_a_bearer_and_json_are_all_that_a_client_needs(scene, client):
    live = scene.live(scene.agent())
    key = scene.use.agents.access(live.id).api_key
    observations = bundles.observations(3, 4)
    file = BytesIO()
    np.save(file, observations)

    answer = client.request(
        "POST",
        f"/inference/{key_of(live)}/get_action",
        content=b'{"obs": "%s"}' % b64encode(file.getvalue()),
        headers={"Authorization": f"Bearer {key}"},
    )

    assert answer.status_code == 200
    acted = scene.arena.inference(live.id).get_action(observations, batched=True)
    assert answer.json() == {"action": to_base64(acted)}
    assert acted.tolist() == bundles.CARTPOLE(observations).argmax(axis=1).tolist()


# --- access tokens ---------------------------------------------------------------


def test_rule_86_a_token_is_shown_once_and_then_by_its_last_four(scene):
    issued = scene.arena.tokens.issue(name=" laptop ", user="tom", role="viewer")
    assert issued.token.startswith("arena_pat_")
    (listed,) = scene.arena.tokens.list()
    assert listed == issued.view
    assert (listed.name, listed.last_four) == ("laptop", issued.token[-4:])
    stored = str(scene.arena.application.core.store.read_all())
    secret = issued.token.rpartition("_")[2]
    assert secret not in stored
    assert secret not in str(listed)


def test_rule_86_the_old_token_is_dead_when_rotate_returns(scene):
    core, tokens = scene.arena.application.core, scene.arena.tokens
    old = tokens.issue(name="laptop", user="tom")
    new = tokens.rotate(old.view.id)
    with pytest.raises(Unauthenticated):
        authenticate(core, old.token)
    caller = authenticate(core, new.token)
    assert (caller.actor.name, caller.actor.token_id) == ("tom", old.view.id)
    assert caller.role is ANN.role


def test_rule_86_a_revoked_token_is_dead_when_revoke_returns(scene):
    core, tokens = scene.arena.application.core, scene.arena.tokens
    issued = tokens.issue(name="laptop", user="tom")
    tokens.revoke(issued.view.id, reason="he left")
    tokens.revoke(issued.view.id)
    assert not list(tokens.list())
    with pytest.raises(Unauthenticated):
        authenticate(core, issued.token)
    assert scene.log().count("credential.access_token_revoked") == 1


def test_a_token_of_an_organisation_speaks_for_the_user_who_is_named(scene):
    core = scene.arena.application.core
    tokens = scene.arena.tokens
    shared = tokens.issue(name="gateway", user="gateway", kind="org").token
    own = tokens.issue(name="laptop", user="tom").token
    assert shared.startswith("arena_org_")
    assert authenticate(core, shared).actor.name == "gateway"
    assert authenticate(core, shared, external_user="zoe").actor.name == "zoe"
    assert authenticate(core, own, external_user="zoe").actor.name == "tom"


def test_what_was_never_issued_is_refused_in_the_same_words(scene):
    core = scene.arena.application.core
    issued = scene.arena.tokens.issue(name="laptop", user="tom")
    agent, secret = scene.agent(), b"s" * 32
    made_up = [
        "",
        "hunter2",
        issued.token[:-1] + ("0" if issued.token[-1] != "0" else "1"),
        sealed(f"arena_pat_{issued.view.id.hex}", secret),
        sealed(f"arena_pat_{agent.id.hex}", secret),
        sealed(f"arena_pat_{ID.hex}", secret),
        sealed("arena_pat_nobody", secret),
        sealed("arena", secret),
    ]
    said = set()
    for token in made_up:
        with pytest.raises(Unauthenticated) as caught:
            authenticate(core, token)
        said.add(str(caught.value))
    assert len(said) == 1
    assert authenticate(core, issued.token)


@given(st.binary(min_size=32, max_size=32), st.integers(0, 10**9))
def test_a_sealed_secret_is_intact_and_as_long_as_any_other(secret, version):
    text = sealed(f"arena_dep_{ID.hex}_{version}", secret)
    assert is_intact(text)
    assert len(text.rpartition("_")[2]) == 49
    assert len(text) <= LONGEST


@given(st.binary(min_size=32, max_size=32), st.data())
def test_one_wrong_character_is_noticed(secret, data):
    text = sealed("arena_pat_x", secret)
    at = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.characters(max_codepoint=0x2FF).filter(text[at].__ne__))
    assert not is_intact(text[:at] + other + text[at + 1 :])


@given(st.integers(0, 2**256 - 1))
def test_base62_has_a_number_for_each_text(number):
    digits = base62(number, 43)
    alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    value = 0
    for digit in digits:
        value = value * 62 + alphabet.index(digit)
    assert value == number
