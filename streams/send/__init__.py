"""`tastestream send`: write events to the input topic, and print what each one caused.

events.py    an event from options or from a line of JSON. Pure.
answers.py   which record answers which event. Pure.
report.py    what an event caused, for people and as JSON. Pure.
sending.py   sends events and waits for their answers
lines.py     standard input, line by line
cli.py       the command and its options
commands.py  what the command does
"""
