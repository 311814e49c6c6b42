"""Fixtures of the tests that go through the use cases."""

import pytest

from unit.scenes import Scene


@pytest.fixture
def scene(tmp_path):
    scene = Scene.open(tmp_path)
    yield scene
    scene.arena.close()
