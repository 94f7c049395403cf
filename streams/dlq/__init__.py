"""`tastestream dlq`: look at the events that could not be processed, and send them again.

report.py         a letter for people, and as a line of JSON. Pure.
cli.py            the subcommands and their options
commands.py       what the subcommands do, with their progress bars
"""
