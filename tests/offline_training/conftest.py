"""Runs torch with one thread in these tests.

The networks are small, so a second thread gains nothing. Where several test processes share the cores, threads that wait for each
other cost ten times the step.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is imported, which the tests do later
