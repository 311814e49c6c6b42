"""The data plane against its limit and its peers: the table of the goals.

Both of a pair are up together and take turns of one second; what is quoted are medians
of the rounds' ratios.  The load comes from a process of its own.  A peer lives in an
environment of its own, which is made first; one that cannot be installed or started is
said to be so, and stops nothing.  Takes ten minutes or so beyond the installing.

    make bench-peers
    make bench-peers OPTIONS="--peers mosec,litserve --rounds 9 --out raw.json"
"""

import argparse
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

import msgspec

from machine import describe, memory_backed_folder
from peers.catalogue import PEERS, Peer, echo
from peers.comparing import Contest, Findings, Load
from peers.environments import requirements
from peers.ours import ours
from peers.server import running
from peers.table import CNN_CONNECTIONS, CONNECTIONS, goals, modes
from peers.windows import has_wrk, warm_up
from peers.workloads import nature_cnn, perceptron

HALF_LOAD_CONNECTIONS = 64


def main() -> None:
    given = _arguments()
    chosen = [peer for peer in PEERS if peer.name in given.peers.split(",")]
    load, findings = Load(given.rounds, given.seconds), Findings()
    signal.signal(signal.SIGTERM, _interrupted)
    with memory_backed_folder() as folder:
        _perceptron(folder, chosen, load, findings)
        if not given.no_cnn:
            _cnn(folder, chosen, load, findings)
    _print(given, findings, chosen)
    if any(comparison.failures[0] for comparison in findings.comparisons):
        sys.exit("Ours has answered with something else than 200.")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = ",".join(peer.name for peer in PEERS)
    parser.add_argument("--peers", default=names, help="of %(default)s")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="of one turn")
    parser.add_argument("--no-cnn", action="store_true", help="the perceptron only")
    parser.add_argument("--out", type=Path, help="write every window here, as JSON")
    return parser.parse_args()


def _interrupted(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def _perceptron(
    folder: Path, chosen: Sequence[Peer], load: Load, findings: Findings
) -> None:
    workload = perceptron(folder)
    launch = ours(folder / "ours", workload)
    findings.start_cold((launch, echo()), workload, load.rounds)
    with running(launch, workload) as own:
        warm_up(own, load.seconds)
        contest = Contest(own, workload, CONNECTIONS, load, findings)
        with running(echo(), workload) as bare:
            contest.take_turns(bare)
            findings.compare_at_half_load(own, bare, HALF_LOAD_CONNECTIONS, load)
        for peer in chosen:
            contest.against(peer)


def _cnn(folder: Path, chosen: Sequence[Peer], load: Load, findings: Findings) -> None:
    workload = nature_cnn(folder)
    inline = ours(folder / "inline", workload, name="inline", inline=True)
    with running(ours(folder / "batching", workload), workload) as own:
        warm_up(own, load.seconds)
        contest = Contest(own, workload, CNN_CONNECTIONS, load, findings)
        contest.against_one(inline)
        for peer in chosen:
            if peer.serves_frames:
                contest.against(peer)


def _print(
    given: argparse.Namespace, findings: Findings, chosen: Sequence[Peer]
) -> None:
    generator = "wrk" if has_wrk(given.seconds) else "bench/load.py"
    conditions = [
        describe(),
        ", ".join([*_releases(chosen), f"load by {generator}"]),
        f"{given.rounds} rounds of {given.seconds:g} s, medians of ratios",
    ]
    print("\n".join(["", *conditions, "", goals(findings)]))
    print(f"\n{modes(findings)}\n")
    for name, reason in findings.failed.items():
        print(f"{name} was not measured: {reason}")
    if given.out:
        raw = msgspec.json.encode({"conditions": conditions, "findings": findings})
        given.out.write_bytes(msgspec.json.format(raw))


def _releases(chosen: Sequence[Peer]) -> Iterator[str]:
    for peer in chosen:
        lines = requirements(peer.name).splitlines()
        yield next(line for line in lines if peer.name in line).replace("==", " ")


if __name__ == "__main__":
    main()
