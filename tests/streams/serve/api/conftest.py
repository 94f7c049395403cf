"""The API on a real server on loopback, over parts in memory and the bundle in the package."""

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import ClientResponse

from model.bundle import Bundle
from streams.serve.api.access import Access
from streams.serve.api.access_log import AccessLog
from streams.serve.api.app import app_of
from streams.serve.api.context import Api, Intake, Limits
from streams.serve.api.server import Connections, open_server
from streams.serve.api.tokens import Scope, Tokens, create_token
from tests.streams.serve.made import NOW, MadeServing, fill, make_serving


@dataclass
class Served:
    """An API that runs."""

    serving: MadeServing
    api: Api
    client: aiohttp.ClientSession
    host: str
    port: int
    log: list[str]
    tokens: dict[str, str]

    def url(self, path: str) -> str:
        return f"http://{self.host}:{self.port}{path}"

    async def ask(self, method: str, path: str, **options: Any) -> ClientResponse:
        """Send a request. The path is sent as it is."""
        from yarl import URL  # noqa: PLC0415

        response = await self.client.request(method, URL(self.url(path), encoded=True), **options)
        await response.read()
        return response

    async def get(self, path: str, **options: Any) -> ClientResponse:
        return await self.ask("GET", path, **options)

    async def post(self, path: str, json: Any = None, **options: Any) -> ClientResponse:
        return await self.ask("POST", path, json=json, **options)

    def bearer(self, name: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.tokens[name]}"}


@pytest.fixture(scope="session")
def bundle() -> Bundle:
    return Bundle.load()


@pytest.fixture
def serving(bundle: Bundle) -> MadeServing:
    made = make_serving(bundle)
    fill(made)
    return made


Serve = Callable[..., AbstractAsyncContextManager[Served]]


@pytest.fixture
def serve(serving: MadeServing, tmp_path: Path) -> Serve:
    """Opens an API. The options are those of `Access`, `Limits` and `Connections`, and the scopes of tokens to create."""

    @asynccontextmanager
    async def opened(
        *,
        scopes: tuple[Scope, ...] = (),
        origins: tuple[str, ...] = (),
        rate: float = 0,
        ids: bool = False,
        limits: Limits | None = None,
        connections: Connections | None = None,
        clock: Callable[[], float] = lambda: 0.0,
    ) -> AsyncGenerator[Served]:
        path, log = tmp_path / "tokens.json", list[str]()
        tokens = {scope: create_token(path, scope, [scope], now=datetime.now(UTC)) for scope in scopes}
        access = Access(Tokens(path), host="127.0.0.1", origins=origins, rate=rate, clock=clock)
        api = Api(
            serving,
            access,
            AccessLog(log.append, ids=ids, worker="serve"),
            intake=Intake(300.0, 631_152_000_000),
            limits=limits or Limits(),
            clock=lambda: NOW / 1000,
        )
        async with (
            open_server(app_of(api), "127.0.0.1", 0, connections or Connections(most=500)) as port,
            aiohttp.ClientSession() as client,
        ):
            yield Served(serving, api, client, "127.0.0.1", port, log, tokens)

    return opened


@pytest.fixture
async def served(serve: Serve) -> AsyncGenerator[Served]:
    async with serve() as one:
        yield one


async def problem_of(response: ClientResponse) -> dict[str, Any]:
    """The problem document of a response, which is one in each respect."""
    assert response.content_type == "application/problem+json", await response.text()
    found = await response.json(content_type=None)
    assert found["status"] == response.status
    assert found["type"] == f"/problems/{found['reason']}"
    assert found["title"] and found["detail"]
    assert "Server" not in response.headers
    return found
