"""The Prometheus metrics of the workers. `streams.monitoring.health` serves them as `/metrics`."""

from prometheus_client import Counter, Gauge, Histogram

from streams.metrics.histogram import EventHistogram
from streams.metrics.live import LiveMetric

build_info = Gauge("tastestream_build_info", "1; the label is the version of tastestream.", ["worker", "version"])
ready = Gauge("tastestream_ready", "1 while /ready answers 200, else 0.", ["worker"])
disk_free = Gauge("tastestream_disk_free_bytes", "Bytes that are left on the disk of DATA_DIR.", ["worker"])
event_loop_lag = EventHistogram(
    "tastestream_event_loop_lag_seconds",
    "Seconds by which the event loop of a worker was late, four times a second: something kept it busy for so long.",
    ["worker"],
    buckets=(0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5),
)
events = Counter("tastestream_events", "Events processed and acknowledged.", ["worker"])
dead_letters = Counter("tastestream_dead_letters", "Events that became dead letters.", ["worker", "reason"])
quarantined_rows = Counter(
    "tastestream_quarantined_rows", "Rows of the changelog or the disk that cannot be used and are passed over."
)
next_bundle_failures = Counter(
    "tastestream_next_bundle_failures", "Batches of events that NEXT_BUNDLE could not score; BUNDLE scored them."
)
cold_starts = Counter(
    "tastestream_cold_starts", "Recommendations for a bag without an item that can be scored (`cold_start` is true)."
)
unscored_items = Counter(
    "tastestream_unscored_items",
    "Items in bags that were passed over in a recommendation because they have no embedding of BUNDLE's embedder, or "
    "because their TYPE_WEIGHTS are 0. An item counts with each recommendation.",
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
cache_bytes = LiveMetric(
    "tastestream_cache_bytes",
    "Size of the cache of what is known of pictures, by where it is: memory (embeddings) or disk (features).",
    ["where"],
)
cache_age = LiveMetric(
    "tastestream_cache_age_seconds",
    "Seconds since the oldest file of the cache on disk was written; no value while there is none. If it is far below CACHE_MAX_AGE "
    "while the cache is full, CACHE_DISK is too small.",
    ["where"],
)
picture_hosts = LiveMetric(
    "tastestream_picture_hosts",
    "Hosts of pictures that a worker remembers, by the state of their circuit breakers: closed, open, or half-open.",
    ["state"],
)
failing_hosts = LiveMetric(
    "tastestream_picture_host_failures",
    "Share of the recent requests to a host that failed, 0 to 1, for the ten hosts that fail most: those whose circuit breakers are "
    "not closed come first.",
    ["host", "state"],
)
rocksdb_bytes = LiveMetric(
    "tastestream_rocksdb_bytes",
    "Size of the RocksDB databases of a worker, by what is in them (bags, or cache: the features of pictures) and by where it is: disk "
    "or memory.",
    ["database", "where"],
)
rocksdb_stalls = LiveMetric(
    "tastestream_rocksdb_write_stalls",
    "Times that RocksDB made writes slower (delay) or held them up (stop), because it could not flush or compact fast enough. Counts "
    "from zero when a database is opened.",
    ["database", "kind"],
    "counter",
)
decoder_restarts = Counter(
    "tastestream_decoder_restarts",
    "Decoder processes that were replaced, by cause: deadline or memory if a picture was too costly, crash if it ended the "
    "process, killed if something else did, start if it ended before its first picture.",
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
recommendation_seconds = EventHistogram(
    "tastestream_recommendation_seconds",
    "Seconds from the timestamp of an event's record on INTERACTIONS_TOPIC until the brokers have its recommendation. An event that "
    "was sent to the profile worker by an earlier version is not counted.",
    [],
    buckets=(0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300, 1800, 7200),
)
stage_seconds = EventHistogram(
    "tastestream_stage_seconds",
    "Seconds in each stage of the work: queue (an event, from its reading to its start), fetch (a picture, from the request to its "
    "last byte), decode (a picture, with its wait for a decoder), model (a call of a network for several pictures), fold and score (a "
    "micro-batch), delivery (an event in the embed worker, a micro-batch in the profile worker: until the brokers have all of it). "
    "What fails is not counted.",
    ["worker", "stage"],
    buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60),
)
batch_seconds = Histogram(
    "tastestream_batch_seconds",
    "Seconds from taking a micro-batch to its acknowledgement.",
    ["worker"],
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10),
)
commit_age = Gauge(
    "tastestream_commit_age_seconds",
    "Seconds since a worker last committed offsets, or had none to commit; NaN before it has started. Above STALL_TIMEOUT the worker "
    "ends, unless the brokers do not answer.",
    ["worker"],
)
recovery_left = Gauge(
    "tastestream_recovery_left_records",
    "Records of the bags' changelog that a profile worker has yet to read before it takes events, at most; 0 once it has recovered.",
)
recovery_read = Counter(
    "tastestream_recovery_records",
    "Records of the bags' changelog that a profile worker has read in recoveries. Its rate is the speed of a recovery.",
)
recovery_seconds = Gauge("tastestream_recovery_seconds", "Seconds that the last recovery of a profile worker took.")
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
serve_seconds = EventHistogram(
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
standby_lag = Gauge(
    "tastestream_standby_lag",
    "Records of the bags' changelog that a profile worker with STANDBY has not read yet, of partitions that others own; "
    "NaN while it is unknown.",
    ["partition"],
)
group_lag = Gauge(
    "tastestream_group_lag",
    "Unfinished events of a partition of the input or the embedded topic, whether a worker has the partition or not; NaN while it is "
    "unknown. Of the serve worker.",
    ["topic", "partition"],
)
group_lag_seconds = Gauge(
    "tastestream_group_lag_seconds",
    "Age of the oldest of these events, by the time at which it was sent; 0 if there are none, NaN while it is unknown.",
    ["topic", "partition"],
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
