"""What an exception means for one record: an EventError for its dead letter, or the end of the work on all records."""

import logging
from collections.abc import Awaitable
from typing import TypeVar

from streams.exceptions import DeliveryError, EventError

logger = logging.getLogger(__name__)

T = TypeVar("T")


async def refusal(work: Awaitable[T]) -> T | EventError:
    """What the work on a record returns, or why the record becomes a dead letter. Raises DeliveryError."""
    try:
        return await work
    except EventError as error:
        logger.info("dead letter: %s", error)
        # Its frames hold the record. They would keep it in memory until the garbage collector runs.
        return error.with_traceback(None)
    except DeliveryError:
        raise
    except Exception as error:  # a defect of ours must neither lose the record nor block its partition
        logger.exception("dead letter: an unexpected error")
        return EventError("internal_error", repr(error))
