"""The channel that an agent iterates over: `async for batch in batches`.

Each value is a list of pending records from the in-flight tracker, not a Faust event. Faust therefore neither acknowledges
nor drops a record: the worker finishes each one, and the tracker says which offsets may be committed.

While the crash journal is careful, each value is one record, and the record before it is finished.
"""

from typing import Any

import faust
from aiokafka import TopicPartition
from typing_extensions import override

from streams.engine.in_flight import InFlightTracker, Pending
from streams.engine.interface import EngineApp


class MicroBatches(faust.Topic):
    """A topic whose iterator yields `list[Pending]`, between one and `limit` records each.

    Iterating over it subscribes the app to the topic, as with any Faust topic. When the app stops, Faust cancels the agent;
    records of a batch that it was working on stay unfinished, so they are delivered again.
    """

    app: EngineApp  # pyright: ignore[reportIncompatibleVariableOverride] -- Faust's own type is its interface

    def __init__(self, *args: Any, tracker: InFlightTracker, limit: int, **kwargs: Any) -> None:
        """Take from `tracker` at most `limit` records at a time. Everything else is passed to `faust.Topic`."""
        self._tracker = tracker
        self._limit = limit
        self._alone: Pending | None = None  # the record that was handed out last while the journal was careful
        super().__init__(*args, **kwargs)

    @override
    async def __anext__(self) -> list[Pending]:  # pyright: ignore[reportIncompatibleMethodOverride] -- not Faust events
        journal, tracker = self.app.crash_journal, self._tracker
        if journal is None:
            return await tracker.take(self._limit)
        while True:
            if journal.careful:
                await tracker.idle()
                if self._alone is None or self._alone.finished:  # otherwise a rebalance took it: nothing is known of it
                    journal.release(self.app.reads, tracker.committed_offsets)
                await self.app.beside.idle()
            await tracker.some()
            if not journal.careful:
                return await tracker.take(self._limit)
            if not self.app.beside.working:
                break
        [alone] = await tracker.take(1)
        self._alone = alone
        record = alone.record
        alone.quarantined = journal.hold(TopicPartition(record.topic, record.partition), record.offset)
        return [alone]

    @override
    def _clone_args(self) -> dict[str, Any]:
        """Arguments of the copy that Faust makes for each iterator."""
        return {**super()._clone_args(), "tracker": self._tracker, "limit": self._limit}
