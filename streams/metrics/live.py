"""A metric whose labels and values are asked for at each scrape: for what comes and goes, such as hosts and databases."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal

from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector
from typing_extensions import override

Rows = Iterable[tuple[Sequence[str], float]]
"""Label values, each with the value of the metric."""


class LiveMetric(Collector):
    """A gauge or a counter that is read from its sources. A counter may fall when something that it counts is closed."""

    def __init__(
        self,
        name: str,
        documentation: str,
        labelnames: Sequence[str],
        kind: Literal["gauge", "counter"] = "gauge",
        registry: CollectorRegistry = REGISTRY,
    ) -> None:
        """Make a metric without sources, and register it."""
        self._name = name
        self._documentation = documentation
        self.labelnames = tuple(labelnames)
        self._family = GaugeMetricFamily if kind == "gauge" else CounterMetricFamily
        self._sources: dict[str, Callable[[], Rows]] = {}
        registry.register(self)

    def watch(self, owner: str, rows: Callable[[], Rows]) -> None:
        """Ask `rows` at each scrape, in place of the earlier source of the same owner. The owners' labels must differ."""
        self._sources[owner] = rows

    def forget(self, owner: str) -> None:
        """Ask the source of an owner no more."""
        self._sources.pop(owner, None)

    def describe(self) -> Iterable[GaugeMetricFamily | CounterMetricFamily]:
        """The family without values, by which the registry knows the names."""
        return [self._family(self._name, self._documentation, labels=self.labelnames)]

    @override
    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        [family] = self.describe()
        for rows in list(self._sources.values()):
            for labels, value in rows():
                family.add_metric(labels, value)
        yield family
