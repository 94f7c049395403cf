"""The embed worker: finds the embedding of each event's picture and passes the event on. It has no state but a cache.

batcher.py          pixels to embeddings in micro-batches, off the event loop
decoding/           files to pixels, in processes of their own
pipeline.py         from a URL to an embedding: fetch, decode, embed, with retries
disk_cache.py       embeddings on disk, bounded in bytes and age
embedding_cache.py  memory, then disk, then the pipeline; one computation for each URL at a time
opening.py          opens all of these from the settings
worker.py           the Faust app: reads interactions, calls the above, publishes, acknowledges in order
"""
