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
