"""Trainings that the contract has run: the same functions in threads and in processes.

`python trainings.py NAME` runs one of them as a program.
"""

import json
import os
import sys
import time
from pathlib import Path

from arena_core import training

SCRIPTS = {}
POINTS = 30_000


class Program(training.Run):
    """What a function gets that runs in a process."""

    def print(self, line):
        print(line, flush=True)  # noqa: T201 -- into its log

    def wait(self, timeout_s):
        self._asked_to_stop.wait(timeout_s)
        return self.should_stop


def script(function):
    SCRIPTS[function.__name__] = function
    return function


def bundle(text):
    return lambda folder: (folder / "weights").write_text(text)


def until_stopped(run):
    while not run.wait(0.01):
        pass


@script
def says_things(run):
    with Path(run.config["ledger"]).open("a") as ledger:
        ledger.write("started\n")
    run.print("hello")
    for step in (1, 2, 3):
        run.log(step, score=step / 2, loss=0.5)
    run.checkpoint(3, bundle("three"))
    run.log(10, fitness=7.0)
    run.checkpoint(10, bundle("ten"))


@script
def goes_on(run):
    run.log(1, score=1.0)
    until_stopped(run)
    run.checkpoint(2, bundle("last"))


@script
def sets_out(run):
    """Takes its time before its first step, and does what its config says of it."""
    if "total" in run.config:
        (run.folder / "progress.json").write_text(run.config["total"])
    run.wait(run.config["loads_s"])
    step = run.config.get("first", 0)
    while not run.wait(0.01):
        step += 10
        run.log(step)


@script
def ignores_stop(run):
    run.log(1, score=1.0)
    while True:
        run.wait(0.01)
        time.sleep(0.01)


@script
def crashes(run):
    run.print("about to fail")
    raise RuntimeError("it went wrong")


@script
def exits(run):
    del run
    raise SystemExit(7)


@script
def prints_strange_things(run):
    for line in ("\x1b[31mred\x1b[0m", "\x1b]0;title\x07set", "a\x00b\x07c\rd\te"):
        run.print(line)
    run.print("x" * 100_000)
    run.print("last")


@script
def writes_lines(run):
    """Exactly those of its config, as bytes that JSON can hold."""
    with (run.folder / "metrics.jsonl").open("wb") as file:
        for line in run.config["lines"]:
            file.write(line.encode("latin-1"))


@script
def writes_a_line_in_two_parts(run):
    with (run.folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 1, "score": 1}\n{"step": 2, ')
        file.flush()
        until_stopped(run)
        file.write('"score": 2}\n')


@script
def writes_entries(run):
    """Things that lie among the checkpoints."""
    place = run.folder / "checkpoints"
    place.mkdir()
    (place / "5").mkdir()
    for kind, name in run.config["entries"]:
        if kind == "folder":
            (place / name).mkdir()
        elif kind == "file":
            (place / name).touch()
        else:
            (place / name).symlink_to(place / "5")


@script
def has_other_kinds(run):
    for name in ("metrics.jsonl", "checkpoints"):
        place = run.folder / name
        if run.config["kind"] == "link":
            place.symlink_to("/etc")
        elif name == "checkpoints":
            place.touch()
        else:
            place.mkdir()


@script
def shortens_its_metrics(run):
    run.log(1, score=1.0)
    until_stopped(run)
    (run.folder / "metrics.jsonl").write_text("")


@script
def says_much(run):
    with (run.folder / "metrics.jsonl").open("w") as file:
        for step in range(POINTS):
            file.write(f'{{"step": {step}, "score": 1.0}}\n')
    run.checkpoint(POINTS, bundle("much"))


@script
def writes_a_checkpoint_again(run):
    run.checkpoint(1, bundle("first"))
    until_stopped(run)
    run.checkpoint(1, bundle("second"))


@script
def keeps_states(run):
    for step in (1, 2, 3):
        run.log(step, score=1.0)
        run.checkpoint(step, bundle("b"), state=bundle(f"state {step}"))


@script
def tells_what_it_was_told(run):
    def text(place):
        return place and (place / "weights").read_text()

    resume = run.resume and [run.resume.step, text(run.resume.bundle)]
    state = run.resume and text(run.resume.state)
    told = {
        "recipe": run.order["recipe"],
        "source": run.order["source"]["name"],
        "config": run.config,
        "seed": run.seed,
        "max_steps": run.max_steps,
        "first_step": run.first_step,
        "start": text(run.start),
        "decoder": text(run.decoder),
        "resume": resume,
        "state": state,
    }
    run.print(json.dumps(told))


if __name__ == "__main__":
    with Program(os.environ) as program:
        SCRIPTS[sys.argv[1]](program)
