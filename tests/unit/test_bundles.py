import json
import os
from contextlib import suppress
from hashlib import sha256

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arena_core.application import golden, manifests
from arena_core.application.bundles import (
    GOLDEN_FILE,
    MANIFEST_FILE,
    MOST_FILES,
    Entry,
    Listing,
    check,
    decode_listing,
    encode_listing,
    listing,
    manifest,
)
from arena_core.application.filenames import check_name, check_names, shown
from arena_core.application.golden import Case, GoldenTrace, Step
from arena_core.domain.checkpoint import (
    Box,
    Discrete,
    Head,
    Manifest,
    Normaliser,
    Policy,
    Signature,
    TensorSpec,
)
from arena_core.domain.errors import Corrupt, Rejected, TooLarge
from arena_core.domain.values import Family

from contract.blob_store import lay

CARTPOLE = {
    "format_version": 1,
    "algorithm": "PPO",
    "family": "rl",
    "framework": {"name": "stable-baselines3", "version": "2.8.0", "torch": "2.11"},
    "weights": "policy.onnx",
    "signature": {
        "inputs": [{"name": "obs", "dtype": "float32", "shape": [None, 4]}],
        "outputs": [{"name": "/actor/Gemm:0", "dtype": "float32", "shape": [None, 2]}],
    },
    "observation_space": {
        "type": "Box", "shape": [4], "dtype": "float32",
        "low": [-4.8, None, -0.4, None], "high": [4.8, None, 0.4, None],
    },
    "action_space": {"type": "Discrete", "n": 2},
    "head": "logits",
    "normaliser": {
        "mean": [0, 0.5, 0, 0], "variance": [1, 2, 3, 4], "epsilon": 1e-8, "clip": 10,
    },
    "provenance": {"anything": {"goes": [1, None, {}]}},
}  # fmt: skip
PENDULUM = CARTPOLE | {
    "algorithm": "SAC",
    "head": "action",
    "action_space": {
        "type": "Box", "shape": [1], "dtype": "float32", "low": -2, "high": 2,
    },
    "signature": CARTPOLE["signature"]
    | {"outputs": [{"name": "action", "dtype": "float32", "shape": [None, 1]}]},
    "normaliser": None,
}  # fmt: skip
PREDICTOR = CARTPOLE | {
    "algorithm": "Supervised",
    "family": "supervised",
    "head": "output",
    "observation_space": None,
    "action_space": None,
    "normaliser": None,
}
ARRAY = np.zeros((1, 4), np.float32)
TRACE = golden.write(
    GoldenTrace((Case("case0", (Step({"obs": ARRAY, "action": ARRAY}),)),))
)


def changed(document, path, value):
    """Return a copy of `document` in which `value` is at `path`."""
    copy = json.loads(json.dumps(document))
    *above, last = path
    inner = copy
    for key in above:
        inner = inner[key]
    if value is ...:
        del inner[last]
    else:
        inner[last] = value
    return copy


def parsed(document) -> Manifest:
    return manifest(json.dumps(document).encode(), golden=False)


# --- names -----------------------------------------------------------------------

segments = st.from_regex(r"[A-Za-z0-9._-]{1,12}", fullmatch=True).filter(
    lambda segment: segment not in {".", ".."}
)
names = st.lists(segments, min_size=1, max_size=3).map("/".join)


@given(names)
@settings(deadline=None)
def test_a_name_of_the_grammar_is_allowed(name):
    check_name(name)


@pytest.mark.parametrize(
    "name",
    ["", "/", "a/", "/a", "a//b", ".", "..", "a/..", "../a", "a/./b", "a/b/c/d", "a b",
     "a\\b", "a\n", "a\0", "ä", "a:b", "~", "%2e%2e", "a#", "n" * 201, "a\u202eb"],
)  # fmt: skip
def test_any_other_name_is_refused(name):
    with pytest.raises(Rejected):
        check_name(name)


@pytest.mark.parametrize(
    "together",
    [["a", "A"], ["d/a", "d/A"], ["d/a", "D/b"], ["a", "a"], ["a", "a/b"],
     ["a", "A/b"], ["x/y/a", "x/Y/b"], ["a/b", "a"]],
)  # fmt: skip
def test_names_that_some_file_system_cannot_keep_apart_are_refused(together):
    with pytest.raises(Rejected):
        check_names(together)


def test_names_that_share_folders_are_fine():
    check_names(["d/a", "d/b", "d/e/a", "a", "A.b"])


@given(st.text())
@settings(deadline=None)
def test_what_is_shown_of_a_name_can_do_no_harm(text):
    assert len(shown(text)) <= 60
    assert shown(text).isascii()
    assert not set(shown(text)) & set("[]{}<>`'\":\n\r\t\0\x1b")


# --- the listing -----------------------------------------------------------------

entries = st.builds(
    Entry,
    st.integers(0, 2**64 - 1),
    st.binary(min_size=32, max_size=32).map(bytes.hex),
)


def _can_lie_together(files) -> bool:
    try:
        check_names(files)
    except Rejected:
        return False
    return True


listings = st.builds(
    Listing, st.dictionaries(names, entries, max_size=5).filter(_can_lie_together)
)


@given(listings)
@settings(deadline=None)
def test_a_listing_survives_its_canonical_bytes(original):
    assert decode_listing(encode_listing(original)) == original


@given(listings, listings)
@settings(deadline=None)
def test_different_listings_never_share_their_bytes(one, other):
    same = encode_listing(one) == encode_listing(other)
    assert same == (one == other)
    assert (one.digest == other.digest) == same


@given(st.dictionaries(st.sampled_from(["a", "ab", "b", "bc"]), st.binary(max_size=3)))
@settings(deadline=None)
def test_the_order_of_files_does_not_matter(contents):
    files = {name: Entry.of(content) for name, content in contents.items()}
    backwards = Listing(dict(reversed(files.items())))
    assert encode_listing(backwards) == encode_listing(Listing(files))


@given(listings, st.data())
@settings(deadline=None)
def test_bytes_that_are_not_canonical_are_corrupt(original, data):
    good = encode_listing(original)
    cut = data.draw(st.integers(0, len(good) - 1))
    extra = data.draw(st.binary(min_size=1, max_size=40))
    for bad in (good[:cut], extra + good, good + b"\0"):
        try:
            understood = decode_listing(bad)
        except Corrupt:
            continue
        # Cut between two files, it is the listing of the first ones.
        assert encode_listing(understood) == bad


def test_a_listing_cut_within_its_last_hash_is_corrupt():
    good = encode_listing(Listing({"a": Entry.of(b"")}))
    for length in range(len(b"arena-bundle/1\n") + 1, len(good)):
        with pytest.raises(Corrupt):
            decode_listing(good[:length])


@pytest.mark.parametrize(
    "tail",
    [
        (2**64 - 1).to_bytes(8) + b"a",
        (4).to_bytes(8) + b"../a" + bytes(40),
        (1).to_bytes(8) + b"\xff" + bytes(40),
        ((1).to_bytes(8) + b"a" + bytes(40)) * 2,
        (1).to_bytes(8) + b"b" + bytes(40) + (1).to_bytes(8) + b"a" + bytes(40),
    ],
)
def test_a_listing_made_to_harm_is_corrupt(tail):
    with pytest.raises(Corrupt):
        decode_listing(b"arena-bundle/1\n" + tail)


def test_the_listing_of_a_folder_is_of_the_bytes_in_it(tmp_path):
    files = {"a": b"1", "b/c": bytes(3_000_000)}
    lay(tmp_path, files)
    assert listing(tmp_path) == Listing(
        {n: Entry(len(c), sha256(c).hexdigest()) for n, c in files.items()}
    )


def test_a_folder_with_too_many_files_is_refused(tmp_path):
    lay(tmp_path, {str(n): b"" for n in range(MOST_FILES + 1)})
    with pytest.raises(TooLarge):
        listing(tmp_path)


# --- the manifest ----------------------------------------------------------------


def test_a_policy_is_understood():
    assert manifest(json.dumps(CARTPOLE).encode(), golden=True) == Manifest(
        format_version=1,
        algorithm="PPO",
        family=Family.RL,
        policies={
            "policy": Policy(
                weights="policy.onnx",
                signature=Signature(
                    (TensorSpec("obs", "float32", (None, 4)),),
                    (TensorSpec("/actor/Gemm:0", "float32", (None, 2)),),
                ),
                head=Head.LOGITS,
                observation_space=Box(
                    (4,), "float32", (-4.8, None, -0.4, None), (4.8, None, 0.4, None)
                ),
                action_space=Discrete(2),
                normalisers={"": Normaliser((0, 0.5, 0, 0), (1, 2, 3, 4), 1e-8, 10)},
            )
        },
        golden=True,
    )


@pytest.mark.parametrize(
    "document",
    [
        PENDULUM,
        PREDICTOR,
        changed(CARTPOLE, ["head"], "q_values"),
        changed(CARTPOLE, ["normaliser"], ...),
        changed(CARTPOLE, ["normaliser", "clip"], None),
        changed(CARTPOLE, ["normaliser", "epsilon"], 0),
        changed(CARTPOLE, ["signature", "inputs", 0, "shape"], [None, None]),
        changed(PREDICTOR, ["observation_space"], CARTPOLE["observation_space"]),
        changed(PREDICTOR, ["family"], "llm"),
        changed(
            changed(CARTPOLE, ["observation_space"], {"type": "Discrete", "n": 16})
            | {"normaliser": None},
            ["signature", "inputs", 0],
            {"name": "obs", "dtype": "int64", "shape": [None]},
        ),
    ],
)
def test_other_manifests_that_agree_with_themselves_are_understood(document):
    parsed(document)


TENSOR = ["signature", "inputs", 0]
ANSWER = ["signature", "outputs", 0]


@pytest.mark.parametrize(
    ("base", "path", "value", "field"),
    [
        (CARTPOLE, ["format_version"], 2, "format_version"),
        (CARTPOLE, ["format_version"], "1", "format_version"),
        (CARTPOLE, ["format_version"], True, "format_version"),
        (CARTPOLE, ["algorithm"], "", "algorithm"),
        (CARTPOLE, ["algorithm"], 1, "algorithm"),
        (CARTPOLE, ["family"], "robot", "family"),
        (CARTPOLE, ["head"], "argmax", "head"),
        (CARTPOLE, ["framework"], "torch", "framework"),
        (CARTPOLE, ["provenance"], [], "provenance"),
        (CARTPOLE, ["weights"], "../policy.onnx", "weights"),
        (CARTPOLE, ["weights"], "policy.pt", "weights"),
        (CARTPOLE, ["signature", "inputs"], [], "signature.inputs"),
        (CARTPOLE, ["signature", "inputs"], {}, "signature.inputs"),
        (CARTPOLE, [*TENSOR, "dtype"], 1, "signature.inputs 0.dtype"),
        (CARTPOLE, [*TENSOR, "dtype"], "float128", "signature.inputs 0.dtype"),
        (CARTPOLE, [*TENSOR, "name"], "", "signature.inputs 0.name"),
        (CARTPOLE, [*TENSOR, "name"], "a\n", "signature.inputs 0.name"),
        (CARTPOLE, [*TENSOR, "shape"], [], "signature.inputs 0.shape"),
        (CARTPOLE, [*TENSOR, "shape"], [1, 4], "signature.inputs 0.shape"),
        (CARTPOLE, [*TENSOR, "shape"], [None, -4], "signature.inputs 0.shape"),
        (CARTPOLE, [*TENSOR, "shape"], [None, 2**40], "signature.inputs 0.shape"),
        (CARTPOLE, [*TENSOR, "shape"], [None, 4.0], "signature.inputs 0.shape 1"),
        (CARTPOLE, [*TENSOR, "shape"], [None, 5], "signature.inputs 0.shape"),
        (CARTPOLE, [*TENSOR, "shape"], [None, 4, 1], "signature.inputs 0.shape"),
        (CARTPOLE, [*TENSOR, "shape"], [None] * 9, "signature.inputs 0.shape"),
        (CARTPOLE, [*ANSWER, "shape"], [None, 3], "signature.outputs 0.shape"),
        (CARTPOLE, [*ANSWER, "shape"], [None, None], "signature.outputs 0.shape"),
        (CARTPOLE, [*ANSWER, "shape"], [None, 1, 2], "signature.outputs 0.shape"),
        (CARTPOLE, [*ANSWER, "dtype"], "int64", "signature.outputs 0.dtype"),
        (PENDULUM, [*ANSWER, "shape"], [None], "signature.outputs 0.shape"),
        (CARTPOLE, ["head"], "action", "signature.outputs 0.shape"),
        (PREDICTOR, ["family"], "latent", "decoder"),
        (CARTPOLE, ["head"], "output", "head"),
        (PENDULUM, ["head"], "logits", "head"),
        (PREDICTOR, ["head"], "action", "head"),
        (CARTPOLE, ["observation_space"], None, "observation_space"),
        (CARTPOLE, ["action_space"], None, "action_space"),
        (CARTPOLE, ["action_space"], "Discrete", "action_space"),
        (CARTPOLE, ["action_space", "n"], 0, "action_space.n"),
        (CARTPOLE, ["observation_space", "low"], "x", "observation_space.low"),
        (CARTPOLE, ["normaliser", "mean"], [0] * 3, "normaliser.mean"),
        (CARTPOLE, ["normaliser", "mean"], [True] * 4, "normaliser.mean 0"),
        (CARTPOLE, ["normaliser", "variance"], [1] * 5, "normaliser.variance"),
        (CARTPOLE, ["normaliser", "variance"], [1, 1, 1, -1], "normaliser.variance"),
        (CARTPOLE, ["normaliser", "epsilon"], -1, "normaliser.epsilon"),
        (CARTPOLE, ["normaliser", "clip"], 0, "normaliser.clip"),
        (PREDICTOR, ["normaliser"], CARTPOLE["normaliser"], "normaliser"),
        (CARTPOLE, ["head"], ..., None),
        (CARTPOLE, ["weight"], "policy.onnx", None),
        (CARTPOLE, [*TENSOR, "size"], 1, "signature.inputs 0"),
        (CARTPOLE, ["normaliser", "std"], [1], "normaliser"),
    ],
)
def test_a_manifest_that_is_wrong_is_refused_by_its_field(base, path, value, field):
    with pytest.raises(Rejected) as refused:
        parsed(changed(base, path, value))
    where = MANIFEST_FILE if field is None else f"{MANIFEST_FILE}: {field}"
    assert refused.value.field == where
    assert not set("[]`\n") & set(str(refused.value))


def test_a_variance_of_zero_needs_an_epsilon():
    document = changed(CARTPOLE, ["normaliser", "variance"], [1, 0, 1, 1])
    parsed(document)
    with pytest.raises(Rejected, match="epsilon"):
        parsed(changed(document, ["normaliser", "epsilon"], 0))


def test_a_tensor_is_named_once():
    twice = [CARTPOLE["signature"]["inputs"][0]] * 2
    with pytest.raises(Rejected, match="twice"):
        parsed(changed(CARTPOLE, ["signature", "inputs"], twice))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "9" * 400])
def test_numbers_that_are_not_finite_are_refused(number):
    for key in ("0.5", "1e-08"):
        data = json.dumps(CARTPOLE).encode().replace(key.encode(), number.encode())
        assert number.encode() in data
        with pytest.raises(Rejected):
            manifest(data, golden=False)


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b"null", b"1", b'"x"', b"{} {}", b"\xef\xbb\xbf{}", b"\xff",
     b"[" * 100_000, b'{"a":' * 100_000, b"{'a': 1}", b"9" * 100_000, b"\x80\x04."],
)  # fmt: skip
def test_what_is_no_manifest_at_all_is_refused(data):
    with pytest.raises(Rejected) as refused:
        manifest(data, golden=False)
    assert not set("[]`\n") & set(str(refused.value))


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
@settings(deadline=None)
def test_noise_is_refused(data):
    with pytest.raises(Rejected):
        manifest(data, golden=False)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)


@given(st.sampled_from(sorted(set(CARTPOLE) - {"provenance"})), json_values)
@settings(deadline=None, max_examples=300)
def test_whatever_stands_in_a_field_it_is_understood_or_refused(key, value):
    data = json.dumps(CARTPOLE | {key: value}).encode()
    with suppress(Rejected):
        manifest(data, golden=False)
        return
    with pytest.raises(Rejected) as refused:
        manifest(data, golden=False)
    assert (refused.value.field or "").startswith(MANIFEST_FILE)
    assert not set("[]`\n") & set(str(refused.value))
    assert "://" not in str(refused.value)


@pytest.mark.parametrize("key", ["http://evil.example", "[red]", "`", " - at `$.head`"])
def test_the_name_of_an_unknown_key_does_not_reach_the_message(key):
    with pytest.raises(Rejected) as refused:
        parsed(CARTPOLE | {key: 1})
    assert not set("[]`\n") & set(str(refused.value) + str(refused.value.field))
    assert "://" not in str(refused.value)


def test_what_is_free_may_be_nested_but_not_without_end():
    def nested(levels):
        value = {}
        for _ in range(levels):
            value = {"a": value}
        return CARTPOLE | {"provenance": value}

    parsed(nested(20))
    with pytest.raises(Rejected, match="deeply"):
        parsed(nested(manifests.MOST_LEVELS))
    with pytest.raises(Rejected, match="deeply"):
        parsed(nested(800))


def test_a_manifest_of_more_than_a_megabyte_is_refused():
    with pytest.raises(TooLarge):
        parsed(CARTPOLE | {"provenance": {"log": "x" * 2**20}})


# --- the folder ------------------------------------------------------------------


@pytest.fixture
def bundle(tmp_path):
    return lay(
        tmp_path / "bundle",
        {MANIFEST_FILE: json.dumps(CARTPOLE).encode(), "policy.onnx": b"weights"},
    )


def test_a_bundle_is_checked(bundle):
    assert check(bundle) == parsed(CARTPOLE)


def test_a_bundle_with_a_golden_trace_says_so(bundle):
    lay(bundle, {GOLDEN_FILE: TRACE})
    assert check(bundle).golden


def test_a_golden_trace_that_cannot_be_read_is_refused(bundle):
    lay(bundle, {GOLDEN_FILE: TRACE[:-1]})
    with pytest.raises(Rejected, match=r"golden\.npz"):
        check(bundle)


def test_notes_may_lie_in_a_bundle(bundle):
    lay(bundle, {"README.md": b"#", "docs/log.txt": b"", "docs/config.json": b"{}"})
    check(bundle)


@pytest.mark.parametrize("name", [MANIFEST_FILE, "policy.onnx"])
def test_a_bundle_that_lacks_a_file_is_refused(bundle, name):
    (bundle / name).unlink()
    with pytest.raises(Rejected, match=name):
        check(bundle)


def test_empty_weights_are_refused(bundle):
    lay(bundle, {"policy.onnx": b""})
    with pytest.raises(Rejected, match="empty"):
        check(bundle)


@pytest.mark.parametrize(
    "name",
    ["model.pt", "model.PTH", "model.pkl", "model.zip", "model.ckpt", "model.joblib",
     "model.mar", "pytorch_model.bin"],
)  # fmt: skip
def test_pickles_are_refused_wherever_they_lie(bundle, name):
    lay(bundle, {f"extra/{name}": b"\x80\x04."})
    with pytest.raises(Rejected, match=r"pickle.*export the weights to ONNX"):
        check(bundle)
    (bundle / "extra" / name).unlink()
    document = changed(CARTPOLE, ["weights"], name)
    lay(bundle, {MANIFEST_FILE: json.dumps(document).encode(), name: b"x"})
    with pytest.raises(Rejected, match=r"pickle.*export the weights to ONNX"):
        check(bundle)


@pytest.mark.parametrize(
    "name", ["policy.onnx.data", "other.onnx", "run.sh", "a.npy", "noext", "Golden.npz"]
)
def test_files_that_have_no_place_in_a_bundle_are_refused(bundle, name):
    lay(bundle, {name: b"x"})
    with pytest.raises(Rejected, match="no place"):
        check(bundle)


def test_weights_that_are_a_link_are_refused(bundle, tmp_path):
    (bundle / "policy.onnx").rename(tmp_path / "policy.onnx")
    (bundle / "policy.onnx").symlink_to(tmp_path / "policy.onnx")
    with pytest.raises(Rejected, match="link"):
        check(bundle)


def test_a_huge_manifest_is_not_read(bundle):
    os.truncate(bundle / MANIFEST_FILE, 2**40)
    with pytest.raises(TooLarge):
        check(bundle)


def test_a_huge_golden_trace_is_not_read(bundle):
    lay(bundle, {GOLDEN_FILE: b""})
    os.truncate(bundle / GOLDEN_FILE, 2**40)
    with pytest.raises(TooLarge):
        check(bundle)
