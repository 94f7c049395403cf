"""The replay: plays a prepared data set as a stream of events, and measures the recommendations as they stood before each purchase.

source      events of a data set's folder, in the order of time, users sampled
messages    an event as it is produced, and its id
player      produces, never more than so many ahead of the output, and never two events of one user at a time
answers     what came out for each event, kept in the run's folder: where a replay goes on
prequential which recommendation counted at which purchase, and how good it was; pure
expected    the same answers without Kafka: the fold and the bundle
report      results.json, report.md, the table on the terminal
"""
