"""One model for many who ask at the same time."""

import asyncio
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import numpy as np
import pytest
from numpy.typing import NDArray

from streams.embed.batcher import EmbeddingBatcher

SIZE = 4


class Model:
    """Stands where the network is: the mean of each picture, and a gate to hold a call at."""

    def __init__(self) -> None:
        self.calls: list[int] = []
        self.called = Event()
        self.gate = Event()
        self.gate.set()
        self.twenty = Event()
        self.broken = False

    def embed(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.calls.append(len(pictures))
        self.called.set()
        assert self.gate.wait(10)
        if sum(self.calls) == 20:
            self.twenty.set()
        if self.broken:
            raise MemoryError("no room for this call")
        return pictures.mean(axis=(1, 2), dtype=np.float32)


def picture(grey: int) -> NDArray[np.uint8]:
    return np.full((SIZE, SIZE, 3), grey, np.uint8)


@pytest.fixture
def model() -> Model:
    return Model()


@pytest.fixture
def batcher(model: Model) -> Generator[EmbeddingBatcher]:
    with ThreadPoolExecutor(1) as executor:
        yield EmbeddingBatcher(model, executor, 8)  # pyright: ignore[reportArgumentType] -- it is asked for embed alone


async def test_what_waits_while_the_model_is_busy_goes_into_its_next_calls(
    batcher: EmbeddingBatcher, model: Model
) -> None:
    model.gate.clear()
    asked = [asyncio.create_task(batcher.embed(picture(0)))]
    assert await asyncio.to_thread(model.called.wait, 10)
    asked += [asyncio.create_task(batcher.embed(picture(grey))) for grey in range(1, 12)]
    await asyncio.sleep(0)  # each of them asks
    model.gate.set()
    found = await asyncio.gather(*asked)
    assert model.calls == [1, 8, 3]
    assert [embedding.tolist() for embedding in found] == [[grey] * 3 for grey in range(12)]


async def test_the_model_goes_on_while_the_event_loop_is_busy(batcher: EmbeddingBatcher, model: Model) -> None:
    model.gate.clear()
    asked = [asyncio.create_task(batcher.embed(picture(grey))) for grey in range(20)]
    assert await asyncio.to_thread(model.called.wait, 10)
    model.gate.set()
    assert model.twenty.wait(10)  # the loop does not turn meanwhile
    await asyncio.gather(*asked)


async def test_a_call_that_fails_is_the_failure_of_those_in_it_alone(batcher: EmbeddingBatcher, model: Model) -> None:
    model.broken = True
    with pytest.raises(MemoryError, match="no room for this call"):
        await batcher.embed(picture(1))
    model.broken = False
    assert (await batcher.embed(picture(7))).tolist() == [7, 7, 7]


async def test_nothing_is_computed_for_who_gave_up(batcher: EmbeddingBatcher, model: Model) -> None:
    model.gate.clear()
    first = asyncio.create_task(batcher.embed(picture(0)))
    assert await asyncio.to_thread(model.called.wait, 10)
    given_up, last = (asyncio.create_task(batcher.embed(picture(grey))) for grey in (1, 2))
    await asyncio.sleep(0)  # both ask
    given_up.cancel()
    await asyncio.wait({given_up})
    model.gate.set()
    assert [(await first).tolist(), (await last).tolist()] == [[0, 0, 0], [2, 2, 2]]
    assert model.calls == [1, 1]
