"""`tastestream doctor`: looks at everything that a worker needs, and says what is wrong and how to mend it.

finding.py   what a check says
machine.py   the bundle, the data folder, the disk, the ports, the clock
brokers.py   whether the brokers answer, at the addresses that they name
topics.py    the topics, their configuration, the groups, the rights, the times of records
picture.py   whether a picture can be fetched and decoded
diagnosis.py all checks, in order
cli.py       the command and its options
"""
