"""The command line: thin, over the same use cases as the library and the HTTP API."""

from arena_core.entrypoints.cli.main import main

__all__ = ["main"]
