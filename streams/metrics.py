"""The Prometheus metrics of the workers. `streams.monitoring.health` serves them as `/metrics`."""

from prometheus_client import Counter, Gauge, Histogram

events = Counter("tastestream_events", "Events processed and acknowledged.", ["worker"])
dead_letters = Counter("tastestream_dead_letters", "Events that became dead letters.", ["worker", "reason"])
quarantined_rows = Counter(
    "tastestream_quarantined_rows", "Rows of the changelog or the disk that cannot be used and are passed over."
)
next_bundle_failures = Counter(
    "tastestream_next_bundle_failures", "Batches of events that NEXT_BUNDLE could not score; BUNDLE scored them."
)
pictures = Counter(
    "tastestream_pictures",
    "Embeddings looked up, by where they or their features came from: memory, disk, fetch, or failure if the picture cannot be "
    "fetched.",
    ["where"],
)
features_followed = Counter(
    "tastestream_features_followed",
    "Records of FEATURES_TOPIC that were read, by what became of them: kept, forgotten (a tombstone), skipped (of other bundles, too "
    "old, or known already), or refused because they cannot be used.",
    ["what"],
)
features_lag = Gauge(
    "tastestream_features_lag",
    "Records of FEATURES_TOPIC that an embed worker has not read yet; -1 while it does not follow the topic.",
)
items = Counter(
    "tastestream_items",
    "Records of ITEMS_TOPIC that an embed worker has processed, by what became of them: embedded, known (their pictures have "
    "features), removed (a null), or refused because they became dead letters.",
    ["what"],
)
items_lag = Gauge(
    "tastestream_items_lag",
    "Records of ITEMS_TOPIC of the assigned partitions that are not processed yet; -1 while an embed worker does not read it.",
)
catalogue_items = Gauge("tastestream_catalogue_items", "Items in the catalogue of a serve worker.")
catalogue_lag = Gauge(
    "tastestream_catalogue_lag",
    "Records of ITEMS_TOPIC that a serve worker has not read yet; -1 while it does not follow the topic.",
)
catalogue_followed = Counter(
    "tastestream_catalogue_followed",
    "Records of ITEMS_TOPIC that a serve worker has read, by what became of them: kept, removed (a null), or refused because they "
    "cannot be used.",
    ["what"],
)
decoder_restarts = Counter(
    "tastestream_decoder_restarts",
    "Decoder processes that were replaced, by cause: deadline or memory if a picture was too costly, crash if it ended the "
    "process, killed if something else did.",
    ["cause"],
)
in_flight = Gauge("tastestream_in_flight", "Events in flight: taken, and not yet acknowledged.", ["worker"])
lag = Gauge(
    "tastestream_lag",
    "Events of the assigned partitions that are not acknowledged yet; -1 while it is unknown, and /ready says why.",
    ["worker"],
)
held_back = Gauge(
    "tastestream_held_back",
    "Events behind a transaction that is still open; they are read, and count as lag, once it commits or aborts.",
    ["worker"],
)
batch_seconds = Histogram(
    "tastestream_batch_seconds",
    "Seconds from taking a micro-batch to its acknowledgement.",
    ["worker"],
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10),
)
bundle_info = Gauge(
    "tastestream_bundle_info",
    "1 for each bundle in use: its name, version and embedder, and its role, served (BUNDLE) or next (NEXT_BUNDLE).",
    ["worker", "role", "name", "version", "embedder"],
)
bundle_since = Gauge(
    "tastestream_bundle_since_seconds",
    "When the bundle in use was loaded, seconds since the epoch.",
    ["worker", "role"],
)
bundle_swaps = Counter(
    "tastestream_bundle_swaps", "Bundles that were loaded in place of others without a restart.", ["worker", "role"]
)
bundle_refusals = Counter(
    "tastestream_bundle_refusals",
    "Bundles that were refused while another one was in use: damaged, or of another embedder; the log says why.",
    ["worker", "role"],
)
trend_lag = Gauge(
    "tastestream_trend_lag",
    "Records of CATEGORY_TREND_TOPIC that a profile worker has not read yet; -1 while it does not follow the topic.",
)
trend_written = Gauge(
    "tastestream_trend_written_seconds",
    "When the newest snapshot that a profile worker scores with was written, seconds since the epoch.",
)
trend_refused = Counter(
    "tastestream_trend_refused", "Records of CATEGORY_TREND_TOPIC that cannot be used and are passed over."
)
trend_published = Counter(
    "tastestream_trend_published", "Snapshots that a profile worker wrote to CATEGORY_TREND_TOPIC."
)
trend_uncounted = Gauge(
    "tastestream_trend_uncounted",
    "Assigned partitions whose bags are being counted; their last snapshots stay in force.",
)
trend_scan_seconds = Histogram(
    "tastestream_trend_scan_seconds",
    "Seconds in which the bags of a partition were counted after an assignment.",
    buckets=(0.1, 1, 5, 15, 60, 300, 900, 3600),
)
serve_requests = Counter(
    "tastestream_serve_requests",
    "Requests to the HTTP API that were answered, by route, method and status.",
    ["route", "method", "status"],
)
serve_seconds = Histogram(
    "tastestream_serve_seconds",
    "Seconds from a request to its answer, by route; a stream counts when it ends.",
    ["route"],
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 5, 30),
)
serve_streams = Gauge("tastestream_serve_streams", "Open streams of changes (/v1/stream).")
serve_streams_dropped = Counter(
    "tastestream_serve_streams_dropped", "Streams that were closed because their client read too slowly or went away."
)
serve_connections_refused = Counter(
    "tastestream_serve_connections_refused", "Connections to the HTTP API beyond SERVE_CONNECTIONS, answered with 503."
)
replica_lag = Gauge(
    "tastestream_replica_lag",
    "Records of the bags' changelog that a serve worker has not read yet; -1 while it is unknown.",
    ["partition"],
)
replica_age = Gauge(
    "tastestream_replica_age_seconds",
    "Seconds since a serve worker last held all bags of a partition; -1 if it never did.",
    ["partition"],
)
replica_reads = Counter(
    "tastestream_replica_reads", "Bags that were read by a serve worker, by where they were: memory or disk.", ["where"]
)
replica_cached = Gauge("tastestream_replica_cached_bags", "Bags that a serve worker has in memory.")
