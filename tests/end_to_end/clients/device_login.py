"""Signs in and out as users of agilerl-arena do; tells what came of it as JSON.

Runs where that package is and nothing of ours (see `environments.py`).  The arguments
are what is done, in this order, by one client that finds on disk what an earlier one
has left: login, projects, logout.
"""

import json
import sys
from pathlib import Path

from agilerl.arena.client import ArenaClient
from agilerl.arena.exceptions import ArenaError

KEPT = Path.home() / ".arena" / "credentials.json"


def kept():
    """Return what the client has on disk for the next time."""
    return json.loads(KEPT.read_text()) if KEPT.exists() else None


def done(client, what):
    """Return what one thing came to: what it returned, or which error it raised."""
    try:
        if what == "login":
            return {"returned": client.login(timeout=60)}
        if what == "projects":
            return {"returned": client.list_projects()}
        return {"returned": client.logout()}
    except ArenaError as error:
        return {"error": type(error).__name__, "text": str(error)}


def main():
    client = ArenaClient()
    for what in sys.argv[1:]:
        met = {**done(client, what), "kept": kept()}
        sys.stdout.write(json.dumps(met) + "\n")


main()
