"""Standard input, line by line, without blocking the event loop."""

import asyncio
import threading
from collections.abc import AsyncGenerator
from typing import BinaryIO

from streams.messages import MAX_MESSAGE_BYTES

GROUP = 500  # lines that are handed out at a time
LINE_BYTES = MAX_MESSAGE_BYTES + 2  # what is read of a line: enough to see that it is too long


async def line_groups(stream: BinaryIO) -> AsyncGenerator[list[bytes]]:
    """Yield the lines of a stream as they come, without their ends: those that are there, at most `GROUP`.

    Of a longer line than a message may have, only the first part is there.

    A daemon thread reads, so that Ctrl-C ends the command while the stream is silent.
    """
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[bytes] = asyncio.Queue(GROUP)  # b"" is the end

    def read() -> None:
        while line := stream.readline(LINE_BYTES):
            piece = line
            while len(piece) == LINE_BYTES and not piece.endswith(b"\n"):
                piece = stream.readline(LINE_BYTES)
            asyncio.run_coroutine_threadsafe(queue.put(line), loop).result()
        asyncio.run_coroutine_threadsafe(queue.put(b""), loop).result()

    threading.Thread(target=read, daemon=True, name="standard input").start()
    while line := await queue.get():
        group = [line]
        while len(group) < GROUP and not queue.empty():
            if not (line := queue.get_nowait()):
                yield [one.strip() for one in group]
                return
            group.append(line)
        yield [one.strip() for one in group]
