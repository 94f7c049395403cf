"""The replay: plays a prepared data set as a stream of events, and measures the recommendations as they stood before each purchase.

source      events of a data set's folder, in the order of time, users sampled
messages    an event as it is produced, and its id
player      produces, never more than so many ahead of the output, and never two events of one user at a time
answers     what came out for each event, kept in the run's folder: where a replay goes on
expected    the same answers without Kafka: the fold and a bundle; beside: other bundles than the served one
prequential which recommendation counted at which purchase, and how good it was; pure
summaries   means and intervals of targets that are told of together; latency and samples: what else there is to tell; pure
measuring   from answers to results
targets     the figures at each target, in a file
comparing   finished runs over the same events
report      results.json, report.md, report.html, the table on the terminal
"""
