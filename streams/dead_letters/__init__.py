"""Reads the events that could not be processed, and sends them again. `streams.dlq` has the command, the API has routes.

`streams/dead_letter.py` defines a dead letter as a record. The workers write them.

letter_filter.py  the letters that somebody asks for. Pure.
notes.py          what is noted on the topic about letters that were sent again. Pure.
verdict.py        whether the event of a letter is sent again, or why not. Pure.
document.py       a letter as JSON. Pure.
reading.py        reads the dead letter topic, oldest letter first
redrive.py        sends the events of letters again, to the topics that they came from
"""
