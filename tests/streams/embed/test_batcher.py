"""One model serves many concurrent requests in micro-batches."""

import asyncio
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import numpy as np
import pytest
from numpy.typing import NDArray

from streams.embed.batcher import Batcher

SIZE = 4

Picture = NDArray[np.uint8]


class Model:
    """A fake model that returns the mean of each picture. The gate holds a call."""

    def __init__(self) -> None:
        self.calls: list[int] = []
        self.called = Event()
        self.gate = Event()
        self.gate.set()
        self.twenty = Event()
        self.broken = False

    def run(self, pictures: Sequence[Picture]) -> Sequence[NDArray[np.float32]]:
        self.calls.append(len(pictures))
        self.called.set()
        assert self.gate.wait(60)
        if sum(self.calls) == 20:
            self.twenty.set()
        if self.broken:
            raise MemoryError("no room for this call")
        return [picture.mean(axis=(0, 1), dtype=np.float32) for picture in pictures]


def picture(grey: int) -> NDArray[np.uint8]:
    return np.full((SIZE, SIZE, 3), grey, np.uint8)


@pytest.fixture
def model() -> Model:
    return Model()


@pytest.fixture
def batcher(model: Model) -> Generator[Batcher[Picture, NDArray[np.float32]]]:
    with ThreadPoolExecutor(1) as executor:
        yield Batcher(model.run, executor, 8)


async def test_pictures_that_wait_while_the_model_is_busy_share_its_next_calls(
    batcher: Batcher[Picture, NDArray[np.float32]], model: Model
) -> None:
    model.gate.clear()
    asked = [asyncio.create_task(batcher.made(picture(0)))]
    assert await asyncio.to_thread(model.called.wait, 10)
    asked += [asyncio.create_task(batcher.made(picture(grey))) for grey in range(1, 12)]
    await asyncio.sleep(0)  # each request is queued
    model.gate.set()
    found = await asyncio.gather(*asked)
    assert model.calls == [1, 8, 3]
    assert [embedding.tolist() for embedding in found] == [[grey] * 3 for grey in range(12)]


async def test_the_model_goes_on_while_the_event_loop_is_busy(
    batcher: Batcher[Picture, NDArray[np.float32]], model: Model
) -> None:
    model.gate.clear()
    asked = [asyncio.create_task(batcher.made(picture(grey))) for grey in range(20)]
    assert await asyncio.to_thread(model.called.wait, 10)
    model.gate.set()
    assert model.twenty.wait(60)  # the event loop is blocked meanwhile
    await asyncio.gather(*asked)


async def test_a_failed_call_fails_only_the_pictures_in_it(
    batcher: Batcher[Picture, NDArray[np.float32]], model: Model
) -> None:
    model.broken = True
    with pytest.raises(MemoryError, match="no room for this call"):
        await batcher.made(picture(1))
    model.broken = False
    assert (await batcher.made(picture(7))).tolist() == [7, 7, 7]


async def test_a_cancelled_request_is_not_computed(
    batcher: Batcher[Picture, NDArray[np.float32]], model: Model
) -> None:
    model.gate.clear()
    first = asyncio.create_task(batcher.made(picture(0)))
    assert await asyncio.to_thread(model.called.wait, 10)
    cancelled, last = (asyncio.create_task(batcher.made(picture(grey))) for grey in (1, 2))
    await asyncio.sleep(0)  # both requests are queued
    cancelled.cancel()
    await asyncio.wait({cancelled})
    model.gate.set()
    assert [(await first).tolist(), (await last).tolist()] == [[0, 0, 0], [2, 2, 2]]
    assert model.calls == [1, 1]
