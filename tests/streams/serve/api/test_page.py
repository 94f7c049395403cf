"""The files of the web page: who gets them, and what a browser may load for them."""

import gzip
import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from streams.serve.page.static import FILES, policy, read_files
from tests.streams.serve.api.conftest import Serve, Served, problem_of

MODULES = sorted(FILES.rglob("*.js"))


def directives(headers: Mapping[str, str]) -> dict[str, list[str]]:
    parts = [part.split() for part in headers["Content-Security-Policy"].split(";")]
    return {name: values for name, *values in parts}


async def test_each_file_has_its_type_and_may_be_asked_for_again(served: Served) -> None:
    for path, file in read_files().items():
        response = await served.get(path)
        assert (response.status, response.headers["Content-Type"]) == (200, file.media), path
        assert await response.read() == file.content
        known = await served.get(path, headers={"If-None-Match": response.headers["ETag"]})
        assert (known.status, await known.read()) == (304, b""), path


async def test_a_client_that_can_unpack_gets_fewer_bytes(served: Served) -> None:
    packed = await served.client.get(
        served.url("/page/app.js"), headers={"Accept-Encoding": "gzip"}, auto_decompress=False
    )
    plain = await served.get("/page/app.js", headers={"Accept-Encoding": "identity"})
    assert packed.headers["Content-Encoding"] == "gzip"
    assert "Content-Encoding" not in plain.headers
    assert gzip.decompress(await packed.read()) == await plain.read()
    assert "Accept-Encoding" in packed.headers["Vary"] and "Accept-Encoding" in plain.headers["Vary"]


async def test_the_page_loads_nothing_but_its_own_files_and_pictures_of_the_web(served: Served) -> None:
    response = await served.get("/")
    found = directives(response.headers)
    assert found.pop("img-src") == ["'self'", "https:", "data:", "blob:"]
    assert found == {
        "default-src": ["'none'"],
        "script-src": ["'self'"],
        "style-src": ["'self'"],
        "connect-src": ["'self'"],
        "base-uri": ["'none'"],
        "form-action": ["'none'"],
        "frame-ancestors": ["'none'"],
        "require-trusted-types-for": ["'script'"],
        "trusted-types": ["'none'"],
    }
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Referrer-Policy"] == "no-referrer"
    assert directives((await served.get("/v1/status")).headers)["default-src"] == ["'none'"]


def test_pictures_of_this_machine_are_shown_only_where_they_may_be_fetched() -> None:
    assert "http:" not in policy(local_pictures=False)
    assert "http://127.0.0.1:*" in policy(local_pictures=True)


async def test_a_link_of_another_site_leads_to_the_page_and_to_nothing_else(served: Served) -> None:
    other = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert (await served.get("/", headers=other)).status == 200
    refused = await served.get("/v1/status", headers=other)
    assert (await problem_of(refused))["reason"] == "cross_site"


async def test_the_page_needs_no_token_and_what_it_asks_for_does(serve: Serve) -> None:
    async with serve(scopes=("read",)) as served:
        assert (await served.get("/")).status == 200
        assert (await served.get("/page/app.js")).status == 200
        assert (await served.get("/v1/status")).status == 401


@pytest.mark.parametrize(
    "path", ["/page/", "/page/none.js", "/page/../static.py", "/page/%2e%2e/static.py", "/index.html"]
)
async def test_there_is_no_other_file(served: Served, path: str) -> None:
    assert (await served.get(path)).status == 404


async def test_the_access_log_has_one_route_for_all_files(served: Served) -> None:
    await served.get("/page/app.js")
    assert '"/page"' in served.log[-1]


def test_no_script_and_no_style_is_inside_of_the_document() -> None:
    document = (FILES / "index.html").read_text()
    assert not re.search(r"<style|style=|\son\w+=|<script(?![^>]*\ssrc=)", document)
    addresses = re.findall(r'(?:src|href)="(/[^"]*)"', document)
    assert not re.search(r'(?:src|href)="[^/#]', document)
    assert addresses and all(address in read_files() for address in addresses)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(FILES).as_posix())
def test_a_module_makes_no_markup_of_text(path: Path) -> None:
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", path.read_text()
    )


def test_the_document_asks_for_all_modules_at_once_and_not_one_after_the_other() -> None:
    modules = {f"/page/{path.relative_to(FILES).as_posix()}" for path in MODULES} - {"/page/types.js", "/page/app.js"}
    document = (FILES / "index.html").read_text()
    assert set(re.findall(r'<link rel="modulepreload" href="([^"]+)">', document)) == modules


def test_the_files_are_small() -> None:
    assert sum(len(file.packed) for file in read_files().values()) < 250_000
