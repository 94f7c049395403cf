"""The interactions topic read back: `tastestream dataset topic`, what a shop did for whoever trains, replays or evaluates on it.

recorded   its records as a `Source` of data sets: what counts, what does not, what has to be forgotten; no Kafka
commands   from the topic to a prepared folder
cli        its options
"""
