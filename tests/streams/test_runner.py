"""How a worker ends decides what its crash journal leaves to the next run."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from aiokafka import TopicPartition

from streams.exceptions import BrokerUnreachable, DeliveryError, StallError, StateError, TopicsError
from streams.runner import _serve
from streams.runtime.crash_journal import DEATHS, NAME, CrashJournal

TP = TopicPartition("events", 0)


class App:
    """An app that crashes while it has a record in hand."""

    def __init__(self, crash_reason: BaseException) -> None:
        self.crash_reason = crash_reason

    async def start(self) -> None:
        await asyncio.Event().wait()

    async def wait_until_stopped(self) -> None:
        """It has crashed."""

    async def stop(self) -> None:
        """It has stopped."""


class Parts:
    """A worker with that app, and its watchdog."""

    def __init__(self, crash_reason: BaseException) -> None:
        self.app = App(crash_reason)

    async def run(self) -> None:
        await asyncio.Event().wait()


async def _never() -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("failure", "blamed"),
    [
        (RuntimeError("a defect"), True),
        (MemoryError(), True),
        (ExceptionGroup("tasks", [ZeroDivisionError()]), True),
        (StallError("no progress"), True),
        (DeliveryError("the broker said no"), False),
        (ExceptionGroup("tasks", [DeliveryError("the broker said no")]), False),
        (StateError("the disk is full"), False),
        (BrokerUnreachable("away"), False),
        (TopicsError("gone"), False),
    ],
    ids=repr,
)
async def test_only_a_failure_that_an_event_can_cause_counts_as_a_death(
    tmp_path: Path, failure: BaseException, blamed: bool
) -> None:
    for _ in range(DEATHS):
        journal = CrashJournal(tmp_path)
        journal.begin(TP.topic, {TP: 5}, {TP: 9}, 16)
        journal.hold(TP, 5)
        parts: Any = Parts(failure)
        assert await _serve(parts, parts, asyncio.Event(), journal, _never) != 0
        assert (tmp_path / NAME).exists(), "the run after it looks for progress"
    journal = CrashJournal(tmp_path)
    journal.begin(TP.topic, {TP: 5}, {TP: 9}, 16)

    assert journal.hold(TP, 5) is blamed
