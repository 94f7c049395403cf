"""Fuzzing of everything that reads bytes of strangers.

One module for each kind of input. It has two functions:

    seeds() -> list[bytes]        valid inputs, and inputs near a limit, made by code
    check(data: bytes) -> str     gives `data` to the code, and returns what became of it: "accepted", or a reason

`check` is the oracle. It lets every exception out that the code does not declare, and asserts what holds for accepted inputs:
that what was read can be written and read again, that normalizing twice is the same as once, and that limits hold.

    inputs.py          generates inputs from seeds, for Hypothesis
    test_targets.py    a few seconds of it, the same each time: part of `make unit`
    __main__.py        hours of it: `make fuzz`, guided by coverage where atheris can be installed
    guided.py          one target in libFuzzer
"""

TARGETS = (
    "addresses",
    "containers",
    "embedded",
    "interactions",
    "items",
    "letters",
    "manifests",
    "networks",
    "pictures",
    "requests",
    "rows",
    "snapshots",
    "taken",
    "times",
)
MAX_LENGTH = 4096  # bytes of an input: longer ones find the same, later
MAX_SECONDS = 2.0  # processor time of one input; without a defect it is milliseconds
