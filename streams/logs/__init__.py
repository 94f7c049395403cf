"""The log: one line per record on standard error, for people or for machines.

formats.py   what a line looks like, as text and as JSON
place.py     which record and event a line is about
repeats.py   lines that repeat are summed up
"""

import logging
import sys

from streams.logs.formats import JsonLines, TextLines
from streams.logs.place import allow_user_ids
from streams.logs.repeats import SummingHandler


def configure_logs(*, level: str, json: bool, worker: str, user_ids: bool) -> None:
    """Log to standard error from now on. Libraries log warnings and errors only, unless the level is DEBUG.

    Args:
        level: the least one that is logged.
        json: whether each line is JSON.
        worker: name of this worker on each line; "" for none.
        user_ids: whether lines of INFO and above may name users.
    """
    handler = SummingHandler(sys.stderr)
    handler.setFormatter(JsonLines(worker) if json else TextLines(worker))
    allow_user_ids(user_ids)
    logging.basicConfig(level=level, handlers=[handler], force=True)
    if level != "DEBUG":
        for name in ("faust", "mode", "asyncio"):
            logging.getLogger(name).setLevel(logging.WARNING)
        logging.getLogger("mode.timers").setLevel(logging.ERROR)  # a commit that waits for the broker is not a problem
        # aiokafka logs every failed attempt as an error, also those that it retries; we log the failure once.
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
        logging.getLogger("faust.agents.actor").setLevel(logging.CRITICAL)  # the app logs the same crash
