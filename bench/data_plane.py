"""get_action over HTTP beside a bare Starlette echo and FastAPI: the quick comparison.

Ours and the other are up together and take turns of one second; what is quoted are
medians of the rounds' ratios, ours over the other.  `python -m peers.run` compares
with everything else.

    python bench/data_plane.py [--rounds 5] [--seconds 1]
"""

import argparse

from machine import describe, memory_backed_folder
from peers.catalogue import FASTAPI, echo
from peers.comparing import Contest, Findings, Load
from peers.ours import ours
from peers.server import running
from peers.table import CONNECTIONS
from peers.windows import Comparison, warm_up
from peers.workloads import perceptron


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0)
    given = parser.parse_args()
    load, findings = Load(given.rounds, given.seconds), Findings()
    with memory_backed_folder() as folder:
        workload = perceptron(folder)
        with running(ours(folder / "ours", workload), workload) as own:
            warm_up(own, load.seconds)
            contest = Contest(own, workload, CONNECTIONS, load, findings)
            contest.against_one(echo())
            contest.against(FASTAPI)
    print(f"{describe()}\n{given.rounds} rounds of {given.seconds:g} s\n")
    print("| beside | connections | requests/s | CPU/request | p50 | p99 | us CPU |")
    print("|---|---|---|---|---|---|---|")
    print("\n".join(_line(comparison) for comparison in findings.comparisons))
    for name, reason in findings.failed.items():
        print(f"{name} was not measured: {reason}")


def _line(comparison: Comparison) -> str:
    figures = ("rate", "cpu_us", "p50_ms", "p99_ms")
    ratios = [f"{comparison.ratio(figure):.2f}" for figure in figures]
    cpu_us, _ = comparison.medians("cpu_us")
    cells = [comparison.second, str(comparison.connections), *ratios, f"{cpu_us:.0f}"]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
