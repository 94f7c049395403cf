"""Requests to the HTTP API: an address, its parameters, and a body, each on lines of its own."""

from collections.abc import Callable
from typing import Any
from urllib.parse import quote, urlencode

import msgspec

from streams.serve.api.app import ROUTES
from streams.serve.api.interactions import split_events
from streams.serve.api.parameters import MAX_EVENTS, MAX_USERS, RecommendationQuery, UserList
from streams.serve.api.problems import PROBLEMS, Problem
from streams.serve.api.routes import accepts, body_value, path_values, query_values
from streams.text import UNSAFE

[ROUTE] = [route for route in ROUTES if route.name == "recommendations"]


def seeds() -> list[bytes]:
    """Good requests, and requests at the limits."""
    paths = [b"ada", b"a%2Fb", b"%F0%9F%A7%B6", b"%25", b"%00", b"%FF", b"x" * 256, b"%zz", b".."]
    queries = [
        b"", b"k=5&items=12&category=camera&in_stock=true&price_max=9.5", b"k=101", b"price_max=nan", b"k=1&k=2",
        b"event_id=e%2D1&wait_ms=50", b"exclude=nothing&diversity=1&at=event", b"%FF=1", b"in_stock=1", b"=&&",
    ]  # fmt: skip
    bodies = [
        b'{"users":["ada","bob"],"k":5}', b"{}", b"[" * 900, b'[{"user_id":1},2]', b"[]", b'{"users":["\\u0000"]}', b"\xff",
    ]  # fmt: skip
    found = [b"\n".join((path, b"k=5", b'{"users":["ada"]}')) for path in paths]
    found += [b"\n".join((b"ada", query, b'{"users":["ada"]}')) for query in queries]
    return found + [b"\n".join((b"ada", b"", body)) for body in bodies]


def check(data: bytes) -> str:
    """Read a request. What is accepted is within its limits, and is the same when it is written and read again."""
    path, query, body = [*data.split(b"\n", 2), b"", b""][:3]
    outcomes = [
        _outcome(_path, path.decode("latin-1").replace("/", "")),
        _outcome(_query, query.decode("latin-1")),
        _outcome(_body, body),
        _outcome(_events, body),
    ]
    accepts(query.decode("latin-1"), "application/json")
    return next((one for one in outcomes[:3] if one != "accepted"), "accepted")


def _outcome(read: Callable[[Any], None], given: str | bytes) -> str:
    try:
        read(given)
    except Problem as error:
        assert error.reason in PROBLEMS
        assert msgspec.json.decode(error.document())["reason"] == error.reason
        return error.reason
    return "accepted"


def _path(given: str) -> None:
    found = path_values(ROUTE, f"/v1/users/{given}/recommendations")
    user = found["user_id"]
    assert 1 <= len(user) <= 256
    assert not UNSAFE.search(user)
    assert path_values(ROUTE, f"/v1/users/{quote(user, safe='')}/recommendations") == found


def _query(given: str) -> None:
    found = query_values(RecommendationQuery, given)
    assert 0 <= found.items <= 200
    assert 0 <= found.wait_ms <= 5000
    assert 0 <= found.diversity <= 1
    values: dict[str, Any] = msgspec.to_builtins(found)
    written = {name: str(value).lower() if isinstance(value, bool) else value for name, value in values.items()}
    assert query_values(RecommendationQuery, urlencode(written)) == found


def _body(given: bytes) -> None:
    found = body_value(UserList, given)
    assert 1 <= len(found.users) <= MAX_USERS
    assert body_value(UserList, msgspec.json.encode(found)) == found


def _events(given: bytes) -> None:
    found = split_events(given)
    assert 1 <= len(found) <= MAX_EVENTS
    again = split_events(b"[" + b",".join(found) + b"]")
    assert again == [one.strip(b" \t\r\n") for one in found]
