"""Who may ask: tokens and scopes, the rate, other sites, other hosts, and what an answer tells about the server."""

import json
import os
import sys
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from streams.exceptions import StartupError
from streams.serve.api.access import Access, is_loopback
from streams.serve.api.access_log import open_log
from streams.serve.api.app import ROUTES, make_app
from streams.serve.api.problems import PROBLEMS
from streams.serve.api.tokens import Tokens, create_token, revoke_token
from streams.settings import read_settings
from tests.streams.serve.api.conftest import Serve, Served, problem_of
from tests.streams.serve.made import MadeServing

ADA = "/v1/users/ada/recommendations"

# Tokens


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearer x",
        "Basic eDp5",
        "tst_x",
        "Bearer tst_" + "x" * 43,
        "Bearer " + "x" * 5000,
        "Bearer é",
    ],
)
async def test_without_a_good_token_nothing_is_said(serve: Serve, header: str) -> None:
    async with serve(scopes=("read",)) as served:
        response = await served.get(ADA, headers={"Authorization": header} if header else {})
        assert (response.status, (await problem_of(response))["reason"]) == (401, "not_authenticated")
        assert response.headers["WWW-Authenticate"] == "Bearer"


async def test_each_route_needs_its_scope_and_admin_has_all(serve: Serve) -> None:
    async with serve(scopes=("read", "write", "admin")) as served:
        for route in ROUTES:
            if route.media == "text/event-stream":
                continue
            path = route.path.format(user_id="ada", item_id="item-1", reason="busy", partition=0, offset=0)
            for scope in ("read", "write", "admin"):
                response = await served.ask(route.method, path, headers=served.bearer(scope))
                permitted = route.scope in (None, scope) or scope == "admin"
                assert (response.status == 403) == (not permitted), (route.name, scope, response.status)
            assert (await served.ask(route.method, path)).status == (200 if route.scope is None else 401), route.name


async def test_a_revoked_token_ends_and_a_new_one_begins_without_a_restart(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streams.serve.api.tokens.CHECK", 0.0)
    async with serve(scopes=("read",)) as served:
        assert (await served.get(ADA, headers=served.bearer("read"))).status == 200
        path = tmp_path / "tokens.json"
        served.tokens["new"] = create_token(path, "new", ["read"], now=datetime.now(UTC))
        assert (await served.get(ADA, headers=served.bearer("new"))).status == 200
        revoke_token(path, "read")
        assert (await served.get(ADA, headers=served.bearer("read"))).status == 401
        revoke_token(path, "new")
        assert (await served.get(ADA)).status == 401  # without any token left, it does not open
        path.unlink()
        assert (await served.get(ADA)).status == 401


async def test_an_expired_token_is_told_so_and_does_not_open_the_worker(serve: Serve, tmp_path: Path) -> None:
    now, day = datetime.now(UTC), timedelta(days=1)
    path = tmp_path / "tokens.json"
    old = create_token(path, "old", ["admin"], now=now - 2 * day, expires=now - day)
    async with serve() as served:
        assert (await served.get(ADA)).status == 401  # a token that has expired is no missing token
        response = await served.get(ADA, headers={"Authorization": f"Bearer {old}"})
        found = await problem_of(response)
        assert (response.status, found["reason"]) == (401, "token_expired")
        assert found["detail"] == f"the token old was valid until {now - day:%Y-%m-%d %H:%M:%SZ}"
        assert response.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'
    good = create_token(path, "good", ["read"], now=now, expires=now + day)
    async with serve() as served:
        assert (await served.get(ADA, headers={"Authorization": f"Bearer {good}"})).status == 200
        erased = await served.ask("DELETE", "/v1/users/ada", headers={"Authorization": f"Bearer {old}"})
        assert erased.status == 401


async def test_while_the_file_is_damaged_the_last_tokens_count(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streams.serve.api.tokens.CHECK", 0.0)
    async with serve(scopes=("read",)) as served:
        path = tmp_path / "tokens.json"
        good = path.read_bytes()
        path.write_text('{"tokens": [')
        assert (await served.get(ADA, headers=served.bearer("read"))).status == 200
        assert (await served.get(ADA)).status == 401
        path.write_bytes(good)
        assert (await served.get(ADA, headers=served.bearer("read"))).status == 200


async def test_a_first_token_closes_an_open_worker(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streams.serve.api.tokens.CHECK", 0.0)
    async with serve() as served:
        assert (await served.get(ADA)).status == 200
        create_token(tmp_path / "tokens.json", "first", ["read"], now=datetime.now(UTC))
        assert (await served.get(ADA)).status == 401


def test_without_a_token_only_loopback_is_an_address(tmp_path: Path, serving: MadeServing) -> None:
    for host in ("0.0.0.0", "::", "10.0.0.1", "shop.example", "localhost.example", ""):
        with pytest.raises(StartupError, match="tastestream token create") as refused:
            Access(Tokens(tmp_path / "none"), host=host, origins=(), rate=0, clock=lambda: 0.0)
        assert "\n" not in str(refused.value)
    settings = read_settings(serve_host="0.0.0.0", data_dir=tmp_path)
    with pytest.raises(StartupError, match=r"SERVE_HOST is 0\.0\.0\.0"):
        make_app(serving, settings)
    create_token(settings.tokens_file, "shop", ["read"], now=datetime.now(UTC))
    make_app(serving, settings)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "localhost.", "127.0.0.1", "127.9.9.9", "::1"])
def test_loopback_has_several_names(host: str) -> None:
    assert is_loopback(host)


# Other sites in a browser


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "169.254.1.1", "localhost.evil.example", "[::2]", "0.0.0.0", ""]
)
async def test_without_tokens_another_host_is_refused(served: Served, host: str) -> None:
    response = await served.get(ADA, headers={"Host": host})
    assert (response.status, (await problem_of(response))["reason"]) == (403, "foreign_host")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:6068", "[::1]:6068", "LocalHost:1"])
async def test_without_tokens_this_machine_has_several_names(served: Served, host: str) -> None:
    assert (await served.get(ADA, headers={"Host": host})).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
async def test_without_tokens_another_site_is_refused(served: Served, headers: dict[str, str]) -> None:
    for method, path in (("GET", ADA), ("DELETE", "/v1/users/ada"), ("OPTIONS", ADA)):
        response = await served.ask(method, path, headers=headers)
        assert (response.status, (await problem_of(response))["reason"]) == (403, "cross_site")
    assert not served.serving.sender.sent


async def test_without_tokens_the_own_page_may_ask(served: Served) -> None:
    own = {"Origin": f"http://{served.host}:{served.port}", "Sec-Fetch-Site": "same-origin"}
    assert (await served.get(ADA, headers=own)).status == 200
    assert (await served.get(ADA, headers={"Sec-Fetch-Site": "none"})).status == 200


async def test_a_named_site_may_ask_from_a_browser_and_no_other(serve: Serve) -> None:
    async with serve(scopes=("read",), origins=("https://shop.example",)) as served:
        named = {"Origin": "https://shop.example", **served.bearer("read")}
        response = await served.get(ADA, headers=named)
        assert response.headers["Access-Control-Allow-Origin"] == "https://shop.example"
        assert "Origin" in response.headers["Vary"]
        refused = await served.get(ADA, headers={"Origin": "https://shop.example"})
        assert (refused.status, refused.headers["Access-Control-Allow-Origin"]) == (401, "https://shop.example")
        preflight = await served.ask("OPTIONS", ADA, headers={"Origin": "https://shop.example"})
        assert (preflight.status, "Authorization" in preflight.headers["Access-Control-Allow-Headers"]) == (204, True)
        other = await served.get(ADA, headers={"Origin": "https://evil.example", **served.bearer("read")})
        assert "Access-Control-Allow-Origin" not in other.headers
        assert "Access-Control-Allow-Credentials" not in response.headers


# The rate


async def test_a_token_that_asks_too_often_waits_and_others_do_not(serve: Serve) -> None:
    now = 0.0
    async with serve(scopes=("read", "admin"), rate=2, clock=lambda: now) as served:
        statuses = [(await served.get(ADA, headers=served.bearer("read"))).status for _ in range(3)]
        assert statuses == [200, 200, 429]
        response = await served.get(ADA, headers=served.bearer("read"))
        assert (await problem_of(response))["reason"] == "too_many_requests"
        assert response.headers["Retry-After"] == "1"
        assert (await served.get(ADA, headers=served.bearer("admin"))).status == 200
        assert (await served.get("/live")).status == 200
        now = 0.5
        assert (await served.get(ADA, headers=served.bearer("read"))).status == 200


# What answers tell


async def test_no_answer_names_the_server_and_each_has_the_headers(served: Served) -> None:
    for method, path in (("GET", ADA), ("GET", "/nothing"), ("OPTIONS", ADA), ("POST", "/live"), ("HEAD", ADA)):
        response = await served.ask(method, path)
        assert "Server" not in response.headers
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert "default-src 'none'" in response.headers["Content-Security-Policy"]


async def test_the_access_log_names_nobody(served: Served) -> None:
    await served.get("/v1/users/ada-the-shopper/recommendations?event_id=e-secret")
    await served.get("/v1/items/item-secret/similar")
    await served.get("/ada-the-shopper")
    assert not any("ada" in line or "secret" in line for line in served.log)
    [first, second, third] = map(json.loads, served.log)
    assert (first["route"], first["status"], first["method"], first["token"]) == (
        "/v1/users/{user_id}/recommendations", 200, "GET", "-",
    )  # fmt: skip
    assert (second["status"], third["route"], third["status"]) == (404, "-", 404)
    assert {"time", "bytes", "ms"} < first.keys() and "from" not in first


async def test_the_access_log_has_paths_if_it_is_asked_for_them(serve: Serve) -> None:
    async with serve(ids=True, scopes=("read",)) as served:
        await served.get(ADA, headers=served.bearer("read"))
        [line] = map(json.loads, served.log)
        assert (line["path"], line["token"], line["from"]) == (ADA, "read", "127.0.0.1")
        assert served.tokens["read"] not in served.log[0]


async def test_a_kind_of_problem_is_explained(served: Served) -> None:
    for reason, kind in PROBLEMS.items():
        found = await (await served.get(f"/problems/{reason}")).json()
        assert (found["status"], found["title"]) == (kind.status, kind.title)
    assert (await served.get("/problems/none")).status == 404


def test_the_access_log_outlives_its_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    output = os.fdopen(writer, "w")
    monkeypatch.setattr(sys, "stdout", output)
    write = open_log()
    write("one")
    assert os.read(reader, 100) == b"one\n"
    os.close(reader)
    for _ in range(3):
        write("two")
    with suppress(BrokenPipeError):  # of what is left in its buffer
        output.close()
    write("three")
