"""What only the platform has that the public client was made for: 404, always."""

PLATFORM = "only the hosted platform does."
_ABSENT = {
    "/api/cli/v1/capabilities": "announces no capabilities",
    "/api/cli/v1/environments": "keeps no environments of its users",
    "/api/cli/v1/datasets": "keeps no datasets",
    "/api/cli/v1/models": "has no hub of models",
    "/api/cli/v1/resources": "has no compute to choose from",
    "/api/cli/v1/on-prem": "manages no clusters",
    "/api/cli/v1/experiments/run-spec": "has no default manifests",
    "/api/users/credits": "knows no credits",
}


def absence(path: str) -> str | None:
    """Return why there is nothing at `path`; None if there is nothing to say."""
    for prefix, what in _ABSENT.items():
        if path == prefix or path.startswith(prefix + "/"):
            return f"This server {what}: {PLATFORM}"
    return None
