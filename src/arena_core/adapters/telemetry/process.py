"""What this process takes of the machine, as the Prometheus client finds it."""

from functools import cache
from typing import TYPE_CHECKING

from arena_core.application.readings import ProcessReading

if TYPE_CHECKING:
    from prometheus_client import ProcessCollector


def measure() -> ProcessReading | None:
    """Return the figures of this process; None where there is no `/proc`."""
    found = {
        sample.name: sample.value
        for family in _collector().collect()
        for sample in family.samples
    }
    if "process_cpu_seconds_total" not in found:
        return None
    return ProcessReading(
        cpu_ms=round(1000 * found["process_cpu_seconds_total"]),
        resident_bytes=found["process_resident_memory_bytes"],
        virtual_bytes=found["process_virtual_memory_bytes"],
        open_fds=found.get("process_open_fds", 0.0),
        max_fds=found.get("process_max_fds", 0.0),
        started_at_s=found["process_start_time_seconds"],
    )


@cache
def _collector() -> "ProcessCollector":
    # Loaded when it is first needed: a process that is not watched never is.
    from prometheus_client import ProcessCollector  # noqa: PLC0415

    return ProcessCollector(registry=None)
