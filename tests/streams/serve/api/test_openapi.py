"""The OpenAPI document is valid, and each route keeps to it: Schemathesis makes requests from it, good and bad ones.

`make slow` makes many of them, and CI a few for each route.
"""

import asyncio
import json
import threading
from collections.abc import Generator
from datetime import UTC, datetime
from typing import Any, NamedTuple

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from openapi_spec_validator import OpenAPIV31SpecValidator
from schemathesis import Case
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from model.bundle import Bundle
from streams.serve.api.access import Access
from streams.serve.api.access_log import AccessLog
from streams.serve.api.app import OPENAPI, ROUTES, app_of
from streams.serve.api.context import Api, Intake, Limits
from streams.serve.api.problems import PROBLEMS
from streams.serve.api.routes import FORM
from streams.serve.api.server import Connections, open_server
from streams.serve.api.tokens import Tokens, create_token
from tests.streams.serve.made import NOW, fill, make_serving

DOCUMENT: dict[str, Any] = json.loads(OPENAPI)
for endless in ("/v1/stream", "/v1/overview/live"):  # `test_stream.py` and `test_overview.py` test them
    del DOCUMENT["paths"][endless]
for operations in DOCUMENT["paths"].values():
    for operation in operations.values():
        del operation["security"]  # each request has a token; `test_access.py` tests those without
schema = schemathesis.openapi.from_dict(DOCUMENT)

# What a valid document cannot say: that the user is known, that the time is not too old, and that a parameter is needed if another
# one is missing. So good requests may be answered with these problems.
HEALTH = [
    HealthCheck.too_slow,
    HealthCheck.filter_too_much,
    HealthCheck.data_too_large,
    HealthCheck.function_scoped_fixture,
]
# The requests that follow from the document are made when the test is collected, in seconds. The quick test makes them.
MANY = [phase for phase in Phase if phase is not Phase.explicit]
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
]


class Server(NamedTuple):
    """An API that runs."""

    url: str
    headers: dict[str, str]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Generator[Server]:
    """An API in a thread of its own, because Schemathesis waits for answers."""
    loop = asyncio.new_event_loop()
    ready, found = threading.Event(), list[str]()
    stop = asyncio.Event()

    async def run() -> None:
        serving = make_serving(Bundle.load())
        fill(serving)
        path = tmp_path_factory.mktemp("tokens") / "tokens.json"
        found.append(create_token(path, "all", ["admin"], now=datetime.now(UTC)))
        access = Access(Tokens(path), host="127.0.0.1", origins=(), rate=0, clock=lambda: 0.0)
        api = Api(
            serving,
            access,
            AccessLog(lambda _: None, ids=False, worker="serve"),
            intake=Intake(300.0, 631_152_000_000),
            limits=Limits(),
            clock=lambda: NOW / 1000,
        )
        async with open_server(app_of(api), "127.0.0.1", 0, Connections(most=100)) as port:
            found.append(f"http://127.0.0.1:{port}")
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(run(),))
    thread.start()
    assert ready.wait(60)
    token, url = found
    yield Server(url, {"Authorization": f"Bearer {token}"})
    loop.call_soon_threadsafe(stop.set)
    thread.join(60)
    loop.close()


def test_the_document_is_valid() -> None:
    OpenAPIV31SpecValidator(json.loads(OPENAPI)).validate()


def test_each_route_is_in_it_with_its_statuses_and_its_scope() -> None:
    whole = json.loads(OPENAPI)
    for route in ROUTES:
        operation = whole["paths"][route.path][route.method.lower()]
        assert {int(status) for status in operation["responses"]} == {
            route.status, *route.also, *(PROBLEMS[reason].status for reason in route.reasons),
        }  # fmt: skip
        assert operation["security"] == ([] if route.scope is None else [{"token": []}])
    assert sum(len(path) for path in whole["paths"].values()) == len(ROUTES)


def check(case: Case[Any], server: Server) -> None:
    response = case.call(base_url=server.url, headers=server.headers, timeout=60)
    # A part of a form is any bytes: what is no picture and no address is accepted, and its fate is in the answer.
    unchecked = [negative_data_rejection] if case.media_type == FORM else []
    case.validate_response(response, checks=CHECKS, excluded_checks=unchecked)


@schema.parametrize()
@settings(max_examples=5, deadline=None, suppress_health_check=HEALTH)
def test_each_route_keeps_to_the_document(case: Case[Any], server: Server) -> None:
    check(case, server)


@pytest.mark.slow
@schema.parametrize()
@settings(max_examples=300, deadline=None, suppress_health_check=HEALTH, phases=MANY)
def test_each_route_keeps_to_the_document_for_long(case: Case[Any], server: Server) -> None:
    check(case, server)
