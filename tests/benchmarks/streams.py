"""What open streams cost a serve worker: memory, processor time, and the time of other answers.

    python -m tests.benchmarks.streams
    python -m tests.benchmarks.streams --streams 10000

The worker is a process of its own, without a broker, so that the streams are silent but for heartbeats. This process needs a limit of
open files above the number of streams (`ulimit -n`).
"""

import argparse
import socket
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

import numpy as np
from rich.console import Console

from tests.kafka.broker import free_port
from tests.kafka.system import wait_until
from tests.streams.serve.process import bags_on_disk, get, worker
from tests.usage import processor_seconds, resident_mb

ROOM = 50  # connections besides the streams
ASKED = 200  # answers that are timed
ANSWER = "/v1/users/ada/recommendations"


@dataclass(frozen=True)
class Crowd:
    """What was measured."""

    opened: int
    seconds: float  # until all were open
    before: float  # MB
    after: float  # the same, with all streams
    closed: float  # the same, once all had gone
    alone: list[float]  # seconds of each answer before there were streams
    beside: list[float]  # the same, with all streams
    processor: float  # seconds of the processor in a second, with all streams and no requests


def crowd(folder: Path, streams: int, *, idle: float = 10.0) -> Crowd:
    """Open streams of a worker and ask it meanwhile. Raises AssertionError if one is not opened, or one stays open."""
    bags_on_disk(folder)
    port = free_port()
    settings: dict[str, Any] = {
        "serve_connections": streams + ROOM,
        "serve_streams": streams,
        "serve_token_streams": streams,
        "serve_rate": 0,
    }
    with worker(folder, port, **settings) as process, ExitStack() as stack:
        wait_until(lambda: get(port, "/ready")[0] == 200, 60, (folder / "log").read_text)
        alone = timed(port)
        before, begun = resident_mb(process.pid), perf_counter()
        clients = [stack.enter_context(opened(port)) for _ in range(streams)]
        for client in clients:
            assert client.recv(4096).startswith(b"HTTP/1.1 200 "), get(port, "/v1/status")
        seconds = perf_counter() - begun
        beside, after = timed(port), resident_mb(process.pid)
        used = processor_seconds(process.pid)
        sleep(idle)
        used = processor_seconds(process.pid) - used
        for client in clients:
            client.close()
        wait_until(lambda: get(port, "/v1/status")[1].get("streams") == 0, 60)
        return Crowd(streams, seconds, before, after, resident_mb(process.pid), alone, beside, used / idle)


def opened(port: int, path: str = "/v1/stream") -> socket.socket:
    """A connection that has asked for a stream."""
    client = socket.create_connection(("127.0.0.1", port), timeout=60)
    client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    return client


def timed(port: int) -> list[float]:
    """Seconds of some answers, one after the other."""
    found: list[float] = []
    for _ in range(ASKED):
        begun = perf_counter()
        assert get(port, ANSWER)[0] == 200
        found.append(perf_counter() - begun)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, nargs="+", default=[100, 1000, 10_000], help="(default 100 1000 10000)")
    console = Console(width=120, highlight=False)
    for streams in parser.parse_args().streams:
        with tempfile.TemporaryDirectory() as folder:
            found = crowd(Path(folder), streams)
        kilobytes = (found.after - found.before) * 1024 / streams
        console.print(
            f"{streams} streams: open after {found.seconds:.1f} s; {found.before:.0f} MB before, {found.after:.0f} MB with them "
            f"({kilobytes:.1f} kB each), {found.closed:.0f} MB after them; {found.processor:.1%} of a processor without requests; "
            f"an answer takes {_milliseconds(found.alone)} ms alone and {_milliseconds(found.beside)} ms beside them (p50 / p99)"
        )


def _milliseconds(times: list[float]) -> str:
    return " / ".join(f"{np.quantile(times, share) * 1e3:.1f}" for share in (0.5, 0.99))


if __name__ == "__main__":
    main()
