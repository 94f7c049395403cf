"""`python -m tests.faults.armed POINT[:N] ... -- worker profile` runs `tastestream worker profile` with fault points.

`points.py` and `breaks.py` define them. N is 1 by default.
"""

import sys

from tests.faults.breaks import POINTS  # includes those of points.py


def main(arguments: list[str]) -> None:
    divide = arguments.index("--")
    for named in arguments[:divide]:
        name, _, n = named.partition(":")
        POINTS[name](int(n or 1))
    sys.argv = ["tastestream", *arguments[divide + 1 :]]
    from streams.cli import main as command_line  # noqa: PLC0415

    command_line()


if __name__ == "__main__":
    main(sys.argv[1:])
