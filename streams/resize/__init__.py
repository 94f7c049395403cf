"""`tastestream topics resize`: other numbers of partitions for the bags. docs/design/resize.md has the protocol.

ledger.py    digests of the rows of two changelogs, and in how many rows they differ, in RocksDB while the command runs
mover.py     copies the rows of one changelog to another, and reads both into the ledger
waiting.py   waits for the workers: until they send to other topics, and until a topic is worked off
leftovers.py moves events that no worker will read to the topic that is read
job.py       the steps of a resize and of a rollback, each of which can be killed
topics.py    creates and deletes the topics of generations
commands.py  what the options of the command do
"""
