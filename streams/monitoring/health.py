"""The HTTP endpoints of a worker: /live, /ready and /metrics. Bound to 127.0.0.1 by default.

/live     200 while the worker makes progress or has no work; 503 once it has made none for half of the stall time-out, at the
          end of which the watchdog ends the worker
/ready    200 once partitions are assigned and their bags recovered; 503 with the reason before that, during a rebalance, while
          the broker does not answer, and while the topic differs from the one that the worker reads. Names the bundles in use;
          a new bundle that was refused changes nothing
/metrics  Prometheus text format
"""

from collections.abc import Callable
from contextlib import AsyncExitStack

import msgspec
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from streams.bundles import Bundles
from streams.engine.app import App
from streams.kafka.fleet import MemberBundles
from streams.monitoring.watchdog import Watchdog
from streams.runtime.listening import listening


class Health:
    """An asynchronous context manager that serves while it is open. `port` is the bound port."""

    def __init__(self, app: App, watchdog: Watchdog, bundles: Callable[[], Bundles], host: str, port: int) -> None:
        self._app = app
        self._watchdog = watchdog
        self._bundles = bundles
        self._host = host
        self.port = port
        self._listening = AsyncExitStack()

    async def __aenter__(self) -> "Health":
        server = web.Application()
        server.router.add_get("/live", self._live)
        server.router.add_get("/ready", self._ready)
        server.router.add_get("/metrics", self._metrics)
        runner = web.AppRunner(server, access_log=None)
        self.port = await self._listening.enter_async_context(listening(runner, self._host, self.port, "for /ready"))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._listening.aclose()

    @property
    def problem(self) -> str:
        """Why /ready answers 503; empty when it answers 200."""
        return not_ready(self._app) or self._watchdog.problem

    async def _live(self, _: web.Request) -> web.Response:
        seconds, seen = self._watchdog.look()
        live = seconds < self._watchdog.timeout / 2
        body = {"live": live, "seconds_without_progress": round(seconds, 1), "saw": str(seen)}
        return web.json_response(body, status=200 if live else 503)

    async def _ready(self, _: web.Request) -> web.Response:
        reason = self.problem
        bundles = msgspec.to_builtins(MemberBundles.of(self._bundles()))
        body = {"ready": not reason, "reason": reason, "bundles": bundles}
        return web.json_response(body, status=503 if reason else 200)

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})


def not_ready(app: App) -> str:
    """Why the worker takes no events yet; empty when it does."""
    if app.should_stop:
        return "stopping"
    if not app.tables.recovery.completed.is_set():  # pyright: ignore[reportAttributeAccessIssue]
        return "joining the group and recovering bags"
    if app.rebalancing:  # pyright: ignore[reportAttributeAccessIssue]
        return "rebalancing"
    return ""
