"""`tastestream rollout`: from one bundle to the next without a gap.

held.py      what matters of a row of the bags: whether it has the code of the next bundle, or what to make it from
ledger.py    these rows, the URLs of their pictures and the codes made so far, in RocksDB while a command runs
reading.py   fills the ledger from the changelog of the bags and from `picture-features`
coder.py     codes of the next bundle from features, and from the codes of other embedders
sending.py   sends prepared interactions to the partition of their user, with a rate
fetching.py  features of pictures that are not on the topic
prepare.py   the command `prepare`: all of these in order
status.py    the command `status`
gates.py     the rules of `promote`
promote.py   the commands `promote` and `abort`, which only say what to do
progress.py  progress bars, and log lines where there is no terminal
cli.py       the options
"""
