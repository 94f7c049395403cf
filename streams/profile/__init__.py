"""The profile worker: folds each user's events into a bag, scores it, publishes the recommendation.

bag.py      the fold: what an event does to a bag. Pure.
rows.py     a bag as rows of bytes, and the rows that a change touches. Pure.
scoring.py  from bags to recommendations: the log weight, one call of the aggregator, the message. Pure.
store.py    the rows in RocksDB, one database for each partition, with a prefix scan
table.py    the store as a Faust table with its changelog topic
worker.py   the Faust app: reads events in micro-batches, calls the above, publishes, acknowledges
"""
