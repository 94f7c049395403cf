"""The corpus of hostile URLs: what a stranger may write into `image_url` or a redirect, and how the fetch fails.

Each URL aims at a canary: a server on 127.0.0.1 and ::1 that must not be called. {port} is its port, and every name resolves to
it. The policy is that of production, except that the canary's port is allowed, so that only the rules for addresses protect it.
Each URL is followed by the reason of the dead letter.
"""

import asyncio
import socket

import pytest
from aiohttp import web

from streams.web.addresses import AddressPolicy
from streams.web.fetch import Fetcher
from streams.web.guards import GuardedResolver, NameResolver
from streams.web.limits import FetchLimits
from tests.streams.web.servers import (
    LOOPBACK,
    ONLY_2,
    PICTURE,
    Answers,
    Talk,
    canary,
    failure,
    name_server,
    picture,
    serving,
    talking,
    to,
)

PATIENT = FetchLimits(connect_timeout=60, idle_timeout=60, total_timeout=60)
SHORT = FetchLimits(idle_timeout=0.3)

INSIDE = {
    # Spellings of an address that is not public.
    "loopback": "http://127.0.0.1:{port}/",
    "loopback, another of its addresses": "http://127.8.9.10:{port}/",
    "loopback in upper case": "HTTP://127.0.0.1:{port}/",
    "dot at the end": "http://127.0.0.1.:{port}/",
    "short, one part left out": "http://127.0.1:{port}/",
    "short, two parts left out": "http://127.1:{port}/",
    "decimal": "http://2130706433:{port}/",
    "decimal, dot at the end": "http://2130706433.:{port}/",
    "hex": "http://0x7f000001:{port}/",
    "hex in upper case": "http://0X7F000001:{port}/",
    "hex, dotted": "http://0x7f.0x0.0x0.0x1:{port}/",
    "hex, short": "http://0x7f.1:{port}/",
    "octal": "http://017700000001:{port}/",
    "octal, dotted": "http://0177.0.0.01:{port}/",
    "octal, zeros before it": "http://00000000000000000177.1:{port}/",
    "octal, hex and decimal": "http://0177.0x0.1:{port}/",
    "zero": "http://0:{port}/",
    "zeros": "http://0.0.0.0:{port}/",
    "zero in hex": "http://0x0:{port}/",
    "this network": "http://0.1.2.3:{port}/",
    # IDNA maps these to ASCII, and some to an address.
    "full-width digits": "http://１２７.0.0.1:{port}/",
    "full-width digits and dots": "http://１２７．０．０．１:{port}/",
    "full-width hex": "http://０ｘ７ｆ．1:{port}/",
    "ideographic full stops": "http://127。0。0。1:{port}/",
    "half-width ideographic full stops": "http://127｡0｡0｡1:{port}/",
    "circled digits": "http://①②⑦.1:{port}/",
    "circled decimal": "http://②１③0706433:{port}/",
    "mathematical digits": "http://𝟏𝟐𝟕.𝟎.𝟎.𝟏:{port}/",
    "superscript digits": "http://¹²⁷.⁰.⁰.¹:{port}/",
    # IPv6, and IPv4 written as IPv6.
    "IPv6 loopback": "http://[::1]:{port}/",
    "IPv6 loopback in full": "http://[0:0:0:0:0:0:0:1]:{port}/",
    "IPv6 loopback with a zone": "http://[::1%25lo]:{port}/",
    "IPv6 unspecified": "http://[::]:{port}/",
    "IPv4-mapped": "http://[::ffff:127.0.0.1]:{port}/",
    "IPv4-mapped in hex": "http://[::ffff:7f00:1]:{port}/",
    "IPv4-mapped in full": "http://[0:0:0:0:0:ffff:7f00:0001]:{port}/",
    "IPv4-mapped with a zone": "http://[::ffff:7f00:1%25lo]:{port}/",
    "IPv4-mapped zero": "http://[::ffff:0.0.0.0]:{port}/",
    "IPv4-translated": "http://[::ffff:0:127.0.0.1]:{port}/",
    "IPv4-compatible": "http://[::127.0.0.1]:{port}/",
    "6to4": "http://[2002:7f00:1::]:{port}/",
    "6to4 of a public address": "http://[2002:808:808::1]:{port}/",
    "NAT64": "http://[64:ff9b::127.0.0.1]:{port}/",
    "NAT64 of the metadata service": "http://[64:ff9b::a9fe:a9fe]:{port}/",
    "NAT64, a network's own": "http://[64:ff9b:1::127.0.0.1]:{port}/",
    "Teredo": "http://[2001:0:4136:e378:8000:63bf:80ff:fffe]:{port}/",
    "IPv6 link-local": "http://[fe80::1]:{port}/",
    "IPv6 link-local with a zone": "http://[fe80::1%25eth0]:{port}/",
    "IPv6 site-local": "http://[fec0::1]:{port}/",
    "IPv6 unique local": "http://[fd00::1]:{port}/",
    "IPv6 multicast": "http://[ff02::1]:{port}/",
    # Internal services and networks.
    "metadata service": "http://169.254.169.254:{port}/latest/meta-data/",
    "metadata service, decimal": "http://2852039166:{port}/latest/meta-data/",
    "metadata service, octal": "http://0251.0376.0251.0376:{port}/",
    "metadata service, IPv4-mapped": "http://[::ffff:a9fe:a9fe]:{port}/",
    "metadata service, over IPv6": "http://[fd00:ec2::254]:{port}/",
    "metadata service, in the carriers' network": "http://100.100.100.200:{port}/",
    "metadata service, in IANA's own network": "http://192.0.0.192:{port}/",
    "Azure's control service": "http://168.63.129.16:{port}/",
    "private, class A": "http://10.0.0.1:{port}/",
    "private, class B": "http://172.16.0.1:{port}/",
    "private, class C": "http://192.168.0.1:{port}/",
    "multicast": "http://224.0.0.1:{port}/",
    "broadcast": "http://255.255.255.255:{port}/",
    "benchmarks": "http://198.18.0.1:{port}/",
    "documentation": "http://203.0.113.7:{port}/",
    # The host is not the one it seems to be.
    "fragment that looks like a host": "http://127.0.0.1:{port}#@shop.example/",
    "query that looks like a host": "http://127.0.0.1:{port}?@shop.example/",
    "space in front": " http://127.0.0.1:{port}/",
    "empty user": "http://@127.0.0.1:{port}/",
    "port with zeros before it": "http://127.0.0.1:0{port}/",
    "port with a sign": "http://127.0.0.1:+{port}/",
}

NAMES = {
    # They resolve to an internal address, or only in the resolver of these tests.
    "localhost": "http://localhost:{port}/",
    "localhost in upper case": "http://LOCALHOST:{port}/",
    "localhost, dot at the end": "http://localhost.:{port}/",
    "localhost, full-width": "http://ｌｏｃａｌｈｏｓｔ:{port}/",
    "localhost with a Roman numeral": "http://ⅼocalhost:{port}/",
    "host without scheme, which is https": "//localhost:{port}/",
    "name with an address in it": "http://127.0.0.1.nip.example:{port}/",
    "name that ends like an address": "http://127.0.0.1\u2024nip.example:{port}/",
    "name of the metadata service": "http://metadata.google.internal:{port}/",
    "digits that are not ASCII": "http://\u0660:{port}/",
    "IP literal of the future": "http://[v1.x]:{port}/",
}

OTHER_SCHEMES = {
    "file": "file:///etc/passwd",
    "file on a host": "file://127.0.0.1:{port}/etc/passwd",
    "gopher": "gopher://127.0.0.1:{port}/_PING%0d%0a",
    "ftp": "ftp://127.0.0.1:{port}/a.jpg",
    "dict": "dict://127.0.0.1:{port}/info",
    "ldap": "ldap://127.0.0.1:{port}/",
    "jar": "jar:http://127.0.0.1:{port}/a.jar!/a.jpg",
    "data": "data:image/png;base64,AAAA",
    "javascript": "javascript:alert(1)",
    "WebSocket": "ws://127.0.0.1:{port}/",
    "Unix socket": "unix:///var/run/docker.sock",
    "Unix socket over http": "http+unix://%2Fvar%2Frun%2Fdocker.sock/",
    "scheme in front of the scheme": "url:http://127.0.0.1:{port}/",
}

NOT_A_URL = {
    "user and password": "http://ann:hush@127.0.0.1:{port}/",
    "user": "http://ann@127.0.0.1:{port}/",
    "password": "http://:hush@127.0.0.1:{port}/",
    "user that looks like a host": "http://shop.example:80@127.0.0.1:{port}/",
    "three hosts": "http://1.1.1.1 &@127.0.0.1:{port}# @3.3.3.3/",
    "no host": "http:///a.jpg",
    "no host, slash in front of it": "http:/127.0.0.1:{port}/",
    "no host, no slashes": "http:127.0.0.1:{port}/",
    "port out of range": "http://127.0.0.1:99999/",
    "negative port": "http://127.0.0.1:-1/",
    "port that is not a number": "http://127.0.0.1:x/",
    "two ports": "http://127.0.0.1:80:{port}/",
    "invalid octal digit": "http://08.0.0.1:{port}/",
    "decimal over 32 bits": "http://4294967297:{port}/",
    "huge decimal": "http://999999999999:{port}/",
    "five parts": "http://1.2.3.4.5:{port}/",
    "last part in hex": "http://a.0x:{port}/",
    "part over 255": "http://127.0.0.256:{port}/",
    "Devanagari digits": "http://१२७.0.0.1:{port}/",
    "soft hyphen": "http://127.0.0\u00ad.1:{port}/",
    "zero-width space": "http://127.0.0\u200b.1:{port}/",
    "percent-encoded dot": "http://127%2e0%2e0%2e1:{port}/",
    "percent-encoded digits": "http://%31%32%37.0.0.1:{port}/",
    "percent-encoded null": "http://127.0.0.1%00.shop.example:{port}/",
    "percent-encoded at sign": "http://shop.example%40127.0.0.1:{port}/",
    "two hosts, a comma between": "http://127.0.0.1,8.8.8.8:{port}/",
    "semicolon in the host": "http://127.0.0.1;shop.example:{port}/",
    "backslash before the at sign": "http://shop.example\\@127.0.0.1:{port}/",
    "backslash for a slash": "http://127.0.0.1\\.shop.example:{port}/",
    "bracket not closed": "http://[::1",
    "bracket closed twice": "http://[::1]]:{port}/",
    "empty brackets": "http://[]:{port}/",
    "empty brackets and user": "http://[]@:{port}/",
    "two double colons": "http://[1::2::3]:{port}/",
    "hex IPv4 in brackets": "http://[0x7f.1]:{port}/",
    "empty label": "http://a..b:{port}/",
    "empty first label": "http://.a:{port}/",
    "two dots at the end": "http://127.0.0.1..:{port}/",
    "space in the host": "http://a b:{port}/",
    "broken Punycode": "http://xn--a:{port}/",
    "Punycode of ASCII": "http://xn--127-:{port}/",
    "long label": f"http://{'a' * 64}.example:{{port}}/",
    "long name": f"http://{'a.' * 130}example:{{port}}/",
    "long URL": f"http://shop.example:{{port}}/{'a' * 2048}",
    "line break": "http://127.0.0.1:{port}/\r\nX-Injected: y",
    "line break in the host": "http://127.0.0.1\r\n.shop.example:{port}/",
    "tab in the host": "http://127.0.0.1\t.shop.example:{port}/",
    "null": "http://127.0.0.1:{port}/\x00",
    "delete": "http://127.0.0.1:{port}/\x7f",
    "control character of Latin-1": "http://127.0.0.1:{port}/\x85",
    "half a surrogate pair": "http://127.0.0.1:{port}/\ud800",
    "right-to-left override": "http://127.0.0.1:{port}/\u202egpj.exe",
    "line separator": "http://127.0.0.1:{port}/\u2028",
}

ODD_PORTS = {
    # Public addresses, which no test may call: the port must be refused first.
    "SSH": "http://8.8.8.8:22/",
    "SMTP": "http://8.8.8.8:25/",
    "Redis": "http://8.8.8.8:6379/",
    "memcached": "https://8.8.8.8:11211/",
    "port zero": "http://8.8.8.8:0/",
    "port in full-width digits": "http://8.8.8.8:２２/",
    "port of a name": "http://shop.example:6379/",
    "port over IPv6": "http://[2606:4700::1111]:6379/",
}

NO_SCHEME = {  # valid in a redirect, but not in an event
    "nothing": "",
    "path": "/a.jpg",
    "relative path": "a.jpg",
    "path with three slashes": "///127.0.0.1:{port}/",
    "host and port": "127.0.0.1:{port}/",
}

HOSTILE = {
    **{name: (url, "address_not_public") for name, url in (INSIDE | NAMES).items()},
    **{name: (url, "url_scheme") for name, url in OTHER_SCHEMES.items()},
    **{name: (url, "url_invalid") for name, url in NOT_A_URL.items()},
    **{name: (url, "port_not_allowed") for name, url in ODD_PORTS.items()},
}
REDIRECTED = {
    name: (location, reason)
    for name, (location, reason) in HOSTILE.items()
    if not any(c in location for c in "\r\n\x00")  # these end a header; `test_hostile_servers` has such responses
    and name != "port of a name"  # which is resolved; see below
} | {
    "host without scheme": ("//127.0.0.1:{port}/", "address_not_public"),
    "host without scheme, decimal": ("//2130706433:{port}/", "address_not_public"),
    "host without scheme, a name": ("//localhost:{port}/", "address_not_public"),
    "user without scheme": ("//ann:hush@127.0.0.1:{port}/", "url_invalid"),
    # These have no host, so they lead back to the server that redirects, in a circle.
    "no host": ("http:///a.jpg", "too_many_redirects"),
    "no host, slash in front of it": ("http:/127.0.0.1:{port}/", "too_many_redirects"),
    "no host, no slashes": ("http:127.0.0.1:{port}/", "too_many_redirects"),
    "three slashes": ("///127.0.0.1:{port}/", "too_many_redirects"),
    "long path": ("/" + "x" * 3000, "url_invalid"),
    # Its bytes are no character, so they are percent-encoded like any others.
    "half a surrogate pair": ("http://127.0.0.1:{port}/\ud800", "address_not_public"),
}


def redirecting(location: str) -> Talk:
    """Redirects to `location`. Written by hand, because no HTTP library would send all of these."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        answer = f"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: {location}\r\n\r\n"
        writer.write(answer.encode(errors="surrogatepass"))

    return talk


@pytest.mark.parametrize(("url", "reason"), HOSTILE.values(), ids=HOSTILE)
async def test_a_hostile_url_reaches_no_server(url: str, reason: str) -> None:
    with canary() as bird:
        url = url.replace("{port}", str(bird.port))
        policy = AddressPolicy(ports=(80, 443, bird.port))
        async with Fetcher(PATIENT, policy, resolver=Answers(["127.0.0.1", "::1"])) as fetcher:
            failed = await failure(fetcher, url)
        assert bird.connections == 0
    assert (failed.reason, failed.transient) == (reason, False)
    message = str(failed)
    message.encode()  # the message fits into a header
    assert "\n" not in message and "hush" not in message and len(message) < 900


@pytest.mark.parametrize("url", NO_SCHEME.values(), ids=NO_SCHEME)
async def test_a_url_without_a_scheme_reaches_no_server(url: str) -> None:
    with canary() as bird:
        async with Fetcher(PATIENT, AddressPolicy(ports=(bird.port,)), resolver=Answers(["127.0.0.1"])) as fetcher:
            failed = await failure(fetcher, url.replace("{port}", str(bird.port)))
        assert bird.connections == 0
    assert failed.reason == "url_scheme"


@pytest.mark.parametrize(("location", "reason"), REDIRECTED.values(), ids=REDIRECTED)
async def test_a_hostile_redirect_reaches_no_server(location: str, reason: str) -> None:
    with canary() as bird:
        location = location.replace("{port}", str(bird.port))
        policy = AddressPolicy(ONLY_2.allow_networks, ports=(80, 443, bird.port))

        async with (
            talking(redirecting(location), "127.0.0.2") as url,
            Fetcher(PATIENT, policy, resolver=Answers(["127.0.0.1", "::1"])) as fetcher,
        ):
            failed = await failure(fetcher, url)
        assert bird.connections == 0
    assert (failed.reason, failed.transient) == (reason, False)
    assert "redirect" in str(failed) or "resolves to" in str(failed)
    assert "hush" not in str(failed)


async def test_the_canary_notices_every_connection() -> None:
    with canary() as bird:
        async with Fetcher(SHORT, LOOPBACK) as fetcher:
            assert (await failure(fetcher, f"http://127.0.0.1:{bird.port}/")).reason == "timeout"
        assert bird.connections == 1
        with socket.create_connection(("127.0.0.1", bird.port)):
            pass
        assert bird.connections == 2


# Names that change their address: DNS rebinding


async def test_a_name_that_later_resolves_to_an_internal_address_is_refused() -> None:
    """Each fetcher resolves the name again, as one fetcher does after a while: aiohttp caches an answer for seconds."""
    resolver = Answers(["127.0.0.2"], ["127.0.0.1"])
    with canary() as bird:
        async with serving(picture, "127.0.0.2") as url:
            async with Fetcher(PATIENT, ONLY_2, resolver=resolver) as fetcher:
                assert await fetcher.fetch(url.replace("127.0.0.2", "rebound.example")) == PICTURE
            async with Fetcher(PATIENT, ONLY_2, resolver=resolver) as fetcher:
                failed = await failure(fetcher, f"http://rebound.example:{bird.port}/")
        assert bird.connections == 0
    assert failed.reason == "address_not_public"
    assert resolver.asked == ["rebound.example"] * 2


async def test_a_redirect_to_a_name_that_now_resolves_to_an_internal_address_is_refused() -> None:
    async def redirect(request: web.BaseRequest) -> web.Response:
        return to(f"http://rebound.example:{bird.port}/")

    resolver = Answers(["127.0.0.2"], ["127.0.0.1"])
    with canary() as bird:
        async with serving(redirect, "127.0.0.2") as url, Fetcher(PATIENT, ONLY_2, resolver=resolver) as fetcher:
            failed = await failure(fetcher, url.replace("127.0.0.2", "rebound.example"))
        assert bird.connections == 0
    assert failed.reason == "address_not_public"
    assert resolver.asked == ["rebound.example"] * 2


@pytest.mark.parametrize("answer", [["127.0.0.1"], ["127.0.0.1", "127.0.0.3", "::1"]])
async def test_an_address_that_changes_after_the_check_is_refused_at_the_socket(
    answer: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The address of the socket decides, whatever the resolver returned."""
    monkeypatch.setattr(GuardedResolver, "resolve", Answers(answer).resolve)
    with canary() as bird:
        async with Fetcher(PATIENT, ONLY_2) as fetcher:
            failed = await failure(fetcher, f"http://rebound.example:{bird.port}/")
        assert bird.connections == 0
    assert (failed.reason, failed.transient) == ("address_not_public", False)


async def test_a_name_is_resolved_once_and_that_address_is_connected() -> None:
    """A second look-up, when connecting, would return an internal address."""
    async with (
        serving(picture, "127.0.0.2") as url,
        name_server("127.0.0.2", "127.0.0.1") as names,
        Fetcher(PATIENT, ONLY_2, NameResolver(3, [names.where])) as fetcher,
    ):
        assert await fetcher.fetch(url.replace("127.0.0.2", "rebound.example")) == PICTURE
    assert names.asked == ["rebound.example"]


@pytest.mark.parametrize("answer", [["127.0.0.1", "127.0.0.2"], ["127.0.0.2", "127.0.0.1"], ["::1", "127.0.0.2"]])
async def test_only_the_permitted_address_of_a_mixed_answer_is_called(answer: list[str]) -> None:
    with canary() as bird, socket.create_server(("127.0.0.2", bird.port)) as permitted:
        async with Fetcher(SHORT, ONLY_2, resolver=Answers(answer)) as fetcher:
            url = f"http://mixed.example:{bird.port}/"
            assert (await failure(fetcher, url)).reason == "timeout"  # it listens but does not answer
        permitted.setblocking(False)
        permitted.accept()[0].close()
        assert bird.connections == 0


async def test_no_other_address_of_a_mixed_answer_is_tried_when_the_permitted_one_is_closed() -> None:
    with canary() as bird:
        async with Fetcher(PATIENT, ONLY_2, resolver=Answers(["127.0.0.2", "127.0.0.1", "::1"])) as fetcher:
            failed = await failure(fetcher, f"http://mixed.example:{bird.port}/")
        await asyncio.sleep(0.3)  # aiohttp starts a parallel attempt after 0.25 s
        assert bird.connections == 0
    assert failed.reason == "host_unreachable"
