"""Events/s and processor time per event: tastestream compared with other implementations of the same job.

    python -m tests.benchmarks.throughput

workload.py  the events: generated from a seed, the same for all peers
stand.py     a broker and one peer at a time: start, fill, measure, stop
peers/       the implementations
report.py    the table, the plot, and the figures as JSON
"""
