"""A read replica of the bags: a copy of the changelog of the profile workers, for whoever asks.

replica.py   what is asked: read, wait for an event, changes, states
follower.py  reads the changelog for as long as a worker runs, and knows how far it is
store.py     merges what was read into RocksDB, and removes erased users from its files
arrivals.py  who waits for changes
"""
