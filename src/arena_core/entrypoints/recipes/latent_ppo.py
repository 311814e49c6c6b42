"""The recipe `latent_ppo`: `python -m arena_core.entrypoints.recipes.latent_ppo`."""

import sys

from arena_core.entrypoints.recipes.running import run

if __name__ == "__main__":
    sys.exit(run("arena_core.entrypoints.recipes.latent_ppo_training", "latent-ppo"))
