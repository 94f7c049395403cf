"""Dead letters: what becomes of an event that cannot be processed, how somebody looks at it, and its way back.

record.py     the headers of a dead letter: made by the workers, read and made into an event again by replay. Pure.
selection.py  which letters a command takes, and which of those replay leaves alone. Pure.
report.py     a letter as a row of a table, and as JSON. Pure.
reading.py    the dead letter topic from its start to its end, oldest first
replay.py     sends letters to where they came from
cli.py        the subcommands of `tastestream dlq`, with their options
commands.py   what `tastestream dlq list` and `dlq replay` do, with their progress bars
"""
