"""`tastestream warm`: fills the embedding cache from a list of URLs, so that the first events find their pictures there.

lists.py     the entries of a list: CSV, Parquet, JSON lines, or one URL a line
ahead.py     reads them in a thread, a bounded number ahead
warming.py   has the embedding of each found or made, and counts
commands.py  the lock, the progress bar, the signals, the summary

collecting.py has the same made without a cache, for `tastestream train embed`.
"""
