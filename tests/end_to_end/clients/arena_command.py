"""The command `arena` of agilerl-arena, for many commands one after the other.

Runs where that package is and nothing of ours (see `environments.py`).  To import it
takes most of the time of a command: here that is done once, and each command is a fork
of this process, with arguments, environment, folder and output of its own.  Each line
of stdin is a JSON object, a command; each line of stdout is its exit status.
"""

import json
import os
import sys
import traceback

from agilerl.arena.cli import main as arena


def run(words, environ, folder, out, err):
    """Be the command from now on, without a terminal; never return."""
    os.environ.update(environ)
    os.chdir(folder)
    for descriptor, path in enumerate((os.devnull, out, err)):
        flags = os.O_RDONLY if descriptor == 0 else os.O_WRONLY | os.O_CREAT
        os.dup2(os.open(path, flags, 0o600), descriptor)
    code = 1
    try:
        arena(words, prog_name="arena")
    except SystemExit as ended:
        code = ended.code or 0
    except BaseException:  # noqa: BLE001 -- as the interpreter does
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def main():
    for line in sys.stdin:
        command = json.loads(line)
        child = os.fork()
        if child == 0:
            run(**command)
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
