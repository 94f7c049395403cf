"""A process that was paused for longer than its session ends."""

import asyncio

from streams.runtime.freeze_guard import FreezeGuard


async def test_a_process_that_was_paused_for_longer_than_the_limit_ends() -> None:
    now, ends = 100.0, list[str]()
    guard = FreezeGuard(6.0, clock=lambda: now, end=ends.append)
    guard.check()
    keeping = asyncio.create_task(guard.keep())
    await asyncio.sleep(0)

    now += 6.0
    guard.check()
    assert not ends
    now += 0.1
    guard.check()
    assert len(ends) == 1
    assert "paused for 6.1 s" in ends[0]
    keeping.cancel()


async def test_a_process_whose_event_loop_runs_continues() -> None:
    now, ends = 100.0, list[str]()
    guard = FreezeGuard(0.06, clock=lambda: now, end=ends.append)
    keeping = asyncio.create_task(guard.keep())
    for _ in range(3):
        await asyncio.sleep(0.02)
        now += 0.05
        guard.check()
    assert not ends
    keeping.cancel()
