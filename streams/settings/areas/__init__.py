"""The settings by area. A class has the fields of its area, the rules that their values have to meet, and what follows from them.

kafka.py    the connection to the brokers, and how workers read and write: BROKER, SASL_*, TLS_*, the timeouts
topics.py   the topics, and what is named after NAMESPACE: *_TOPIC, PARTITIONS, *_RETENTION, the groups, the folders in DATA_DIR
bundles.py  the model that is served, and the one that comes next: BUNDLE, NEXT_BUNDLE, ROLLOUT_SHARE, MODEL_THREADS
http.py     the endpoints of all workers, the HTTP API and its clients: WEB_HOST, *_PORT, SERVE_*, API_*
logs.py     log lines and traces, and the name of the machine in them: LOG_*, TRACE_*, WORKER_HOST
events.py   which events are taken, and the memory for those that wait: EARLIEST_DATE, MAX_FUTURE, INTAKE_MEMORY
fetch.py    where pictures come from, and how large they may be: FETCH_*
embed.py    from the bytes of a picture to its embedding, and the cache: DECODER_*, EMBED_*, CACHE_*, SHARE_FEATURES
bags.py     how many items a bag has, and what each counts: BAG_SIZE, MAX_SLOTS, TOP_K, TYPE_WEIGHTS, HALF_LIFE
profile.py  the pace and the memory of the profile worker: PROFILE_BATCH, TREND_INTERVAL, STANDBY, RECENT_*, ROCKSDB_MEMORY

A name is used in one area only: a rule of the same name would take the place of the other one.
"""
