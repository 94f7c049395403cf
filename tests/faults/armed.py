"""`python -m tests.faults.armed POINT[:N] ... -- worker profile` is `tastestream worker profile` with fault points.

What they do is in `points.py` and `breaks.py`; N is 1 where it is not given.
"""

import sys

from tests.faults.breaks import POINTS  # with those of points.py


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
