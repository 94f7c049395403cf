"""A request carries the path and query of the URL byte for byte. Only what is illegal in a URL is encoded, as browsers do."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.exceptions import FetchError
from streams.web.addresses import check_url, host_and_port, parse_url
from streams.web.fetch import Fetcher
from tests.streams.web.servers import LOOPBACK, PICTURE, Answers, failure, talking


@dataclass
class Requests:
    """What a server was asked for. It answers with the given `Location` headers first, and then with a picture."""

    locations: list[bytes] = field(default_factory=list[bytes])
    targets: list[str] = field(default_factory=list[str])
    url: str = ""

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            request = await reader.readuntil(b"\r\n\r\n")
            self.targets.append(request.split(b" ")[1].decode())
            if self.locations:
                location = self.locations.pop(0)
                writer.write(b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: " + location + b"\r\n\r\n")
            else:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(PICTURE) + PICTURE)


@asynccontextmanager
async def recording(*locations: bytes) -> AsyncGenerator[Requests]:
    requests = Requests(list(locations))
    async with talking(requests.talk) as requests.url:
        yield requests


UNCHANGED = {
    "encoded colon": "/a%3Ab.jpg",
    "lower-case hex": "/a%3ab.jpg",
    "encoded slash in a query": "/a.jpg?x=%2F",
    "encoded letters that need not be": "/%61%7E%2D.jpg?%41=%5f",
    "encoded delimiters": "/%27%28%29%2C%40%3b%24.jpg?y=%27%28%2C%40%7E",
    "the same, plain": "/'(),@;$~.jpg?y='(,@~",
    "encoded plus": "/a%2Bb.jpg?x=%2B",
    "plus and encoded space": "/a+b%20c.jpg?x=d+e%20f",
    "encoded percent sign": "/100%25.jpg?x=100%25",
    "bytes that are not UTF-8": "/m%FCnchen.jpg?x=%e4",
    "encoded control characters": "/a%00%0d%0a.jpg?x=%1F",
    "encoded dots": "/a/%2e%2e/%2E/b.jpg",
    "encoded question and number sign": "/a%3Fb%23c.jpg?x=%3f%23",
    "slashes in a row": "//a///b.jpg",
    "empty query": "/a.jpg?",
    "empty fields": "/a.jpg?&&x=&=y&",
    "parameter of a segment": "/a;v=1;/b.jpg;",
    "question mark in a query": "/a.jpg?x=a?b/c:d",
    "brackets and bars, which browsers send": "/a[1]|b.jpg?size[]=1|2",
    "a signature": "/b/hat.jpg?X-Amz-Credential=AK%2F20140501%2Feu%2Fs3&X-Amz-SignedHeaders=host&sig=a%2fb%3D%3d~",
}
ENCODED = {
    "space": ("/a b.jpg?x=1 2", "/a%20b.jpg?x=1%202"),
    "spaces around the URL": ("/a.jpg  ", "/a.jpg"),
    "not ASCII": ("/münchen/中.jpg?x=ü\U0001f455", "/m%C3%BCnchen/%E4%B8%AD.jpg?x=%C3%BC%F0%9F%91%95"),
    "not ASCII beside encoded bytes": ("/ü%3aü%FC.jpg", "/%C3%BC%3a%C3%BC%FC.jpg"),
    "percent sign that encodes nothing": ("/100%.jpg?a=%zz&b=%2", "/100%25.jpg?a=%25zz&b=%252"),
    "quotes, brackets and the like": ('/"<>\\^`{}', "/%22%3C%3E%5C%5E%60%7B%7D"),
    "dots": ("/a/../b/./c.jpg?x=/../y", "/b/c.jpg?x=/../y"),
    "dots above the root": ("/../../a.jpg", "/a.jpg"),
    "no path": ("?x=1", "/?x=1"),
    "no path, empty query": ("?", "/?"),
    "fragment": ("/a.jpg?x=1#/b?y", "/a.jpg?x=1"),
}


@pytest.mark.parametrize("target", UNCHANGED.values(), ids=UNCHANGED)
async def test_a_legal_path_and_query_go_out_as_they_came(target: str) -> None:
    async with recording() as server, Fetcher(policy=LOOPBACK) as fetcher:
        await fetcher.fetch(server.url + target)
        assert server.targets == [target]


@pytest.mark.parametrize(("written", "sent"), ENCODED.values(), ids=ENCODED)
async def test_only_what_is_illegal_is_encoded(written: str, sent: str) -> None:
    async with recording() as server, Fetcher(policy=LOOPBACK) as fetcher:
        await fetcher.fetch(server.url + written)
        assert server.targets == [sent]


@pytest.mark.parametrize("target", UNCHANGED.values(), ids=UNCHANGED)
async def test_the_bytes_of_a_redirect_are_kept(target: str) -> None:
    async with recording() as server, Fetcher(policy=LOOPBACK) as fetcher:
        server.locations = [(server.url + target).encode()]
        await fetcher.fetch(f"{server.url}/first")
        assert server.targets == ["/first", target]


@pytest.mark.parametrize(
    ("location", "sent"),
    [
        (b"b%3a.jpg", "/x%3ay/b%3a.jpg"),  # relative to the folder of the first, whose bytes stay as well
        (b"../b.jpg?x=%2f", "/b.jpg?x=%2f"),
        (b"?size=%2C", "/x%3ay/a%2c.jpg?size=%2C"),
        (b"?", "/x%3ay/a%2c.jpg?"),
        (b"b//c.jpg", "/x%3ay/b//c.jpg"),
        (b"..//b.jpg", "//b.jpg"),
        (b"#b", "/x%3ay/a%2c.jpg?v=1"),
        (b"/b c.jpg", "/b%20c.jpg"),
        ("/münchen.jpg?x=ü".encode("latin-1"), "/m%FCnchen.jpg?x=%FC"),
        ("/münchen.jpg?x=ü".encode(), "/m%C3%BCnchen.jpg?x=%C3%BC"),
        ("/中ü.jpg".encode() + b"\xff", "/%E4%B8%AD%C3%BC.jpg%FF"),
        ("/ハット.jpg".encode("shift_jis"), "/%83n%83b%83g.jpg"),
    ],
)
async def test_a_location_is_resolved_as_browsers_do(location: bytes, sent: str) -> None:
    async with recording(location) as server, Fetcher(policy=LOOPBACK) as fetcher:
        await fetcher.fetch(f"{server.url}/x%3ay/a%2c.jpg?v=1")
        assert server.targets == ["/x%3ay/a%2c.jpg?v=1", sent]


async def test_a_proxy_is_asked_for_the_same_bytes() -> None:
    resolver = Answers(["8.8.8.8"])
    async with recording() as server, Fetcher(policy=LOOPBACK, resolver=resolver, proxy=server.url) as fetcher:
        await fetcher.fetch("http://shop.example/a%3ab.jpg?x=%2F,ü")
        assert server.targets == ["http://shop.example/a%3ab.jpg?x=%2F,%C3%BC"]


async def test_a_host_in_another_alphabet_is_still_called_by_its_ascii_name() -> None:
    resolver = Answers(["127.0.0.1"])
    async with recording() as server, Fetcher(policy=LOOPBACK, resolver=resolver) as fetcher:
        server.locations = ["/".join(["http:/", "bücher.example" + server.url[-6:], "ü.jpg"]).encode()]
        await fetcher.fetch(server.url.replace("127.0.0.1", "münchen.example"))
        assert resolver.asked == ["xn--mnchen-3ya.example", "xn--bcher-kva.example"]
        assert server.targets == ["/", "/%C3%BC.jpg"]


# Without a scheme


@pytest.mark.parametrize("url", ["//cdn.example/1.jpg", "//CDN.example:443/1.jpg"])
def test_a_url_without_a_scheme_is_https(url: str) -> None:
    checked = check_url(url)
    assert (checked.scheme, checked.host, checked.port) == ("https", "cdn.example", 443)
    assert host_and_port(url) == "cdn.example:443"


async def test_a_redirect_without_a_scheme_keeps_that_of_the_request() -> None:
    async with recording() as server, Fetcher(policy=LOOPBACK) as fetcher:
        server.locations = [server.url.removeprefix("http:").encode() + b"/b.jpg"]
        assert await fetcher.fetch(f"{server.url}/a.jpg") == PICTURE
        assert server.targets == ["/a.jpg", "/b.jpg"]


@pytest.mark.parametrize("url", ["//", "//:80/a.jpg", "//ann:hush@cdn.example/a.jpg", "//a b/c.jpg"])
async def test_a_url_without_a_scheme_must_be_valid_otherwise(url: str) -> None:
    async with Fetcher() as fetcher:
        error = await failure(fetcher, url)
    assert error.reason in {"url_invalid", "url_scheme"}
    assert "hush" not in str(error)


# Any URL


@given(st.text(alphabet=st.characters(codec="utf-8") | st.sampled_from("%/?#.[]| \\")))
def test_a_url_that_was_encoded_is_not_encoded_again(text: str) -> None:
    try:
        once = check_url(f"http://shop.example/{text}")
    except FetchError:
        return
    assert str(once).isascii() and " " not in str(once)
    assert parse_url(str(once)) == once
    assert str(parse_url(str(once))) == str(once)
