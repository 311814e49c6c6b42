"""/v2: the Open Inference Protocol, version 2, for agents that are live."""

from arena_core.entrypoints.http.open_inference.plane import OpenInference

__all__ = ["OpenInference"]
