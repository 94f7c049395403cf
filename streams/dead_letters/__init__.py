"""`tastestream dlq`: look at the events that could not be processed, and send them again.

`streams/dead_letter.py` defines a dead letter as a record. The workers write them.

letter_filter.py  the letters that a command takes. Pure.
notes.py          what is noted on the topic about letters that were sent again. Pure.
verdict.py        whether the event of a letter is sent again, or why not. Pure.
report.py         a letter as a row of a table, and as JSON. Pure.
reading.py        reads the dead letter topic, oldest letter first
redrive.py        sends the events of letters again, to the topics that they came from
cli.py            the subcommands of `tastestream dlq` and their options
commands.py       what the subcommands do, with their progress bars
"""
