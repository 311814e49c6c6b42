"""Checkpoints of Stable-Baselines3 and sb3-contrib, read without either."""

from arena_core.adapters.converters.sb3.conversion import convert

__all__ = ["convert"]
