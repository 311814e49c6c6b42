"""Chains of steps that do nothing, in Prefect on SQLite: prints figures as JSON.

python chain.py CHAINS STEPS

Its server is the one that it starts by itself, in a process beside the flows.
"""

import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

AT_ONCE = 16
stamps: dict[tuple[int, int], list[float]] = {}


def main() -> None:
    chains, steps = int(sys.argv[1]), int(sys.argv[2])
    with TemporaryDirectory(dir=".", ignore_cleanup_errors=True) as folder:
        # It is asked where it keeps things while it is imported.
        os.environ.update(
            PREFECT_HOME=str(Path(folder).absolute()),
            PREFECT_SERVER_ANALYTICS_ENABLED="false",
            PREFECT_LOGGING_LEVEL="ERROR",
            PREFECT_SERVER_LOGGING_LEVEL="ERROR",
            DO_NOT_TRACK="1",
        )
        wall_s = measure(chains, steps)
    between = [
        stamps[chain, number][0] - stamps[chain, number - 1][1]
        for chain, number in stamps
        if number > 0
    ]
    print(json.dumps({"wall_s": wall_s, "between_s": between}))


def measure(chains: int, steps: int) -> float:
    from prefect import flow, task  # noqa: PLC0415

    @task(persist_result=True)  # as a step that is not done again after a crash
    def nothing(chain: int, number: int) -> int:
        begun = time.perf_counter()
        stamps[chain, number] = [begun, time.perf_counter()]
        return number

    @flow
    def run(chain: int, steps: int) -> None:
        for number in range(steps):
            nothing(chain, number)

    run(-1, 1)  # which starts its server
    stamps.clear()
    begun = time.perf_counter()
    with ThreadPoolExecutor(min(AT_ONCE, chains)) as pool:
        for done in [pool.submit(run, chain, steps) for chain in range(chains)]:
            done.result()
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
