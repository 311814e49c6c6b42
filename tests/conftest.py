"""What all tests share: how much Hypothesis tries, and how logs are left behind."""

import logging
import os
import sys
import threading

import pytest
from hypothesis import HealthCheck, settings

# Machines are shared and slow at times: what a test means does not depend on that.
COMMON = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("default", max_examples=50, **COMMON)
settings.register_profile(
    "ci", max_examples=50, derandomize=True, database=None, **COMMON
)
settings.register_profile("nightly", max_examples=2000, **COMMON)
settings.load_profile(
    os.environ.get("HYPOTHESIS_PROFILE")
    or ("ci" if os.environ.get("CI") else "default")
)


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name bytes by their length: what they hold, such as a time, may differ.

    Workers that collect the tests in parallel must find the same names.
    """
    return f"{argname} of {len(val)} bytes" if isinstance(val, bytes) else None


@pytest.fixture
def restored_logs():
    """Give back as it was what a server sets up for its process, which is ours here."""
    root, ours = logging.getLogger(), logging.getLogger("arena_core")
    before = root.handlers[:], root.level, ours.level
    hooks = sys.excepthook, threading.excepthook
    yield
    root.handlers[:], _, _ = before
    root.setLevel(before[1])
    ours.setLevel(before[2])
    sys.excepthook, threading.excepthook = hooks
