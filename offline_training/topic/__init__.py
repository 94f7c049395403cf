"""The interactions topic as a data set: `tastestream dataset topic`.

recording   the events of the topic as a `DatasetSource`: duplicates and erased users are left out. Needs no Kafka
commands    reads the topic into a recording
cli         the options
"""
