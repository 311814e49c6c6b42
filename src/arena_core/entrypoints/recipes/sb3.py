"""The recipe `sb3`: `python -m arena_core.entrypoints.recipes.sb3`."""

import sys

from arena_core.entrypoints.recipes.running import run

if __name__ == "__main__":
    sys.exit(run("arena_core.entrypoints.recipes.sb3_training", "sb3"))
