"""A commit may be given up while its request is under way."""

import asyncio
import gc
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.errors import RequestTimedOutError

from streams.kafka.offsets import may_cancel_commits


class Coordinator:
    """aiokafka's loop of attempts, and a request that the broker answers when the test says so."""

    commit_offsets = GroupCoordinator.commit_offsets
    _retry_backoff_ms = 1

    def __init__(self) -> None:
        self._commit_lock = asyncio.Lock()
        self.sent = asyncio.Event()
        self.answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def ensure_coordinator_known(self) -> None:
        """It is known."""

    async def _do_commit_offsets(self, assignment: Any, offsets: Any) -> None:
        self.sent.set()
        await self.answer


async def test_nobody_logs_what_becomes_of_the_request_of_a_cancelled_commit() -> None:
    logged: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: logged.append(context))
    coordinator: Any = Coordinator()
    may_cancel_commits(SimpleNamespace(_coordinator=coordinator))  # pyright: ignore[reportArgumentType]

    commit = asyncio.ensure_future(coordinator.commit_offsets(None, {}))
    await coordinator.sent.wait()
    commit.cancel()
    with pytest.raises(asyncio.CancelledError):
        await commit
    coordinator.answer.set_exception(RequestTimedOutError())
    await asyncio.sleep(0.01)  # the request ends
    gc.collect()
    assert logged == []
