"""Every code block of docs/clients.md, run as it stands there against a real server."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing

import numpy as np
import pytest

from arena_core.application import npy

import bundles
from end_to_end.environments import ROOT
from end_to_end.processes import Place, serving
from end_to_end.public_client import NEW, OLD, Live, live_agent, python_of

pytestmark = pytest.mark.slow

PAGE = ROOT / "docs" / "clients.md"


@pytest.fixture(scope="module")
def balancer(tmp_path_factory) -> Iterator[Live]:
    folder = tmp_path_factory.mktemp("balancer")
    bundles.cartpole(folder, network=bundles.BALANCER)
    with serving(Place(tmp_path_factory.mktemp("server"))) as server:
        with closing(server.client()) as control:
            live = live_agent(control, folder)
        yield live


def _block(heading: str) -> str:
    """Return the code under a heading of the page, verbatim."""
    section = PAGE.read_text().partition(f"\n## {heading}\n")[2]
    return section.partition("\n## ")[0].split("```")[1].partition("\n")[2]


@pytest.fixture
def as_told(balancer) -> dict[str, str]:
    """Return what the page says that must be set."""
    return {"ENDPOINT": balancer.url, "API_KEY": balancer.key}


@pytest.mark.parametrize("version", [OLD, NEW])
def test_the_page_tells_how_to_call_with_the_public_client(
    version, request, tmp_path, as_told
):
    python = python_of(version, request)
    command = [python, "-I", "-c", _block("With agilerl-arena")]
    environ = {"HOME": str(tmp_path), **as_told}
    printed = subprocess.check_output(command, env=environ, text=True)
    assert printed.splitlines() == [
        "PPO", "Action: 1", f"Actions: {np.zeros(7, int)}",
    ]  # fmt: skip


def test_the_page_tells_how_to_call_with_the_standard_library_alone(as_told):
    code = _block("With nothing but Python")
    command = [sys.executable, "-I", "-S", "-c", code]
    printed = subprocess.check_output(command, env=as_told, text=True)
    assert printed == "Action: 1\n"


def test_the_page_tells_how_to_send_raw_arrays(as_told):
    command = [sys.executable, "-I", "-c", _block("Raw arrays")]
    printed = subprocess.check_output(command, env=as_told, text=True)
    assert printed == "Action: [1]\n"


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_the_page_tells_how_to_ask_for_the_status_with_curl(as_told, balancer):
    command = ["sh", "-c", _block("With curl")]
    environ = {"PATH": os.environ["PATH"], **as_told}
    status = json.loads(subprocess.check_output(command, env=environ))
    assert status["deployment_id"] == balancer.deployment_id


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_the_page_tells_how_to_ask_for_a_sample(as_told, tmp_path):
    rows = np.random.default_rng(0).normal(size=(64, 4)).astype("f4")
    request = {"obs": npy.to_base64(rows), "batch_size": 64}
    (tmp_path / "request.json").write_text(json.dumps(request))
    command = ["sh", "-c", _block("Sampled actions")]
    environ = {"PATH": os.environ["PATH"], **as_told}
    first, again = (
        json.loads(subprocess.check_output(command, env=environ, cwd=tmp_path))
        for _ in range(2)
    )
    assert first == again
    drawn = npy.from_base64(first["action"], field="action")
    greedy = bundles.BALANCER(rows).argmax(axis=1)
    assert 0 < (drawn != greedy).sum() < 64


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_the_page_tells_how_to_set_a_deadline(as_told, tmp_path):
    request = {"obs": npy.to_base64(np.zeros((1, 4), "f4"))}
    (tmp_path / "request.json").write_text(json.dumps(request))
    # A slow machine may well be late by twenty milliseconds: that is no defect.
    command = ["sh", "-c", _block("Deadlines").replace(" 20", " 20000")]
    environ = {"PATH": os.environ["PATH"], **as_told}
    answer = json.loads(subprocess.check_output(command, env=environ, cwd=tmp_path))
    assert npy.from_base64(answer["action"], field="action").shape == (1,)
