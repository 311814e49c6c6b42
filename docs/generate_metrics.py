"""Writes the table of docs/metrics.md from the families that are exposed.

python docs/generate_metrics.py

A test refuses a page that is not what this would write.
"""  # noqa: INP001 -- a script, no package

from collections.abc import Iterable
from pathlib import Path

from arena_core.entrypoints.http.agent_metrics import OF_AGENTS
from arena_core.entrypoints.http.exposition import Family, Kind
from arena_core.entrypoints.http.server_metrics import OF_SERVER

PAGE = Path(__file__).parent / "metrics.md"
MARK = "<!-- From here on the page is made by docs/generate_metrics.py. -->\n"


def page() -> str:
    """Return the whole page: what people wrote before the mark stays as it is."""
    written, _, _ = PAGE.read_text(encoding="utf-8").partition(MARK)
    sections = [
        "## Of agents",
        "Seen by the agent's own organisation only.",
        _table(OF_AGENTS),
        "## Of the server",
        "Seen by the organisation `default` only.",
        _table(OF_SERVER),
    ]
    return written + MARK + "\n" + "\n\n".join(sections) + "\n"


def _table(families: Iterable[Family]) -> str:
    rows = ["| metric | kind | labels | meaning |", "|---|---|---|---|"]
    for family in families:
        labels = ", ".join(f"`{label}`" for label in family.labels)
        rows.append(
            f"| `{family.name}` | {_kind(family)} | {labels} | {family.meaning}. |"
        )
    return "\n".join(rows)


def _kind(family: Family) -> str:
    if family.kind is not Kind.HISTOGRAM:
        return family.kind.value
    first, last = family.bounds[0], family.bounds[-1]
    return f"histogram, {len(family.bounds)} buckets from {first:g} to {last:g}"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
