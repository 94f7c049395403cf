"""The metrics that the workers count, in Prometheus' terms; `streams.monitoring.health` serves them as `/metrics`."""

from prometheus_client import Counter, Gauge, Histogram

events = Counter("tastestream_events", "events acknowledged", ["worker"])
dead_letters = Counter("tastestream_dead_letters", "events that became dead letters", ["worker", "reason"])
pictures = Counter("tastestream_pictures", "embeddings found, by where", ["where"])  # memory, disk, fetch, failure
in_flight = Gauge("tastestream_in_flight", "events that are being worked on", ["worker"])
lag = Gauge("tastestream_lag", "events of the assigned partitions that are not finished; -1: no broker", ["worker"])
batch_seconds = Histogram(
    "tastestream_batch_seconds",
    "time from taking a micro-batch to its acknowledgement",
    ["worker"],
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10),
)
