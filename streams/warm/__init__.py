"""`tastestream warm`: fills the picture cache from a list of URLs, so that the first events find them there.

url_list.py    the entries of a list: CSV, Parquet, JSON lines, or one URL a line
read_ahead.py  reads them in a thread, a bounded number ahead
job.py         embeds the pictures of all entries concurrently, and counts the results
commands.py    the command: lock, progress bar, signals, summary
cli.py         its options

embed_urls.py runs the same job without a cache, for `tastestream train embed` and `tastestream replay`.
"""
