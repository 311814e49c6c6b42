"""What it takes to know whose token it is, at an unchanged log and after each event.

    python bench/identity.py [--rounds 5] [--calls 2000] [--members 100]

Between two events a caller is found again by the SHA-256 of the token; after one, the
token, its user and the organisation are read anew.  The store is an SQLite file in
memory-backed storage, opened as a server opens it.
"""

import argparse
import statistics
import time
from pathlib import Path

import arena_core
from arena_core.application.identity import authenticate

from machine import describe, memory_backed_folder

EVENTS = 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--members", type=int, default=100)
    arguments = parser.parse_args()
    print(describe())
    with memory_backed_folder() as folder:
        measure(folder / "arena.db", arguments)


def measure(path: Path, arguments: argparse.Namespace) -> None:
    with arena_core.open(path, serve=False) as arena:
        for number in range(arguments.members - 1):
            arena.tokens.issue(name="t", user=f"user {number}")
        tokens = {
            "personal token": arena.tokens.issue(name="t", user="ada").token,
            "key of an organisation": arena.tokens.issue(name="t", kind="org").token,
        }
        print(f"{arguments.members} members; microseconds, median of the rounds\n")
        print("| what | at an unchanged log | after an event |")
        print("|---|---|---|")
        for name, token in tokens.items():
            of_rounds = [
                (kept(arena, token, arguments.calls), anew(arena, token))
                for _ in range(arguments.rounds)
            ]
            medians = map(statistics.median, zip(*of_rounds, strict=True))
            print(f"| {name} | {' | '.join(f'{us:.1f}' for us in medians)} |")


def kept(arena: arena_core.Arena, token: str, calls: int) -> float:
    """Return the microseconds that one of many calls takes while nothing happens."""
    core = arena.application.core
    begun = time.perf_counter()
    for _ in range(calls):
        authenticate(core, token)
    return (time.perf_counter() - begun) / calls * 1e6


def anew(arena: arena_core.Arena, token: str) -> float:
    """Return the microseconds that a call takes after something has happened."""
    core = arena.application.core
    project = arena.projects.create("bench")
    taken = 0.0
    for number in range(EVENTS):
        arena.projects.edit(project.id, name=f"bench {number}")
        begun = time.perf_counter()
        authenticate(core, token)
        taken += time.perf_counter() - begun
    return taken / EVENTS * 1e6


if __name__ == "__main__":
    main()
