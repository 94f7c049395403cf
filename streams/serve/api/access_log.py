"""The access log: a line of JSON for each request, on standard output. It names no user and no item unless SERVE_LOG_IDS is set."""

import logging
import sys
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec
from aiohttp import web

from streams import metrics

_encode = msgspec.json.Encoder().encode


def open_log() -> Callable[[str], object]:
    """What writes lines to standard output, and outlives it."""
    log = logging.getLogger("streams.serve.access")
    log.propagate = False
    log.setLevel(logging.INFO)
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(message)s"))
    log.handlers = [handler]
    return log.info


class AccessLog:
    """Writes the lines, and counts the requests."""

    def __init__(self, write: Callable[[str], object], *, ids: bool) -> None:
        """Log by `write`, which gets one line. `ids`: whether lines have paths and addresses."""
        self._write = write
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
        metrics.serve_requests.labels(route, request.method if route != "-" else "-", status).inc()
        metrics.serve_seconds.labels(route).observe(seconds)
        line = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
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
