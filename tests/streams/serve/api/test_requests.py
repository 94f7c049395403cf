"""Requests of any kind: parameters, methods, media types, and what is no HTTP. Each gets the right status and one problem document."""

import asyncio
import json
import logging
import resource
import socket
from contextlib import ExitStack

import pytest

from streams.serve.api import explaining
from streams.serve.api.context import Limits
from streams.serve.api.routes import accepts
from streams.serve.api.server import Connections
from tests.streams.serve.api.conftest import Serve, Served, problem_of

ADA = "/v1/users/ada/recommendations"


@pytest.mark.parametrize(
    ("query", "reason", "field"),
    [
        ("k=0", "invalid_field", "k"),
        ("k=101", "invalid_field", "k"),
        ("k=1000000000000000000000000", "invalid_field", "k"),
        ("k=" + "9" * 5000, "invalid_field", "k"),
        ("k=ten", "invalid_field", "k"),
        ("k=", "invalid_field", "k"),
        ("k=1&k=2", "invalid_field", "k"),
        ("items=201", "invalid_field", "items"),
        ("items=-1", "invalid_field", "items"),
        ("price_max=nan", "invalid_field", "price_max"),
        ("price_max=inf", "invalid_field", "price_max"),
        ("price_max=1e999", "invalid_field", "price_max"),
        ("price_max=null", "invalid_field", "price_max"),
        ("diversity=1.1", "invalid_field", "diversity"),
        ("in_stock=1", "invalid_field", "in_stock"),
        ("in_stock=yes", "invalid_field", "in_stock"),
        ("exclude=all", "invalid_field", "exclude"),
        ("at=later", "invalid_field", "at"),
        ("wait_ms=5001&event_id=e", "invalid_field", "wait_ms"),
        ("event_id=" + "x" * 129, "invalid_field", "event_id"),
        ("event_id=%00", "invalid_field", "event_id"),
        ("event_id=%FF", "invalid_field", ""),
        ("category=" + "x" * 257, "invalid_field", "category"),
        ("limit=5", "unknown_parameter", "limit"),
        ("K=5", "unknown_parameter", "K"),
        ("&".join(f"a{number}=1" for number in range(40)), "invalid_field", ""),
    ],
)
async def test_a_parameter_that_is_not_valid_is_named(served: Served, query: str, reason: str, field: str) -> None:
    response = await served.get(f"{ADA}?{query}")
    found = await problem_of(response)
    assert (response.status, found["reason"], found.get("field", "")) == (400, reason, field)


@pytest.mark.parametrize(
    ("body", "reason", "field"),
    [
        (b"", "empty_message", ""),
        (b"{", "invalid_json", ""),
        (b"\xff", "invalid_json", ""),
        (b"[" * 9000, "invalid_field", ""),
        (b'{"users": ' + b"[" * 9000, "invalid_field", "users[0]"),
        (b"{}", "missing_field", "users"),
        (b'{"users": []}', "invalid_field", "users"),
        (b'{"users": [7]}', "invalid_field", "users[0]"),
        (json.dumps({"users": ["a"] * 101}).encode(), "invalid_field", "users"),
        (b'{"users": ["a"], "k": 1000}', "invalid_field", "k"),
        (b'{"users": ["a\\u0000b"]}', "invalid_field", "users"),
        (b'{"users": ["a"], "more": 1}', "invalid_field", ""),
        (b'{"users": ["' + b"x" * 257 + b'"]}', "invalid_field", "users[0]"),
    ],
)
async def test_a_body_that_is_not_valid_is_named(served: Served, body: bytes, reason: str, field: str) -> None:
    response = await served.ask("POST", "/v1/users:batch", data=body, headers={"Content-Type": "application/json"})
    found = await problem_of(response)
    assert (response.status, found["reason"], found.get("field", "")) == (400, reason, field), found


async def test_a_path_that_is_none_is_not_found(served: Served) -> None:
    for path in (
        "/v1",
        "/v2/users/ada",
        "/v1/users//recommendations",
        "/v1/users/ada/",
        "/v1/users",
        "/v1/users/a/b/c",
    ):
        response = await served.get(path)
        assert (response.status, (await problem_of(response))["reason"]) == (404, "unknown_route"), path


async def test_a_method_that_is_not_there_is_refused_with_those_that_are(served: Served) -> None:
    for method, path, allowed in (
        ("POST", "/v1/users/ada", "DELETE,GET,HEAD,OPTIONS"),
        ("GET", "/v1/taste", "OPTIONS,POST"),
        ("TRACE", "/live", "GET,HEAD,OPTIONS"),
        ("PATCH", "/live", "GET,HEAD,OPTIONS"),
    ):
        response = await served.ask(method, path)
        assert (response.status, (await problem_of(response))["reason"]) == (405, "method_not_allowed")
        assert response.headers["Allow"] == allowed
        options = await served.ask("OPTIONS", path)
        assert (options.status, sorted(options.headers["Allow"].split(", "))) == (204, allowed.split(","))


async def test_a_head_is_a_get_without_its_body(served: Served) -> None:
    for path in (ADA, "/v1/status", "/live", "/openapi.json", "/v1/stream"):
        response = await served.ask("HEAD", path)
        assert (response.status, await response.read()) == (200, b"")
    missing = await served.ask("HEAD", "/v1/users/nobody")
    assert (missing.status, await missing.read()) == (404, b"")


@pytest.mark.parametrize(
    ("header", "media", "expected"),
    [
        (None, "application/json", True),
        ("*/*", "application/json", True),
        ("application/*", "application/json", True),
        ("text/html, application/json;q=0.5", "application/json", True),
        ("text/html", "application/json", False),
        ("application/json;q=0", "application/json", False),
        ("*/*, application/json;q=0", "application/json", False),
        ("text/html;q=x, application/json;q=y", "application/json", False),
        ("text/event-stream", "text/event-stream", True),
    ],
)
def test_what_a_client_accepts(header: str | None, media: str, expected: bool) -> None:
    assert accepts(header, media) is expected


async def test_an_answer_that_the_client_does_not_accept_is_refused(served: Served) -> None:
    response = await served.get(ADA, headers={"Accept": "text/html"})
    assert (response.status, (await problem_of(response))["reason"]) == (406, "not_acceptable")
    for path, media in (("/v1/stream", "application/json"), ("/metrics", "application/json")):
        assert (await served.get(path, headers={"Accept": media})).status == 406


async def test_json_has_to_say_that_it_is(served: Served) -> None:
    for path in ("/v1/interactions", "/v1/users:batch", "/v1/users/ada/rank"):
        response = await served.ask("POST", path, data=b"{}", headers={"Content-Type": "text/plain"})
        assert (response.status, (await problem_of(response))["reason"]) == (415, "unsupported_media_type")


async def test_an_unknown_expectation_is_refused_and_a_known_one_answered(served: Served) -> None:
    response = await served.get(ADA, headers={"Expect": "a miracle"})
    assert (response.status, (await problem_of(response))["reason"]) == (417, "expectation_failed")
    body = await served.post("/v1/users:batch", {"users": ["ada"]}, expect100=True)
    assert body.status == 200


async def test_the_status_says_what_the_answers_are_made_of(served: Served) -> None:
    found = await (await served.get("/v1/status")).json()
    assert (found["ready"], found["items"], len(found["partitions"])) == (True, 10, 4)
    assert found["model"]["name"] == served.serving.bags.bundle.name
    assert (await served.get("/ready")).status == 200
    served.serving.trend_ready = False
    waiting = await served.get("/ready")
    assert (waiting.status, (await waiting.json())["reason"]) == (503, "reading the trend")
    served.serving.bags.ready = False
    assert (await served.get("/ready")).status == 503
    assert (await served.get("/live")).status == 200
    served.serving.still = 30.0
    stalled = await served.get("/live")
    assert (stalled.status, await stalled.json()) == (503, {"live": False, "seconds_without_progress": 30.0})
    served.serving.still = 0.0
    metrics = await (await served.get("/metrics")).text()
    assert 'tastestream_serve_requests_total{method="GET",route="/ready",status="503"}' in metrics


async def test_a_defect_of_ours_is_one_problem_and_tells_nothing(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("a secret")

    monkeypatch.setattr(explaining, "explain", broken)
    async with serve() as served:
        response = await served.get("/v1/users/ada/explanation?category=camera")
        assert (response.status, (await problem_of(response))["reason"]) == (500, "internal_error")
        assert "secret" not in await response.text()


async def test_a_request_beyond_what_is_computed_at_a_time_is_refused(serve: Serve) -> None:
    async with serve() as served:
        served.api._waiting = 32
        response = await served.get(f"{ADA}?items=3")
        assert (response.status, (await problem_of(response))["reason"]) == (503, "busy")
        assert (await served.get(ADA)).status == 200


# What is no HTTP


async def raw(served: Served, request: bytes, *, seconds: float = 5.0) -> bytes:
    """Everything that the server answers until it closes the connection."""
    reader, writer = await asyncio.open_connection(served.host, served.port)
    writer.write(request)
    try:
        async with asyncio.timeout(seconds):
            return await reader.read()
    finally:
        writer.close()


HOST = b"Host: localhost\r\n"


@pytest.mark.parametrize(
    ("request_", "status", "reason"),
    [
        (b"hello\r\n\r\n", 400, "malformed_request"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400, "malformed_request"),
        (b"GET /live HTTP/9.9\r\n" + HOST + b"\r\n", 400, "malformed_request"),
        (b"GET /live HTTP/1.1\r\nBad Header: x\r\n\r\n", 400, "malformed_request"),
        (b"GET /live HTTP/1.1\r\n" + HOST + b"X: " + b"y" * 9000 + b"\r\n\r\n", 431, "headers_too_large"),
        (b"GET /live HTTP/1.1\r\n" + HOST + b"X: y\r\n" * 100 + b"\r\n", 431, "headers_too_large"),
        (b"GET /live?" + b"y" * 9000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414, "uri_too_long"),
        (
            b"POST /v1/taste HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            400,
            "malformed_request",
        ),
        (b"POST /v1/taste HTTP/1.1\r\n" + HOST + b"Content-Length: x\r\n\r\n", 400, "malformed_request"),
    ],
)
async def test_what_is_no_http_is_one_problem(served: Served, request_: bytes, status: int, reason: str) -> None:
    answer = await raw(served, request_)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head[8:13] == f" {status} ".encode(), answer[:300]
    assert b"Content-Type: application/problem+json" in head
    assert b"Server:" not in head
    assert json.loads(body)["reason"] == reason


async def test_a_broken_chunk_of_a_body_is_one_problem(served: Served) -> None:
    request = (
        b"POST /v1/users:batch HTTP/1.1\r\n"
        + HOST
        + b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"
    )
    answer = await raw(served, request)
    assert answer[8:13] == b" 400 "
    assert b"malformed_request" in answer


async def test_a_client_that_does_not_send_its_headers_is_dropped(serve: Serve) -> None:
    async with serve(connections=Connections(most=10, idle_seconds=0.2)) as served:
        for begun in (b"", b"GET /live HTTP/1.1\r\nHost: loc"):
            assert await raw(served, begun, seconds=3) == b""


async def test_a_client_that_does_not_send_its_body_is_told_so(serve: Serve) -> None:
    async with serve(limits=Limits(body_seconds=0.2, upload_seconds=0.2)) as served:
        for media in (b"application/json", b"multipart/form-data; boundary=x"):
            path = b"/v1/taste" if media.startswith(b"multipart") else b"/v1/users:batch"
            begun = b"POST %b HTTP/1.1\r\n%bContent-Type: %b\r\nContent-Length: 100\r\n\r\n--x" % (path, HOST, media)
            answer = await raw(served, begun, seconds=5)
            assert answer.startswith(b"HTTP/1.1 408 "), answer[:200]
            assert b"slow_request" in answer
        assert served.api._room == served.api.limits.bodies_bytes


async def flood(writer: asyncio.StreamWriter, request: bytes) -> None:
    """Ask without end, and read nothing. Raises ConnectionError when the server has had enough."""
    while True:
        writer.write(request)
        await writer.drain()
        await asyncio.sleep(0.05)


async def test_a_client_that_does_not_read_its_answer_is_dropped(serve: Serve) -> None:
    async with serve(connections=Connections(most=10, write_seconds=0.3)) as served:
        reader, writer = await asyncio.open_connection(served.host, served.port, limit=1024)
        writer.transport.pause_reading()  # pyright: ignore[reportAttributeAccessIssue]
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(flood(writer, b"GET /openapi.json HTTP/1.1\r\n" + HOST + b"\r\n"), 60)
        writer.close()
        del reader


async def test_more_connections_than_permitted_are_refused(serve: Serve) -> None:
    async with serve(connections=Connections(most=3)) as served:
        held = [await asyncio.open_connection(served.host, served.port) for _ in range(3)]
        answer = await raw(served, b"")
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["reason"] == "too_many_connections"
        for _, writer in held:
            writer.close()
        request = b"GET /live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        async with asyncio.timeout(60):
            while not (await raw(served, request)).startswith(b"HTTP/1.1 200 "):
                pass


async def test_without_a_file_for_a_connection_it_says_so_once_and_accepts_it_later(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with serve() as served:
        with ExitStack() as stack, caplog.at_level(logging.WARNING):
            clients = [stack.enter_context(socket.socket()) for _ in range(20)]
            files = clients[-1].fileno() + 1
            resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
            try:
                for client in clients:
                    client.setblocking(False)
                    client.connect_ex((served.host, served.port))
                async with asyncio.timeout(60):
                    while not caplog.records:  # noqa: ASYNC110 -- the server sends no notice
                        await asyncio.sleep(0.01)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            assert {type(one.__dict__.get("kind")).__name__ for one in caplog.records} == {"Kind"}
            assert "connections wait, because none can be accepted" in caplog.text
            loop = asyncio.get_running_loop()
            async with asyncio.timeout(60):
                await loop.sock_sendall(clients[-1], b"GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert (await loop.sock_recv(clients[-1], 100)).startswith(b"HTTP/1.1 200 ")
