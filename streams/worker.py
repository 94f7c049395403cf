"""What the two workers have in common, seen by whoever runs them (`streams.runner`). The work itself is in `embed/` and `profile/`."""

from typing import Protocol

import faust

from streams.delivery import Event


class Worker(Protocol):
    """A Faust app with its own acknowledgement."""

    name: str  # "embed" or "profile"
    app: faust.App

    async def drain(self, timeout: float) -> None:
        """Stop taking events and finish those in flight, for at most `timeout` seconds.

        What is not finished by then stays unacknowledged and is delivered again.
        """
        ...


def is_current(app: faust.App, event: Event) -> bool:
    """Whether the event was read since the last rebalance; if not, it is delivered again to whoever has its partition now."""
    return event.message.generation_id == app.consumer_generation_id  # pyright: ignore[reportAttributeAccessIssue]
