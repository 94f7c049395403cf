"""What the whole system does now, and did in the last hour: for whoever is on call.

The serve worker looks at the offsets of topics and groups once a second and joins no group. It reads samples of records, and never
a topic in full, so that the cost does not grow with the number of events.

types.py      what is said of the system
history.py    a row for each second of the last hour, and how rows are joined for a chart. Pure.
latency.py    how long events take from the producer to their recommendation, by a sample. Pure.
heard.py      what the workers say beside their commits. Pure.
letters.py    dead letters of the last hour by reason. Pure.
marks.py      what happened between two looks: rebalances, restarts, an outage. Pure.
verdict.py    one sentence: all is well, or what is wrong, since when, and which page helps. Pure.
board.py      one look after the other becomes what is said. Pure.
watch.py      looks, once a second, for as long as the worker runs
"""
