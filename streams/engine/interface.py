"""What the parts of the engine need of the app that they belong to. `streams.engine.app.App` provides it.

The parts import this module and not the app, which imports them.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, Protocol

from streams.bundles import Bundles
from streams.engine.in_flight import InFlightTracker
from streams.runtime.crash_journal import CrashJournal


class EngineApp(Protocol):
    """The members of `App` that its consumer, its producer and its recovery use."""

    in_flight: InFlightTracker
    beside: InFlightTracker
    reads: str  # the topic
    crash_journal: CrashJournal | None
    bundles: Callable[[], Bundles] | None
    topics_generation: int
    warm: Callable[[], Collection[int] | None]
    finish_before_revocation: bool
    idempotence: bool
    poll_interval: float  # seconds
    intake_memory: int  # bytes
    kafka: Mapping[str, Any]  # connection arguments of an aiokafka client
    before_send: Callable[[], None]
    before_reading: Callable[[], Awaitable[None]]
    remark: Callable[[], str]

    # Faust's own
    conf: Any
    consumer: Any
    flow_control: Any
    on_rebalance_complete: Any
    tables: Any
    _fetcher: Any

    async def crash(self, reason: BaseException) -> None: ...

    def on_rebalance_end(self) -> None: ...
