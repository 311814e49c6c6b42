"""Chains of steps that do nothing, in DBOS on SQLite: prints figures as JSON.

python chain.py CHAINS STEPS
"""

import json
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from dbos import DBOS, SetWorkflowID

stamps: dict[tuple[str, int], list[float]] = {}


@DBOS.step()
def nothing(chain: str, number: int) -> int:
    begun = time.perf_counter()
    stamps[chain, number] = [begun, time.perf_counter()]
    return number


@DBOS.workflow()
def run(chain: str, steps: int) -> None:
    for number in range(steps):
        nothing(chain, number)


def main() -> None:
    chains, steps = int(sys.argv[1]), int(sys.argv[2])
    with TemporaryDirectory(dir=".") as folder:
        database = Path(folder).absolute() / "dbos.sqlite"
        DBOS(
            config={
                "name": "chain",
                "system_database_url": f"sqlite:///{database}",
                "run_admin_server": False,
                "log_level": "ERROR",
            }
        )
        DBOS.launch()
        begun = time.perf_counter()
        handles = []
        for number in range(chains):
            with SetWorkflowID(f"c{number}"):
                handles.append(DBOS.start_workflow(run, f"c{number}", steps))
        for handle in handles:
            handle.get_result()
        wall_s = time.perf_counter() - begun
        DBOS.destroy()
    between = [
        stamps[chain, number][0] - stamps[chain, number - 1][1]
        for chain, number in stamps
        if number > 0
    ]
    print(json.dumps({"wall_s": wall_s, "between_s": between}))


if __name__ == "__main__":
    main()
