"""`python -m arena_core` is `arena-core`."""

from arena_core.entrypoints.cli import main

if __name__ == "__main__":
    main()
