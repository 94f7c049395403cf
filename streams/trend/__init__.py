"""What is wanted now: how many items of each category all users took, in the last 7 days, the last 28 days, and ever.

The trend is a sum over bags, in whole numbers. So it is as independent of the order and number of deliveries as the bags are, and
forgets whoever is erased. `streams.profile.counts` says what a bag adds to it.

trend.py      `Trend`: the sum over all partitions, and its windows at a moment; pure
snapshots.py  records of `category-trend`, each with the counts of one partition; pure
history.py    the latest snapshots, now and as of any offset; pure
reading.py    reads all that the topic has
follower.py   follows the topic, so that a worker has the current trend
"""
