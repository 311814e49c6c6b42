"""Every runnable block of docs/http.md, in its order, as a user would type it."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import bundles
from end_to_end.environments import ROOT
from end_to_end.processes import PATIENCE_S, Place, serving

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl"),
]

PAGE = ROOT / "docs" / "http.md"
RUNNABLE = re.compile(r"^```sh runnable\n(.*?)^```$", re.DOTALL | re.MULTILINE)

LOADED = [
    "deployment.swap_requested",
    "deployment.swap_claimed",
    "deployment.parity_checked",
]
SWAPPED = [*LOADED, "deployment.checkpoint_swapped", "agent.checkpoint_replaced"]
TRAINED = {
    "experiment.training_requested",
    "experiment.training_claimed",
    "experiment.training_started",
    "experiment.stop_requested",
    "experiment.training_stopped",
    "experiment.checkpoint_written",
}
"""Some of them come or not, as it was stopped sooner or later."""


def script() -> str:
    return "".join(RUNNABLE.findall(PAGE.read_text(encoding="utf-8")))


def typed(place: Place, address: str) -> str:
    """Type everything into a shell beside a bundle; return what it prints."""
    bundles.cartpole(place.folder / "bundle")
    bundles.cartpole(place.folder / "later", network=bundles.BALANCER)
    bundled_python = Path(sys.executable).parent
    ran = subprocess.run(
        ["sh", "-eu", "-c", script()],
        cwd=place.folder,
        env={
            "PATH": f"{bundled_python}{os.pathsep}{os.environ['PATH']}",
            "URL": f"http://{address}",
            "TOKEN": place.token,
        },
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert ran.returncode == 0, (ran.stdout, ran.stderr)
    return ran.stdout


def test_the_page_leads_from_a_bundle_to_an_action_and_back(tmp_path):
    place = Place(tmp_path)
    with serving(place) as server:
        printed = typed(place, server.address)
        names = [event["name"] for event in server.client().events()]
    assert '"verdict":"passed"' in printed
    assert '{"action":"' in printed
    begun = names.index("experiment.training_requested")
    assert names[-1] == "experiment.training_stopped"
    assert set(names[begun:]) <= TRAINED
    assert names[:begun] == [
        "organisation.created",
        "organisation.member_joined",
        "credential.access_token_issued",
        "organisation.member_invited",
        "project.created",
        "experiment.drafted",
        "experiment.checkpoint_written",
        "agent.checkpoint_frozen",
        "deployment.created",
        "deployment.connect_requested",
        "deployment.connect_claimed",
        "deployment.parity_checked",
        "deployment.connected",
        "experiment.checkpoint_written",
        *SWAPPED,
        *SWAPPED,
        *SWAPPED,
        "deployment.baking_stopped",
        *LOADED,
        "deployment.shadow_started",
        "deployment.key_rotated",
        "deployment.disconnected",
        "agent.described",
        "request.carried_out",
        "project.created",
        "experiment.drafted",
    ]


def test_what_the_page_says_of_the_past_was_so(tmp_path):
    place = Place(tmp_path)
    with serving(place) as server:
        printed = typed(place, server.address)
    statuses = re.findall(r'"status":"(\w+)"', printed)
    # When it was taken off, as it had been, in the list, and once it was described.
    assert statuses[-6:-2] == ["Undeployed", "Deployed", "Undeployed", "Undeployed"]
