"""`tastestream user`: what is known of a user, why it says what it says, and its erasure and export.

What is known is asked of the HTTP API, which answers from a copy of the bags. An erasure is an event, and goes to Kafka.

api.py       asks the HTTP API
remains.py   where data of an erased user still is, and until when. Pure.
report.py    answers for people. Pure.
cli.py       the subcommands and their options
commands.py  what the subcommands do
"""
