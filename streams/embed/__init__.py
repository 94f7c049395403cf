"""The embed worker: finds the embedding of each event's picture and passes the event on. Stateless but for a cache.

addresses.py   which URLs and addresses may be called. Pure.
fetch.py       bytes from a URL, within limits
hosts.py       how much each host of pictures gets, and when it gets nothing for a while
batcher.py     pixels to embeddings in micro-batches, off the event loop
cache.py       embeddings on disk, bounded and forgetful
pictures.py    from a URL to an embedding: memory, disk, or fetch + decode + embed; one flight for each URL
opening.py     opens all of these as the settings say
worker.py      the Faust app: reads interactions, calls the above, publishes, acknowledges in order
"""
