"""After each assignment: recover the tables from their changelogs, then start reading.

Replaces Faust's own recovery, which passes each record through three queues, waits forever for an offset that compaction
has removed, and continues unrecovered when the broker is slow.
"""

import asyncio
from typing import Any, Protocol, cast

from faust.tables.manager import TableManager
from faust.tables.recovery import Recovery
from faust.types import TP
from mode import Service
from mode.utils.logging import get_logger
from typing_extensions import override

from streams.engine.interface import EngineApp

logger = get_logger(__name__)


class RecoverableTable(Protocol):
    """A table that can recover itself from its changelog."""

    async def recover(self, partitions: set[TP]) -> None:
        """Bring the local state of these changelog partitions up to date. May be cancelled."""
        ...


class OwnRecovery(Recovery):
    """Recovers after each assignment, which Faust announces with `signal_recovery_start`. A newer one replaces the current one."""

    logger = get_logger("faust.tastestream")  # for Faust's own messages at start and stop

    _generation = 0
    app: EngineApp  # pyright: ignore[reportIncompatibleVariableOverride] -- Faust's own type is its interface

    @override
    async def on_rebalance(self, *args: Any, **kwargs: Any) -> None:
        """Remember the generation that this assignment belongs to."""
        self._generation = self.app.consumer.generation
        await super().on_rebalance(*args, **kwargs)

    @override
    @Service.task
    async def _restart_recovery(self) -> None:
        recovering: asyncio.Task[None] | None = None
        try:
            while not self.should_stop:
                started = asyncio.ensure_future(self.signal_recovery_start.wait())
                await asyncio.wait(
                    {started, *([recovering] if recovering else [])}, return_when=asyncio.FIRST_COMPLETED
                )
                if not started.done():
                    started.cancel()
                if recovering and recovering.done():
                    recovering.result()  # a failure ends the worker
                    recovering = None
                if self.signal_recovery_start.is_set():
                    self.signal_recovery_start.clear()
                    if recovering:
                        recovering.cancel()
                        await asyncio.gather(recovering, return_exceptions=True)
                    recovering = asyncio.create_task(self._recover(self._generation))
        finally:
            if recovering:
                recovering.cancel()

    async def _recover(self, generation: int) -> None:
        app = self.app
        for name, table in self.tables.items():
            topic = table.changelog_topic_name
            partitions = {tp for tp in self.active_tps if tp.topic == topic}
            logger.debug("recovering %s: %s", name, partitions)
            await cast(RecoverableTable, table).recover(partitions)
        if not await app.consumer.begin(generation):
            return
        self.completed.set()
        app.flow_control.resume()
        fetcher: Any = app._fetcher
        await fetcher.maybe_start()
        self.tables.on_actives_ready()
        self.tables.on_standbys_ready()
        await app.on_rebalance_complete.send()
        app.on_rebalance_end()

    @override
    @Service.task
    async def _slurp_changelogs(self) -> None:
        """Do nothing: the tables read their changelogs themselves."""

    @override
    @Service.task
    async def _publish_stats(self) -> None:
        """Do nothing: the tables log their progress."""


class OwnTableManager(TableManager):
    """Faust's table manager with our recovery."""

    logger = get_logger("faust.tastestream")  # for Faust's own messages at start and stop

    @property
    @override
    def recovery(self) -> OwnRecovery:
        if self._recovery is None:
            self._recovery = OwnRecovery(self.app, self, beacon=self.beacon, loop=self.loop)
        return cast(OwnRecovery, self._recovery)
