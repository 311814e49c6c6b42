"""Comparing servers two by two, and keeping what was found."""

import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from attrs import field, frozen

from peers import processes
from peers.catalogue import Peer
from peers.environments import InstallError
from peers.server import Launch, Server, ServingError, running
from peers.windows import Comparison, Window, scheduled, warm_up, window
from peers.workloads import Workload


@frozen
class Load:
    """How long to measure."""

    rounds: int
    seconds: float


@frozen
class Memory:
    megabytes: float
    """Proportional set size of all of the server's processes."""
    processes: int


@frozen
class Findings:
    """All that was measured.  Servers go by their workload and their name."""

    comparisons: list[Comparison] = field(factory=list)
    memory: dict[str, Memory] = field(factory=dict)
    cold_s: dict[str, list[float]] = field(factory=dict)
    failed: dict[str, str] = field(factory=dict)
    """Why a server, or a whole peer, was not measured."""
    half_load: list[Comparison] = field(factory=list)
    """Under half of what the slower of both can do, on a constant schedule."""

    def compare(
        self, first: Server, second: Server, connections: Iterable[int], load: Load
    ) -> None:
        """Let both take turns; then take the memory that they have."""
        for count in connections:
            measure = partial(window, connections=count, seconds=load.seconds)
            taken = _in_turns(first, second, count, load.rounds, measure)
            self.comparisons.append(taken)
        for server in (first, second):
            self.memory[server.label] = Memory(*processes.memory_mb(server.process))

    def compare_at_half_load(
        self, first: Server, second: Server, connections: int, load: Load
    ) -> None:
        """Must follow `compare` of the same with as many connections."""
        full = next(c for c in self.comparisons if c.connections == connections)
        measure = partial(
            scheduled,
            connections=connections,
            seconds=load.seconds,
            rate=min(full.medians("rate")) / 2,
        )
        taken = _in_turns(first, second, connections, load.rounds, measure)
        self.half_load.append(taken)

    def fail(self, workload: str, name: str, error: Exception) -> None:
        say(f"{workload} {name}: {error}")
        self.failed[f"{workload} {name}"] = str(error)

    def failures(self, workload: str, peer: str) -> list[str]:
        """Return which modes of `peer` were not measured."""
        return [
            label
            for label in self.failed
            if label.startswith(f"{workload} ")
            and mode_of(peer, label.removeprefix(f"{workload} "))
        ]

    def start_cold(
        self, launches: Sequence[Launch], workload: Workload, rounds: int
    ) -> None:
        say("cold starts")
        for _ in range(rounds):
            for launch in launches:
                with running(launch, workload) as server:
                    self.started(server)

    def started(self, server: Server) -> None:
        self.cold_s.setdefault(server.label, []).append(server.cold_s)

    def of(self, workload: str, peer: str, connections: int) -> list[Comparison]:
        """Return ours beside each mode of `peer`."""
        return [
            comparison
            for comparison in self.comparisons
            if comparison.workload == workload
            and comparison.connections == connections
            and mode_of(peer, comparison.second)
        ]


@frozen
class Contest:
    """Ours, which is running, against others: one after the other."""

    own: Server
    workload: Workload
    connections: Sequence[int]
    load: Load
    findings: Findings

    def against(self, peer: Peer) -> None:
        say(f"{peer.label}: its environment")
        try:
            modes = peer.modes()
        except InstallError as error:
            self.findings.fail(self.own.workload, peer.name, error)
            return
        for mode in modes:
            self.against_one(mode)

    def against_one(self, launch: Launch) -> None:
        try:
            with running(launch, self.workload) as server:
                self.findings.started(server)
                self.take_turns(server)
        except (ServingError, OSError, subprocess.SubprocessError) as error:
            self.findings.fail(self.own.workload, launch.name, error)

    def take_turns(self, server: Server) -> None:
        warm_up(server, self.load.seconds)
        self.findings.compare(self.own, server, self.connections, self.load)


def _in_turns(
    first: Server,
    second: Server,
    connections: int,
    rounds: int,
    measure: Callable[[Server], Window],
) -> Comparison:
    say(f"{first.label} and {second.name}, connections: {connections}")
    return Comparison(
        first.workload,
        connections,
        first.name,
        second.name,
        tuple((measure(first), measure(second)) for _ in range(rounds)),
    )


def mode_of(peer: str, server: str) -> bool:
    return server.partition(",")[0] == peer


def say(text: str) -> None:
    """Tell how far it is, beside what is printed at the end."""
    sys.stderr.write(f"  {text}\n")
    sys.stderr.flush()
