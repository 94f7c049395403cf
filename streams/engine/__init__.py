"""Our extensions of Faust, so that nothing is lost and no stall goes unnoticed.

Faust keeps the group membership, the assignment, the agents, the topics of tables and the life cycle. Reading, committing
and recovery happen here, because Faust's own can pass an event that is still in flight. The work itself is in `embed/` and
`profile/`.

app.py           the Faust app that both workers build on
batches.py       the channel that an agent iterates over: micro-batches from the in-flight tracker
in_flight.py     which records are being processed, and which offsets may be committed
consumer.py      reads records into the tracker, and commits what the tracker allows
assignor.py      assigns topics together that may have different numbers of partitions
fetch_pacing.py  limits fetch requests per broker, and their bytes
producer.py      idempotent and fenced
publisher.py     sends records and waits for the broker
recovery.py      after each assignment: recover the tables, then start reading
interface.py     what these parts need of the app
"""
