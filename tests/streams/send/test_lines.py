"""Standard input, line by line."""

import asyncio
import io
import os

from streams.messages import MAX_MESSAGE_BYTES
from streams.send.lines import GROUP, line_groups


async def lines_of(content: bytes) -> list[bytes]:
    return [line async for group in line_groups(io.BytesIO(content)) for line in group]


async def test_all_lines_are_there_without_their_ends() -> None:
    assert await lines_of(b"one\r\n\ntwo") == [b"one", b"", b"two"]
    assert await lines_of(b"") == []
    assert await lines_of(b"x\n" * (2 * GROUP + 1)) == [b"x"] * (2 * GROUP + 1)


async def test_a_line_comes_while_the_stream_is_still_open() -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as stream, os.fdopen(writing, "wb", buffering=0) as pipe:
        groups = line_groups(stream)
        pipe.write(b"one\n")
        async with asyncio.timeout(60):
            assert await anext(groups) == [b"one"]
            pipe.close()
            assert [group async for group in groups] == []


async def test_of_a_line_that_is_too_long_the_first_part_is_there_and_the_next_line_is_whole() -> None:
    first, second = await lines_of(b"x" * (3 * MAX_MESSAGE_BYTES) + b"\ntwo\n")
    assert MAX_MESSAGE_BYTES < len(first) <= MAX_MESSAGE_BYTES + 2
    assert second == b"two"
