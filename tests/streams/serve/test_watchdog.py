"""The watchdog of the serve worker: a stall is told at half of its limit, and ends the worker at the limit."""

import subprocess
import sys

import pytest

from streams.exceptions import StallError
from streams.serve.watchdog import ServeWatchdog


async def test_a_stall_is_told_at_half_of_its_limit_and_ends_the_worker_at_the_limit() -> None:
    seconds = iter([0.0, 29.9, 30.0])
    dog = ServeWatchdog(lambda: next(seconds), 60)
    assert [dog.live for _ in range(3)] == [True, True, False]
    seconds = iter([0.0, 0.5, 1.0])
    with pytest.raises(StallError, match=r"^stalled: neither read the bags nor gave up for 1 s$"):
        await ServeWatchdog(lambda: next(seconds), 1.0).run()
    assert not list(seconds)


def test_a_blocked_event_loop_ends_the_process_with_the_stacks_of_its_threads() -> None:
    code = """if True:
        import asyncio, threading
        from streams.serve.watchdog import ServeWatchdog
        async def main():
            asyncio.create_task(ServeWatchdog(lambda: 0.0, 1.0).run())
            await asyncio.sleep(0)
            threading.Event().wait()
        asyncio.run(main())
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "most recent call first" in done.stderr and "in main" in done.stderr
