"""Lanes: what one event loop remembers of what it has answered for."""

import asyncio
import gc
import weakref
from contextlib import closing

from arena_core.application.telemetry import Telemetry
from arena_core.entrypoints.http.asking import read_head
from arena_core.entrypoints.http.lanes import Lanes
from arena_core.entrypoints.settings import Settings
from unit.scenes import Scene, key_of

SETTINGS = Settings("memory:")


def test_a_model_is_forgotten_with_its_agent(tmp_path):
    """However many agents come and go."""
    scene = Scene.open(tmp_path)
    with scene.arena, closing(asyncio.new_event_loop()) as loop:
        gone, kept = (scene.live(scene.agent(name)) for name in ("first", "second"))
        lanes = Lanes(loop, SETTINGS, Telemetry(), scene.registry.all_live)

        def lane(agent):
            asking = read_head(key_of(agent), "get_action", b"", [])
            return lanes.of(scene.registry.live(key_of(agent)), asking)

        model = weakref.ref(lane(gone).live.model)
        scene.use.agents.delete(gone.id)
        known = lane(kept)
        gc.collect()
        assert model() is None
        lane(scene.live(scene.agent("third")))
        assert lane(kept) is known, "it is live still"
