"""All items come in order, a bounded number is read ahead, and the event loop is never blocked."""

import asyncio
import os
from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing

import pytest

from streams.warm.read_ahead import MAX_AHEAD, ReadAhead


async def collected(items: AsyncGenerator[int]) -> list[int]:
    return [item async for item in items]


def numbers(count: int) -> Generator[int]:
    yield from range(count)


@pytest.mark.parametrize("count", [0, 1, MAX_AHEAD, 5 * MAX_AHEAD + 1])
async def test_all_items_come_in_order(count: int) -> None:
    ahead = ReadAhead(numbers(count))
    async with asyncio.timeout(60):
        assert await collected(ahead.items()) == list(range(count))
    assert (ahead.read, ahead.ended) == (count, True)


async def test_an_error_of_the_source_is_raised_after_its_items() -> None:
    def source() -> Generator[int]:
        yield 1
        raise ValueError("broken")

    items = ReadAhead(source()).items()
    assert await anext(items) == 1
    with pytest.raises(ValueError, match="broken"):
        await anext(items)


async def test_a_bounded_number_of_items_is_read_ahead() -> None:
    ahead = ReadAhead(numbers(100 * MAX_AHEAD))
    async with aclosing(ahead.items()) as items:
        assert await anext(items) == 0
        await asyncio.sleep(0.2)
        assert ahead.read <= MAX_AHEAD + 2


async def test_a_source_that_blocks_does_not_block_the_loop_and_each_item_comes_at_once() -> None:
    reading, writing = os.pipe()

    def source() -> Generator[int]:
        while byte := os.read(reading, 1):
            yield byte[0]

    items = ReadAhead(source()).items()
    async with asyncio.timeout(60):
        for number in range(3):
            waiting = asyncio.ensure_future(anext(items))
            assert not (await asyncio.wait([waiting], timeout=0.05))[0]
            os.write(writing, bytes([number]))
            assert await waiting == number
        os.close(writing)
        assert await collected(items) == []
    os.close(reading)


async def test_the_source_is_closed_when_the_consumer_stops() -> None:
    closed = asyncio.Event()
    loop = asyncio.get_running_loop()

    def source() -> Generator[int]:
        try:
            yield from range(100 * MAX_AHEAD)
        finally:
            loop.call_soon_threadsafe(closed.set)

    async with aclosing(ReadAhead(source()).items()) as items:
        await anext(items)
    async with asyncio.timeout(60):
        await closed.wait()
