"""Work that takes long: once at a time, seldom, beside the event loop, and again after it failed."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from time import monotonic, thread_time
from typing import Any

import pytest

from streams.serve.api.survey import SHARE, Survey


class Work:
    """Steps that are counted. `fails`: whether a run breaks off."""

    def __init__(self) -> None:
        self.now = 0.0
        self.runs = self.steps = 0
        self.threads: set[str] = set()
        self.fails = False
        self.gate = threading.Event()
        self.ended = asyncio.Event()

    async def begin(self) -> Iterator[None]:
        self.runs += 1
        self.ended.clear()
        return self._steps(asyncio.get_running_loop())

    def _steps(self, loop: asyncio.AbstractEventLoop) -> Iterator[None]:
        for _ in range(3):
            self.gate.wait(60)
            self.steps += 1
            self.threads.add(threading.current_thread().name)
            yield
        loop.call_soon_threadsafe(self.ended.set)
        if self.fails:
            raise ValueError("the disk")


@pytest.fixture
async def made() -> AsyncGenerator[tuple[Work, Survey]]:
    work = Work()
    with ThreadPoolExecutor(1, "beside") as thread:
        survey = Survey("the work", work.begin, thread, rest=60, clock=lambda: work.now)
        yield work, survey
        survey.close()
        work.gate.set()


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 -- a run that has ended tells nobody
            await asyncio.sleep(0.001)


async def test_nothing_is_computed_before_somebody_asks_and_once_for_all_who_ask(made: tuple[Work, Survey]) -> None:
    work, survey = made
    await asyncio.sleep(0)
    assert work.runs == 0
    for _ in range(3):
        survey.ask()
        await asyncio.sleep(0)
    assert work.runs == 1  # while the first step waits for the gate, the event loop goes on
    work.gate.set()
    await work.ended.wait()
    assert (work.runs, work.steps, work.threads) == (1, 3, {"beside_0"})


async def test_it_begins_again_after_the_rest_and_not_before(made: tuple[Work, Survey]) -> None:
    work, survey = made
    work.gate.set()
    survey.ask()
    await until(lambda: not survey.running)
    work.now = 59.9
    survey.ask()
    await asyncio.sleep(0)
    assert work.runs == 1
    work.now = 60.0
    survey.ask()
    await until(lambda: work.steps == 6)
    assert work.runs == 2


async def test_a_run_that_fails_is_logged_and_tried_again(
    made: tuple[Work, Survey], caplog: pytest.LogCaptureFixture
) -> None:
    work, survey = made
    work.fails = True
    work.gate.set()
    survey.ask()
    await until(lambda: not survey.running)
    assert "the work failed; it is tried again after 60 s" in caplog.text
    work.now = 60.0
    survey.ask()
    await until(lambda: work.runs == 2)


async def test_it_takes_no_more_than_its_share_of_a_core() -> None:
    used: list[float] = []

    def steps() -> Iterator[None]:
        for _ in range(5):
            began = thread_time()
            while thread_time() < began + 0.02:
                pass
            used.append(thread_time() - began)
            yield

    async def begin() -> Iterator[None]:
        return steps()

    with ThreadPoolExecutor(1) as thread:
        survey = Survey("the work", begin, thread)
        began = monotonic()
        survey.ask()
        await until(lambda: not survey.running)
    assert sum(used) <= SHARE * (monotonic() - began)


async def test_no_step_follows_the_end(made: tuple[Work, Survey]) -> None:
    work, survey = made
    survey.ask()
    await until(lambda: work.runs)
    survey.close()
    work.gate.set()
    await until(lambda: not survey.running)
    await asyncio.get_running_loop().run_in_executor(survey.thread, lambda: None)
    assert work.steps <= 1
