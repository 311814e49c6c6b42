"""What a server does not import before it answers: its start would wait for that."""

import pytest

from bundles import observations
from end_to_end.processes import Place, actions, connect, endpoint, serving
from end_to_end.stores import fill

pytestmark = pytest.mark.slow

OBSERVED = observations(1, 4)
OTHERS = {
    # what other commands print with, and those commands
    "rich",
    "arena_core.entrypoints.cli.agent",
    "arena_core.entrypoints.cli.checkpoint",
    "arena_core.entrypoints.demo",
    "arena_core.entrypoints.play",
    # what only other weights need, uploads, conversions, or whoever looks at figures
    "arena_core.adapters.converters.onnx",
    "arena_core.adapters.runtimes.torch_export",
    "gymnasium",
    "onnx",
    "prometheus_client",
    "safetensors",
    "torch",
}


def imported(stderr: str) -> set[str]:
    """Return the modules that the interpreter says it has imported."""
    lines = [line for line in stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip() for line in lines}


@pytest.fixture
def place(tmp_path) -> Place:
    return Place(tmp_path)


def test_a_server_imports_nothing_that_its_first_answer_does_not_need(place):
    agent = str(fill(place.store).agent)
    with serving(place, environ={"PYTHONPROFILEIMPORTTIME": "1"}) as process:
        client = process.client()
        connect(client, agent)
        answer = endpoint(client, agent).ask(client, OBSERVED)
        assert len(actions(answer)) == len(OBSERVED)
        found = imported(process.stderr.read_text())
    assert {"arena_core", "onnxruntime", "starlette.applications"} <= found
    assert not OTHERS & found
