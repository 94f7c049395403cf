"""The HTTP endpoints of the supervisor of `worker all`: its workers as one. Bound to WEB_HOST.

/live     200 while every worker that runs answers 200; 503 else
/ready    200 while all workers run and answer 200; 503 else, with what each of them says
/metrics  the metrics of all workers, each sample with a label `worker`, and those of the supervisor

A worker writes its address to a file in its folder (`process.tell_address`), because its port may be any free one.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Collection
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, Metric, generate_latest

from streams.metrics.merged import families_of, merged
from streams.metrics.supervisor import registry, worker_scraped, worker_up
from streams.runtime.listening import listening
from streams.runtime.process import told_address

TIMEOUT = 3.0  # seconds for a worker to answer


class Answer(NamedTuple):
    """What a worker answers."""

    status: int  # 0: nothing
    body: str

    @property
    def said(self) -> Any:
        """The body, which is JSON; None if it is not."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    def page(self, worker: str) -> list[Metric]:
        """The metrics of a worker, if that is what it answers."""
        if self.status != web.HTTPOk.status_code:
            return []
        try:
            return families_of(worker, self.body)
        except ValueError:
            return []


class Overview:
    """Asks the workers, and answers for all of them."""

    def __init__(
        self,
        folder: Path,
        kinds: Collection[str],
        running: Callable[[], Collection[str]],
        session: aiohttp.ClientSession,
    ) -> None:
        """Ask nothing yet.

        Args:
            folder: under which each worker has its own.
            kinds: of the workers.
            running: the kinds of those whose processes run.
            session: asks them.
        """
        self._folder = folder
        self._kinds = kinds
        self._running = running
        self._session = session

    async def live(self, _: web.Request) -> web.Response:
        """Whether the workers that run are live."""
        answers = await self._answers("/live")
        live = all(answer.status != web.HTTPServiceUnavailable.status_code for answer in answers.values())
        return _said("live", live, answers)

    async def ready(self, _: web.Request) -> web.Response:
        """Whether all workers are ready."""
        answers = await self._answers("/ready")
        return _said("ready", all(answer.status == web.HTTPOk.status_code for answer in answers.values()), answers)

    async def metrics(self, _: web.Request) -> web.Response:
        """The metrics of all."""
        answers = await self._answers("/metrics")
        pages = {kind: page for kind, answer in answers.items() if (page := answer.page(kind))}
        for kind in self._kinds:
            worker_up.labels(kind).set(kind in self._running())
            worker_scraped.labels(kind).set(kind in pages)
        body = merged([families_of("supervisor", generate_latest(registry).decode()), *pages.values()])
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _answers(self, path: str) -> dict[str, Answer]:
        found = await asyncio.gather(*(self._answer(kind, path) for kind in self._kinds))
        return dict(zip(self._kinds, found, strict=True))

    async def _answer(self, kind: str, path: str) -> Answer:
        address = told_address(self._folder / kind) if kind in self._running() else None
        if address is None:
            return Answer(0, "")
        try:
            async with self._session.get(address + path) as response:
                return Answer(response.status, await response.text())
        except (aiohttp.ClientError, TimeoutError, UnicodeDecodeError):
            return Answer(0, "")


def _said(what: str, well: bool, answers: dict[str, Answer]) -> web.Response:
    workers = {kind: {"status": answer.status, "answer": answer.said} for kind, answer in answers.items()}
    return web.json_response({what: well, "workers": workers}, status=200 if well else 503)


@asynccontextmanager
async def serving_overview(
    host: str, port: int, folder: Path, kinds: Collection[str], running: Callable[[], Collection[str]]
) -> AsyncGenerator[int]:
    """Serve while this is open. Yields the port. Raises StartupError if it cannot listen. For the arguments see `Overview`."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT)) as session:
        overview = Overview(folder, kinds, running, session)
        app = web.Application()
        app.router.add_get("/live", overview.live)
        app.router.add_get("/ready", overview.ready)
        app.router.add_get("/metrics", overview.metrics)
        runner = web.AppRunner(app, access_log=None)
        async with listening(runner, host, port, "(WEB_HOST, SUPERVISOR_PORT)") as bound:
            yield bound
