"""What an exception means for one record: an EventError for its dead letter, or the end of the work on all records."""

import logging
from collections.abc import Awaitable
from typing import TypeVar

from streams.exceptions import DeliveryError, EventError, FetchError
from streams.logs.place import place
from streams.logs.repeats import summed
from streams.web.addresses import host_and_port

logger = logging.getLogger(__name__)

T = TypeVar("T")


async def refusal(work: Awaitable[T]) -> T | EventError:
    """What the work on a record returns, or why the record becomes a dead letter. Raises DeliveryError."""
    try:
        return await work
    except EventError as error:
        logger.warning("dead letter: %s", error, extra=summed("dead letters", _whose(error)))
        # Its frames hold the record. They would keep it in memory until the garbage collector runs.
        return error.with_traceback(None)
    except DeliveryError:
        raise
    except Exception as error:  # a defect of ours must neither lose the record nor block its partition
        logger.exception("dead letter: an unexpected error", extra=summed("dead letters", "internal_error"))
        return EventError("internal_error", repr(error))


def _whose(error: EventError) -> str:
    """The host of the picture that could not be had; the reason of what is wrong with the record itself."""
    at = place()
    return host_and_port(at.image_url) if isinstance(error, FetchError) and at and at.image_url else error.reason
