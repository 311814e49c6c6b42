"""Fixtures of the tests that go through the use cases."""

import pytest

from unit.people import bearing, core, join, older, user
from unit.scenes import Scene

__all__ = ["bearing", "core", "join", "older", "user"]


@pytest.fixture
def scene(tmp_path):
    scene = Scene.open(tmp_path)
    yield scene
    scene.arena.close()
