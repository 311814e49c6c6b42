"""A bundle whose files change or vanish while it is read is refused, not a defect."""

import tracemalloc

import pytest

from arena_core.application import bundles
from arena_core.domain.errors import Rejected

import bundles as written

MEGABYTE = 1 << 20


@pytest.fixture
def vanishing(tmp_path, monkeypatch):
    """Return a folder of which the file that is named vanishes once it is listed."""

    def vanish(name):
        folder, files_of = written.cartpole(tmp_path / "bundle"), bundles.files_of

        def listed(of):
            found = files_of(of)
            (folder / name).unlink()
            return found

        monkeypatch.setattr(bundles, "files_of", listed)
        return folder

    return vanish


@pytest.mark.parametrize("name", ["checkpoint.json", "golden.npz", "policy.onnx"])
def test_a_file_that_vanishes_while_it_is_checked_is_named(vanishing, name):
    with pytest.raises(Rejected, match=f"The file {name} of the bundle cannot be read"):
        bundles.check(vanishing(name))


def test_a_file_that_vanishes_while_it_is_listed_is_named(vanishing):
    with pytest.raises(Rejected, match=r"The file golden\.npz of the bundle"):
        bundles.listing(vanishing("golden.npz"))


def test_weights_with_an_input_that_nothing_feeds_are_refused(tmp_path):
    folder = written.cartpole(tmp_path)
    described = written.manifest(folder)
    described["signature"]["inputs"] *= 2
    described["signature"]["inputs"][1] = {
        **described["signature"]["inputs"][1], "name": "hidden",
    }  # fmt: skip
    written.write_manifest(folder, described)
    with pytest.raises(Rejected, match="one input for each array") as caught:
        bundles.check(folder)
    assert caught.value.field == "checkpoint.json: signature.inputs"


def test_to_check_a_bundle_takes_memory_for_what_it_holds_only(tmp_path):
    folder = written.cartpole(tmp_path)
    bundles.check(folder)  # so that what is made once is made
    tracemalloc.start()
    try:
        bundles.check(folder)
        bundles.weights(folder, "policy.onnx")
        taken = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert taken < MEGABYTE
