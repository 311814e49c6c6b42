"""Call examples for a deployed agent: code to be pasted, made of its real shape."""

from arena_core.application.callees import Callee
from arena_core.application.resources import Example
from arena_core.entrypoints.http.examples import arena_cli, arena_client, manual_http
from arena_core.entrypoints.http.examples.subject import Situation, Subject


def examples(
    callee: Callee, *, endpoint: str, base_url: str, api_key: str
) -> list[Example]:
    """Return what runs as it is printed; nothing yet for those that answer in text.

    `endpoint`: where the agent answers.  `base_url`: where the whole API does.
    """
    subject = Subject(callee, endpoint, base_url, api_key)
    if subject.situation is Situation.TALKING:
        return []
    tabs = (arena_client, arena_cli, manual_http)
    return [example for tab in tabs for example in tab.examples(subject)]
