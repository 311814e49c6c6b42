"""What the converter of Stable-Baselines3 does not take, and that it runs nothing."""

import pickle
import zipfile
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from arena_core.adapters.converters.sb3 import convert
from arena_core.application.conversion import MODEL_FILE, Options
from arena_core.domain.errors import Rejected

from sb3_files import (
    CHECKPOINTS,
    convert_in,
    edited,
    named,
    saved,
    space,
    with_attributes,
    with_renamed_weights,
)


@pytest.fixture
def converted(tmp_path):
    return partial(convert_in, tmp_path)


class Canary:
    """Touches a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (Path(self.path),)


REFUSED = {
    "no zip archive": (b"weights", "no zip archive"),
    "another archive": (
        (CHECKPOINTS / "ppo_cartpole.npz").read_bytes(),
        "no checkpoint of Stable-Baselines3",
    ),
    "another algorithm": (
        (CHECKPOINTS / "refused" / "qrdqn.zip").read_bytes(),
        "policy class, QRDQNPolicy, is not known",
    ),
    "a policy of its own": (
        with_attributes(
            "ppo_cartpole", policy_class=named("mine", "ActorCriticPolicy")
        ),
        "policy class, ActorCriticPolicy, is not known",
    ),
    "another policy of the library": (
        with_attributes(
            "ppo_cartpole",
            policy_class=named("stable_baselines3.common.policies", "BasePolicy"),
        ),
        "policy class, BasePolicy, is not known",
    ),
    "a features extractor of its own": (
        with_attributes(
            "ppo_cartpole",
            policy_kwargs=b"(dS'features_extractor_class'\ncmine\nNatureCNN\ns.",
        ),
        "a features extractor of its own",
    ),
    "an activation function of its own": (
        with_attributes(
            "ppo_cartpole", policy_kwargs=b"(dS'activation_fn'\ncmine\nTanh\ns."
        ),
        "its activation function is not known",
    ),
    "settings that are none": (
        with_attributes("ppo_cartpole", policy_kwargs=[1]),
        "policy_kwargs are no dict",
    ),
    "a setting of another type": (
        with_attributes("ppo_cartpole", policy_kwargs={"normalize_images": 2}),
        "neither true nor false",
    ),
    "data that are no JSON": (
        edited("ppo_cartpole", "data", lambda data: data[:-1]),
        "data in the checkpoint are damaged",
    ),
    "data nested without end": (
        edited("ppo_cartpole", "data", lambda _: b"[" * 100_000),
        "data in the checkpoint are damaged",
    ),
    "a list of data": (
        edited("ppo_cartpole", "data", lambda _: b"[]"),
        "data in the checkpoint are damaged",
    ),
    "a pickle that is no base64": (
        with_attributes("ppo_cartpole", policy_class={":serialized:": "?"}),
        "data in the checkpoint are damaged",
    ),
    "weights of an unknown layer": (
        with_renamed_weights(
            "ppo_cartpole", b"mlp_extractor.value", b"mlp_extractor.valuf"
        ),
        "nothing is known of its weights mlp_extractor.valuf_net.0.bias",
    ),
    "weights of an unknown layer in between": (
        with_renamed_weights("ppo_cartpole", b"policy_net.2", b"policy_net.3"),
        "layers other than linear ones",
    ),
    "a layer that is missing": (
        with_renamed_weights(
            "ppo_cartpole", b"action_net.weight", b"actiox_net.weight"
        ),
        "lacks the weights action_net.weight",
    ),
    "a layer of a features extractor that is not known": (
        with_renamed_weights("ppo_image", b"extractor.cnn.2", b"extractor.cnn.1"),
        "lacks the weights pi_features_extractor.cnn.2.weight",
    ),
    "weights without a memory": (
        with_renamed_weights("recurrent_ppo", b"lstm_actor", b"lstm_agent"),
        "lacks the weights of its LSTM",
    ),
    "weights that do not fit the space": (
        with_attributes("ppo_cartpole", observation_space=space("Discrete", n=5)),
        "do not fit together",
    ),
    "an action space that does not fit the weights": (
        with_attributes("dqn_cartpole", action_space=space("MultiBinary", n=2)),
        "the action_space of a DQN is no Discrete",
    ),
    "an action space that does not fit the algorithm": (
        with_attributes("sac_pendulum", action_space=space("Discrete", n=1)),
        "the action_space of a SAC is no Box",
    ),
    "a space that is none": (
        with_attributes("ppo_cartpole", observation_space=named("os", "system")),
        "observation_space is a Global",
    ),
    "a space of another kind": (
        with_attributes("ppo_cartpole", observation_space=space("Graph", n=2)),
        "observation_space is a gymnasium.spaces.x.Graph",
    ),
    "a space of another library": (
        with_attributes(
            "ppo_cartpole", observation_space=space("Discrete", "mine.spaces", n=4)
        ),
        "observation_space is a mine.spaces.Discrete",
    ),
    "a space without its parts": (
        with_attributes("ppo_cartpole", action_space=space("Discrete", start=0)),
        "action_space is a damaged Discrete",
    ),
    "a space that begins elsewhere": (
        with_attributes("ppo_cartpole", action_space=space("Discrete", n=2, start=1)),
        "action_space does not begin at 0",
    ),
    "actions that are whole numbers in a Box": (
        with_attributes(
            "ppo_pendulum_sde",
            action_space=pickle.dumps(spaces.Box(-2, 2, (1,), np.int64)),
        ),
        "action_space is a Box of int64, for which Stable-Baselines3 answers",
    ),
    "more choices than fit": (
        with_attributes("ppo_cartpole", observation_space=space("Discrete", n=2**62)),
        "too many values",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_converted_is_refused(name, converted):
    model, reason = REFUSED[name]
    with pytest.raises(Rejected) as refusal:
        converted(model)
    sentence = str(refusal.value)
    assert reason in sentence
    assert sentence.endswith(".")
    assert not set(sentence) & set("[]\n")


@pytest.mark.parametrize("attribute", ["policy_class", "observation_space"])
def test_nothing_in_a_checkpoint_is_run(attribute, tmp_path, converted):
    touched = tmp_path / "touched"
    canary = pickle.dumps(Canary(str(touched)))
    pickle.loads(canary)  # noqa: S301 -- the canary sings
    assert touched.exists()
    touched.unlink()
    with pytest.raises(Rejected):
        converted(with_attributes("ppo_cartpole", **{attribute: canary}))
    with pytest.raises(Rejected):
        converted(saved("ppo_cartpole"), statistics=canary)
    assert not touched.exists()


def test_weights_that_are_not_finite_are_refused(converted):
    one = np.float32(1.0).tobytes()

    def spoil(policy):
        out = BytesIO()
        with (
            zipfile.ZipFile(BytesIO(policy)) as source,
            zipfile.ZipFile(out, "w") as target,
        ):
            for info in source.infolist():
                content = source.read(info)
                if info.filename.endswith("/data/0"):
                    content = np.float32(np.nan).tobytes() + content[len(one) :]
                target.writestr(info.filename, content)
        return out.getvalue()

    with pytest.raises(Rejected, match="not finite"):
        converted(edited("ppo_cartpole", "policy.pth", spoil))


@pytest.mark.parametrize("steps", [1.5, 1e300, True, -1, 2**53, "many", None])
def test_a_number_of_steps_that_is_none_is_left_out(steps, converted):
    _, parts = converted(with_attributes("ppo_cartpole", num_timesteps=steps))
    assert parts.checkpoint["provenance"]["step"] is None


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_whatever_is_damaged_nothing_but_a_refusal_comes_of_it(data, tmp_path_factory):
    member = data.draw(st.sampled_from(["data", "policy.pth"]))
    place = data.draw(st.floats(0, 1, exclude_max=True))
    byte = data.draw(st.integers(0, 255))

    def damage(content):
        at = int(place * len(content))
        return content[:at] + bytes([byte]) + content[at + 1 :]

    folder = tmp_path_factory.mktemp("damaged")
    (folder / MODEL_FILE).write_bytes(edited("ppo_pendulum_sde", member, damage))
    try:
        parts = convert(folder, Options(), lambda _: None)
    except Rejected:
        return
    assert parts.weights
