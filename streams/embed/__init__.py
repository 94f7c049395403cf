"""The embed worker: finds the embeddings of each event's picture and passes the event on. It has no state but a cache.

networks.py         the networks of the bundles: pixels to features, features to codes
batcher.py          calls them in micro-batches, off the event loop
decoding/           files to pixels, in processes of their own
pipeline.py         from a URL to what the networks make: fetch, decode, run, with retries
disk_cache.py       features on disk, bounded in bytes and age
embedding_cache.py  codes in memory, then features on disk, then the pipeline; one computation for each URL at a time
opening.py          opens all of these from the settings
worker.py           the Faust app: reads interactions, calls the above, publishes, acknowledges in order
"""
