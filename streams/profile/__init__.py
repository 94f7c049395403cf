"""The profile worker: folds the events of each user into a bag, scores the bag, publishes a recommendation.

worker.py       the Faust agent: reads micro-batches, calls the modules below, publishes, acknowledges
batch.py        what a micro-batch comes to: rows to write, recommendations to send. Pure.
bag.py          the fold: how an event changes a bag. Pure.
scoring.py      from bags to recommendations: log weights, one call of the aggregator, messages. Pure.
counts.py       what bags add to the trend. Pure.
trend_state.py  the counts of the assigned partitions, published, and the trend of all of them
rows.py         a bag as rows of bytes, and the rows that a change touches. Pure.
table.py        the Faust table: the changelog topic in front of the store, and recovery
standby.py      copies of the partitions that other workers own
following.py    how the changelog is followed by who does not own the partitions
quarantine.py   rows that cannot be used are passed over
changelog.py    merges changelog records into the rows on disk. Pure.
spread.py       over how many partitions the bags are spread
databases.py    the rows in RocksDB, one database per partition, with a prefix scan
scratch.py      a database that a command fills and removes
store.py        the same as a Faust store
recent.py       recently written bags, decoded, in memory
"""
