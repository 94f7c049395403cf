"""The metrics of the supervisor of `worker all`, in a registry of their own: those of the workers are not its own."""

from prometheus_client import CollectorRegistry, Counter, Gauge

registry = CollectorRegistry()

worker_up = Gauge(
    "tastestream_worker_up", "1 while the process of a worker runs, else 0.", ["worker"], registry=registry
)
worker_restarts = Counter(
    "tastestream_worker_restarts",
    "Workers that ended by themselves and were started again.",
    ["worker"],
    registry=registry,
)
worker_scraped = Gauge(
    "tastestream_worker_scraped",
    "1 if the metrics of a worker are on this page, else 0: it does not answer, or it asks for a token.",
    ["worker"],
    registry=registry,
)
