"""The wire of the public client `agilerl-arena`, as its releases expect it.

Names identify things here, success is always 200 with JSON, and an error is one plain
sentence in `detail`: see `errors.respond`.
"""

from arena_core.entrypoints.http.arena_cli import (
    deployments,
    experiments,
    metrics,
    projects,
    users,
)

ENDPOINTS = (
    *users.ENDPOINTS,
    *projects.ENDPOINTS,
    *experiments.ENDPOINTS,
    *metrics.ENDPOINTS,
    *deployments.ENDPOINTS,
)
