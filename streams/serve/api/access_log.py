"""The access log: a line of JSON for each request, on standard output. It names no user and no item unless SERVE_LOG_IDS is set."""

import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache

import msgspec
from aiohttp import web

from streams import metrics

_encode = msgspec.json.Encoder().encode
_requests = cache(metrics.serve_requests.labels)  # finding a series takes longer than counting
_seconds = cache(metrics.serve_seconds.labels)


def open_log() -> Callable[[str], object]:
    """What writes lines to standard output. Once nobody reads that any more, they are lost, and the worker answers on."""
    output = sys.stdout

    def write(line: str) -> None:
        with suppress(OSError, ValueError):
            output.write(f"{line}\n")
            output.flush()

    return write


class AccessLog:
    """Writes the lines, and counts the requests."""

    def __init__(self, write: Callable[[str], object], *, ids: bool, worker: str) -> None:
        """Log by `write`, which gets one line of the worker. `ids`: whether lines have paths and addresses."""
        self._write = write
        self._worker = worker
        self._ids = ids

    def add(self, request: web.BaseRequest, *, route: str, caller: str, status: int, size: int, seconds: float) -> None:
        """Log a request that was answered.

        Args:
            request: the request.
            route: the path as it is declared, or "-".
            caller: the name of the token, or "-".
            status: of the answer.
            size: bytes of the answer's body.
            seconds: that it took.
        """
        _requests(route, request.method if route != "-" else "-", status).inc()
        _seconds(route).observe(seconds)
        line = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "worker": self._worker,
            "method": request.method,
            "route": route,
            "status": status,
            "bytes": size,
            "ms": round(seconds * 1000, 2),
            "token": caller,
        }
        if self._ids:
            line |= {"path": request.raw_path if hasattr(request, "raw_path") else "", "from": request.remote}
        self._write(_encode(line).decode())
