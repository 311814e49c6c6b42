"""What a family of series is, and how the Prometheus client comes to write it."""

from collections.abc import Callable, Iterable
from enum import Enum
from itertools import accumulate
from typing import TYPE_CHECKING, Any, TypeAlias

from attrs import frozen

from arena_core.application.monitoring import Scrape
from arena_core.application.readings import HistogramReading

if TYPE_CHECKING:
    from prometheus_client.core import Metric

Labels: TypeAlias = tuple[str, ...]
Sample: TypeAlias = tuple[Labels, Any]
"""The values of the family's labels, and a number or, of a histogram, its reading."""


class Kind(Enum):
    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"
    INFO = "info"
    """Always 1: its labels are what it says."""


@frozen
class Family:
    """All series of one name."""

    name: str
    kind: Kind
    labels: Labels
    meaning: str
    samples: Callable[[Scrape], Iterable[Sample]]
    bounds: tuple[float, ...] = ()
    """Of a histogram: the upper ones of its buckets."""

    def metric(self, scrape: Scrape) -> "Metric":
        """Return it as the Prometheus client takes it."""
        if self.kind is Kind.HISTOGRAM:
            return self._histogram(scrape)
        if self.kind is Kind.INFO:
            return self._info(scrape)
        from prometheus_client import core  # noqa: PLC0415 -- see `http.metrics`

        is_counter = self.kind is Kind.COUNTER
        make = core.CounterMetricFamily if is_counter else core.GaugeMetricFamily
        family = make(self.name, self.meaning, labels=self.labels)
        for labels, value in self.samples(scrape):
            family.add_metric(labels, value)
        return family

    def _histogram(self, scrape: Scrape) -> "Metric":
        from prometheus_client import core, utils  # noqa: PLC0415

        upper = [*map(utils.floatToGoString, self.bounds), "+Inf"]
        family = core.HistogramMetricFamily(self.name, self.meaning, labels=self.labels)
        for labels, value in self.samples(scrape):
            reading: HistogramReading = value
            buckets = list(zip(upper, accumulate(reading.counts), strict=True))
            family.add_metric(labels, buckets, reading.sum)
        return family

    def _info(self, scrape: Scrape) -> "Metric":
        from prometheus_client import core  # noqa: PLC0415

        family = core.InfoMetricFamily(self.name.removesuffix("_info"), self.meaning)
        for labels, _ in self.samples(scrape):
            family.add_metric((), dict(zip(self.labels, labels, strict=True)))
        return family
