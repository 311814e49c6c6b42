"""Events under the names of CloudEvents 1.0, for tools that route those."""

from collections.abc import Sequence
from typing import Any

import msgspec

from arena_core.application.resources import EventView
from arena_core.entrypoints.http.endpoints import Reply

BATCH = "application/cloudevents-batch+json"


def reply(events: Sequence[EventView], source: str, following: str | None) -> Reply:
    """Return the answer that is a batch; `source` is the address of the log.

    A batch is a list, so that the address of the `following` one is in a header.
    """
    link = {} if following is None else {"Link": f'<{following}>; rel="next"'}
    batch = [_cloud_event(event, source) for event in events]
    return Reply(msgspec.json.encode(batch), media_type=BATCH, headers=link)


def _cloud_event(event: EventView, source: str) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": str(event.event_id),
        "source": source,
        "type": event.name,
        "subject": str(event.stream),
        "time": event.recorded_at,
        "datacontenttype": "application/json",
        "data": event.data,
        "sequence": str(event.position),
    }
