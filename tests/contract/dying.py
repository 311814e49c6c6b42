"""A process that starts a training and is killed at its nth step.

`python dying.py FOLDER ORDER NTH`: a step is whatever the interpreter tells an audit
hook of, such as a file that is opened or renamed, or a process that is started.  It
prints how many there were, if it lives to do so.
"""

import os
import signal
import sys
from pathlib import Path

STEPS = ("open", "os.", "fcntl.", "subprocess.")
KILLER = f"""
import os, signal, sys
_nth, _seen = int({{nth}}), [0]
def _count(event, arguments):
    if event.startswith({STEPS!r}):
        _seen[0] += 1
        if _seen[0] == _nth:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(_count)
"""
"""Code that kills the process which runs it at one of its steps."""


def main():
    import msgspec  # noqa: PLC0415 -- before the steps are counted

    from arena_core.application.trainer import Order  # noqa: PLC0415

    from contract.run_processes import shell  # noqa: PLC0415

    folder, order = Path(sys.argv[1]), msgspec.json.decode(sys.argv[2], type=Order)
    trainer = shell(folder, ends_with_us="tied" in sys.argv)

    def lay_out(place):
        (place / "start").mkdir()
        (place / "start" / "weights").write_text("w")

    steps = [0]

    def count(event, arguments):
        del arguments
        if event.startswith(STEPS):
            steps[0] += 1
            if steps[0] == int(sys.argv[3]):
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    trainer.start(order, lay_out)
    sys.stdout.write(f"{steps[0]}\n")
    sys.stdout.flush()
    if "stay" in sys.argv:
        sys.stdin.read()


if __name__ == "__main__":
    main()
