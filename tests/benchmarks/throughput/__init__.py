"""How many events a second, and what the processors do for each: tastestream beside other ways to do the same.

    python -m tests.benchmarks.throughput

workload.py  the events: made from a seed, the same for all
stand.py     one broker, and on it one peer at a time: started, filled, measured, stopped
peers/       the contestants
report.py    the table, the plot, the figures as JSON
"""
