"""`tastestream pictures`: what the workers know of pictures.

forgetting.py   which records of `picture-features` are to be forgotten
commands.py     reads the topic, writes tombstones, prints the result
cli.py          the subcommands and their options
"""
