"""How a worker's process ends: its exit codes, and the way out that flushes nothing."""

import logging
import os
from typing import NoReturn

logger = logging.getLogger(__name__)

CRASHED = 1  # a restart goes on at the last commit
UNAVAILABLE = os.EX_UNAVAILABLE  # 69: no broker within `broker_timeout`
MISCONFIGURED = os.EX_CONFIG  # 78: configuration, bundle, topics or data folder are wrong; a restart would not help


def end_at_once(reason: str) -> NoReturn:
    """End this process where it stands: nothing that it holds or has buffered is written."""
    logger.error("%s: ending the process, with nothing more written; what is not committed is delivered again", reason)
    logging.shutdown()
    os._exit(CRASHED)
