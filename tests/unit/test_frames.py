import hashlib
import json
from datetime import UTC, datetime
from uuid import UUID, uuid5

import pytest

from arena_core.adapters import frames
from arena_core.domain.errors import Corrupt, UnknownEvent
from arena_core.domain.ids import OrganisationId
from arena_core.domain.project import ProjectRenamed
from arena_core.domain.values import LIBRARY

STREAM, COMMAND = UUID(int=1), UUID(int=2)
WHEN = datetime(2026, 1, 2, tzinfo=UTC)
BODY = b'{"name":"x"}'
SLOT = frames.Slot(STREAM, 3, "project.renamed@1", BODY)
METADATA = frames.Metadata(
    event_id=frames.event_id(STREAM, 3, COMMAND),
    occurred_at=WHEN,
    recorded_at=WHEN,
    organisation=OrganisationId("default"),
    actor=LIBRARY,
    command_id=COMMAND,
    correlation_id=COMMAND,
    code=frames.CODE,
)
BEFORE = bytes(range(32))


def row(state: bytes, topic: str = SLOT.topic) -> frames.Row:
    return frames.Row(9, STREAM, 3, topic, state)


def test_the_hash_is_what_the_documentation_says():
    state, digest = frames.seal(BEFORE, SLOT, METADATA)
    metadata = state[len(b'{"m":') : state.index(b',"h":"')]
    parts = [STREAM.bytes, bytes(7) + b"\x03", b"project.renamed@1", metadata, BODY]
    message = b"arena-core event chain\x00\x01" + BEFORE
    for part in parts:
        message += len(part).to_bytes(8, "big") + part
    assert digest == hashlib.sha256(message).digest()
    assert frames.hash_of(row(state)) == digest


def test_a_frame_is_json_that_holds_the_exact_bytes():
    state, digest = frames.seal(BEFORE, SLOT, METADATA)
    frame = json.loads(state)
    assert list(frame) == ["m", "h", "d"]
    assert frame["h"] == digest.hex()
    assert frame["d"] == {"name": "x"}
    assert state.endswith(b'","d":' + BODY + b"}")
    assert frame["m"]["occurred_at"] == "2026-01-02T00:00:00Z"
    assert "reason" not in frame["m"]


def test_an_event_id_follows_from_stream_version_and_command():
    assert frames.event_id(STREAM, 3, COMMAND) == uuid5(STREAM, f"3:{COMMAND}")


def test_a_row_is_opened_as_what_was_sealed():
    state, digest = frames.seal(BEFORE, SLOT, METADATA)
    found = frames.recorded(row(state))
    assert found.event == ProjectRenamed("x")
    assert found.hash == digest.hex()
    assert (found.position, found.version) == (9, 3)
    assert found.context.reason is None


@pytest.mark.parametrize("topic", ["", "project.renamed", "project.renamed@one", "@"])
def test_a_topic_that_is_none_is_corrupt(topic):
    state, _ = frames.seal(BEFORE, SLOT, METADATA)
    with pytest.raises(Corrupt, match="position 9"):
        frames.recorded(row(state, topic))


@pytest.mark.parametrize("topic", ["project.renamed@2", "project.frobnicated@1"])
def test_a_topic_of_a_newer_release_is_unknown(topic):
    state, _ = frames.seal(BEFORE, SLOT, METADATA)
    with pytest.raises(UnknownEvent):
        frames.recorded(row(state, topic))


@pytest.mark.parametrize(
    "state", [b"", b"{}", b'{"m":{},"h":"00","d":{}}', b"\xff", b'{"h":"zz"}']
)
def test_a_frame_that_is_none_is_corrupt(state):
    for open_ in (frames.recorded, frames.metadata_of):
        with pytest.raises(Corrupt, match="position 9"):
            open_(row(state))
