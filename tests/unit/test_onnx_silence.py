"""Who serves ONNX weights tells nobody that it does."""

import os
import subprocess
import sys

import bundles

LOAD = """
import sys
from pathlib import Path
from arena_core.entrypoints.wiring import load_bundle
load_bundle(Path(sys.argv[1])).model.close()
"""


def test_to_load_weights_leaves_nothing_in_the_home_of_the_user(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    bundle = bundles.cartpole(tmp_path / "bundle")
    subprocess.run(
        [sys.executable, "-c", LOAD, str(bundle)],
        check=True,
        env={"HOME": str(home), "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert list(home.rglob("*")) == []
