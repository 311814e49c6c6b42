"""The recipe `supervised`: `python -m arena_core.entrypoints.recipes.supervised`."""

import sys

from arena_core.entrypoints.recipes.running import run

if __name__ == "__main__":
    sys.exit(run("arena_core.entrypoints.recipes.supervised_training", "supervised"))
