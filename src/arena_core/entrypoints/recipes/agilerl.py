"""The recipe `agilerl`: `python -m arena_core.entrypoints.recipes.agilerl`."""

import sys

from arena_core.entrypoints.recipes.running import run

if __name__ == "__main__":
    sys.exit(run("arena_core.entrypoints.recipes.agilerl_training", "agilerl"))
