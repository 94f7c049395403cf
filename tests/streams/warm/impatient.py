"""`python -m tests.streams.warm.impatient SECONDS ...` runs `tastestream ...`, where `warm` drains for so many seconds."""

import sys

from streams import cli
from streams.warm import commands

if __name__ == "__main__":
    commands.DRAIN_TIMEOUT = float(sys.argv.pop(1))
    cli.main()
