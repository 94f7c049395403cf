"""`python -m streams` is the command `tastestream`."""

from streams.cli import main

main()
