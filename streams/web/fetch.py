"""Fetching a picture from a URL that a stranger wrote, within limits on time, bytes, connections, and on whom it calls.

What is fetched is bytes; whether they are a picture is for the decoder to say. Nothing is retried here: a FetchError
says whether time may heal it, and the worker decides.

Who may be called is checked three times, because each check alone can be passed by:

1. `check_url` reads the URL, at first and after each redirect. A name in it says nothing about its address.
2. `GuardedResolver` drops the addresses that are not permitted from what a name resolves to. The client does not ask
   it about a host that is an address, and keeps its answers for a while.
3. `guarded_sockets` looks at the address that is about to be connected: no answer can change between check and use.

Behind a proxy (FETCH_PROXY) the third check is lost: the sockets are the proxy's, and the proxy looks the name up once
more. What is left is the first check, and a look-up of our own of which every address has to be permitted, since the
proxy picks. A name server that answers us and the proxy differently passes both, so such a proxy has to refuse addresses
inside by itself. Our sockets may then reach the proxy and nothing else.
"""

import asyncio
import socket
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_address
from time import time
from typing import Any, Self

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.compression_utils import HAS_BROTLI
from aiohttp.http_exceptions import ContentEncodingError
from yarl import URL

from streams.exceptions import FetchError
from streams.web.addresses import AddressPolicy, Refusal, check_url, parse_url, shown

# What the client hands to a maker of sockets: family, kind, protocol, canonical name, (address, port, ...).
AddressInfo = tuple[int, int, int, str, tuple[Any, ...]]
SocketFactory = Callable[[AddressInfo], socket.socket]

CHUNK = 64 * 1024  # bytes read at a time
SMALL = 128 * 1024  # bytes of a body that cost little enough to be read at once, from every host
MAX_FACT_LENGTH = 500  # characters of a message, besides the URL
LOOKUP_THREADS = 16  # names looked up at once; in threads of their own, so that slow name servers hold up nothing else
REDIRECTS = frozenset({301, 302, 303, 307, 308})
HEADERS = {
    "Accept": "image/jpeg, image/png, image/webp, image/gif, image/*;q=0.5, */*;q=0.1",
    "Accept-Encoding": "identity",  # a picture is compressed already; some servers compress it again all the same
}
DECODED = frozenset({"", "identity", "gzip", "deflate"} | ({"br"} if HAS_BROTLI else set()))  # by the client


@dataclass(frozen=True)
class FetchLimits:
    """What one fetch, and all of them together, may cost."""

    max_bytes: int = 10 * 1024 * 1024  # bytes of the body, after decompression
    connect_timeout: float = 3.0  # seconds for the look-up of a name, and again for the connection
    idle_timeout: float = 5.0  # seconds between two pieces of an answer
    total_timeout: float = 10.0  # seconds for everything, redirects and the wait for a free connection included
    max_redirects: int = 3
    connections: int = 256  # in use at once; idle ones included there are never more than four times as many
    connections_per_host: int = 8  # so that one slow host does not hold all of them
    user_agent: str = "tastestream"  # FETCH_USER_AGENT adds the version


class AddressRefused(OSError):
    """The policy does not permit an address. It is an OSError because resolvers and sockets fail with those."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.fact)
        self.reason = refusal.reason


class Fetcher:
    """Fetches pictures over HTTP. An asynchronous context manager; it holds the connections, so a worker has one."""

    def __init__(
        self,
        limits: FetchLimits | None = None,
        policy: AddressPolicy | None = None,
        resolver: AbstractResolver | None = None,
        proxy: str | None = None,
    ) -> None:
        """`resolver` looks names up instead of the operating system; the policy filters its answers all the same.

        `proxy`: the URL of an HTTP proxy that every fetch goes through. None comes from the environment.
        """
        self._limits = limits or FetchLimits()
        self._policy = policy or AddressPolicy()
        self._resolver = resolver or ThreadedResolver(self._limits.connect_timeout)
        self._proxy = OnlyProxy(self._resolver, URL(proxy)) if proxy else None
        self._sockets = weakref.WeakSet[socket.socket]()
        self._open = AsyncExitStack()
        self._keeping: aiohttp.ClientSession | None = None
        self._closing: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._open.push_async_callback(self._resolver.close)
        self._keeping = await self._open.enter_async_context(self._session(force_close=False))
        self._closing = await self._open.enter_async_context(self._session(force_close=True))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._open.aclose()

    async def fetch(self, url: str) -> bytes:
        """The body of the answer, as `answer` and `Answer.body` give it."""
        async with self.answer(url) as answer:
            return await answer.body()

    @asynccontextmanager
    async def answer(self, url: str) -> AsyncGenerator["Answer"]:
        """An answer that promises a body, redirects followed; how long its body is left unread costs the host nothing.

        Raises FetchError. Its `reason` is `url_scheme`, `url_invalid`, `host_not_allowed`, `port_not_allowed`,
        `address_not_public`, `certificate_invalid`, `http_status`, `too_many_redirects` or `content_encoding`; or one that
        time may heal: `timeout`, `host_unreachable`, `response_broken`, and `http_status` when the status is 408, 429 or
        5xx, with `retry_after` if the host says so.
        """
        loop = asyncio.get_running_loop()
        begun = loop.time()
        with _failures(url, self._limits):
            async with asyncio.timeout(self._limits.total_timeout):
                response = await self._follow(url)
        async with response:
            _check_headers(url, response)
            left = self._limits.total_timeout - (loop.time() - begun)
            yield Answer(url, response, self._limits, left)

    @property
    def open_connections(self) -> int:
        """How many connections are open now, in use or idle."""
        return sum(s.fileno() >= 0 for s in self._sockets)

    async def _follow(self, url: str) -> aiohttp.ClientResponse:
        """Ask, and ask again where a redirect points to."""
        target = check_url(url, self._policy)
        for _ in range(self._limits.max_redirects + 1):
            if self._proxy is not None:
                await self._check_name(target)
            response = await self._pick_session().get(target, allow_redirects=False)
            location = response.headers.get("Location")
            if response.status not in REDIRECTS or location is None:
                return response
            response.release()
            target = self._redirected(url, target, location)
        fact = f"more than {self._limits.max_redirects} redirects, the last to {shown(str(target))}"
        raise _failure("too_many_redirects", url, fact)

    def _redirected(self, url: str, target: URL, location: str) -> URL:
        """Where a redirect from `target` leads; it has to pass what the first URL passed."""
        try:
            return check_url(str(target.join(parse_url(location))), self._policy)
        except ValueError as e:
            raise _failure("url_invalid", url, f"redirected to {shown(location)}: {e}") from e
        except FetchError as e:
            raise _failure(e.reason, url, f"redirected: {e}") from e

    async def _check_name(self, target: URL) -> None:
        """Raises AddressRefused unless every address that a name resolves to is permitted: the proxy picks one of them."""
        host, port = target.raw_host or "", target.port or 0
        try:
            ip_address(host)  # which `check_url` has seen
        except ValueError:
            for found in await self._resolver.resolve(host, port):
                refusal = self._policy.refusal(ip_address(found["host"]), port)
                if refusal is not None:
                    raise AddressRefused(refusal._replace(fact=f"{host}: {refusal.fact}")) from None

    def _session(self, *, force_close: bool) -> aiohttp.ClientSession:
        limits = self._limits
        connector = aiohttp.TCPConnector(
            limit=limits.connections,
            limit_per_host=limits.connections_per_host,
            force_close=force_close,
            resolver=self._proxy or GuardedResolver(self._resolver, self._policy),
            socket_factory=guarded_sockets(self._proxy or self._policy, self._sockets),
        )
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            proxy=self._proxy and self._proxy.url,
            trust_env=False,  # a proxy from the environment would connect in our place, past the policy
            headers={**HEADERS, "User-Agent": limits.user_agent},
            timeout=aiohttp.ClientTimeout(
                total=None,  # `fetch` has it: for the whole chain of redirects
                sock_connect=limits.connect_timeout,
                sock_read=limits.idle_timeout,
            ),
        )

    def _pick_session(self) -> aiohttp.ClientSession:
        """The session that keeps connections alive, unless strangers have named so many hosts that too many lie idle.

        The client's own limit counts the connections in use only.
        """
        if self._keeping is None or self._closing is None:
            raise RuntimeError("a Fetcher has to be entered before it can fetch: async with Fetcher() as fetcher")
        return self._keeping if self.open_connections < 2 * self._limits.connections else self._closing


@dataclass(frozen=True)
class Answer:
    """An answer whose body has not been read."""

    _url: str
    _response: aiohttp.ClientResponse
    _limits: FetchLimits
    _timeout: float  # seconds for the body

    async def body(self, beyond: Callable[[], Awaitable[object]] | None = None) -> bytes:
        """Never empty and at most `max_bytes` long.

        beyond: awaited once, before more than `SMALL` bytes are read; that wait costs the host nothing.

        Raises FetchError: `picture_too_many_bytes`, `empty_body`; `timeout`, `host_unreachable` or `response_broken`, which
        time may heal.
        """
        limit = self._limits.max_bytes
        if self._response.content_length is not None and self._response.content_length > limit:
            fact = f"{self._response.content_length} bytes announced, and at most {limit} are allowed"
            raise _failure("picture_too_many_bytes", self._url, fact)
        body = bytearray()
        loop = asyncio.get_running_loop()
        begun = loop.time()
        with _failures(self._url, self._limits):
            async with asyncio.timeout(self._timeout) as deadline:
                async for chunk in self._response.content.iter_chunked(CHUNK):  # decompressed, a chunk at a time
                    body += chunk
                    if len(body) > limit:
                        raise _failure("picture_too_many_bytes", self._url, f"more than {limit} bytes")
                    if beyond is not None and len(body) > SMALL:
                        left = self._timeout - (loop.time() - begun)
                        deadline.reschedule(None)
                        await beyond()
                        deadline.reschedule(loop.time() + left)
                        beyond = None
        if not body:
            raise _failure("empty_body", self._url, f"the answer was {self._response.status} without a body")
        return bytes(body)


class ThreadedResolver(AbstractResolver):
    """Looks names up as the operating system does, in threads of its own, for `timeout` seconds at most."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._threads = ThreadPoolExecutor(LOOKUP_THREADS, thread_name_prefix="lookup")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        look_up = partial(socket.getaddrinfo, host, port, family, socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
        try:
            async with asyncio.timeout(self._timeout):
                found = await asyncio.get_running_loop().run_in_executor(self._threads, look_up)
        except TimeoutError as e:
            raise TimeoutError(f"the name {host} was not found within {self._timeout:g} s") from e
        return [
            ResolveResult(
                hostname=host,
                host=str(address[0]),
                port=port,
                family=family,
                proto=proto,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for family, _, proto, _, address in found
        ]

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


class GuardedResolver(AbstractResolver):
    """Of what another resolver finds, the addresses that the policy permits. AddressRefused when none is left."""

    def __init__(self, resolver: AbstractResolver, policy: AddressPolicy) -> None:
        self._resolver = resolver
        self._policy = policy

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await self._resolver.resolve(host, port, family)
        refusals = [self._policy.refusal(ip_address(result["host"]), port) for result in found]
        permitted = [result for result, refusal in zip(found, refusals, strict=True) if refusal is None]
        if not permitted:
            addresses = ", ".join(sorted({result["host"] for result in found})) or "no address"
            # The port of a public address says more than the private addresses beside it.
            ports = (refusal for refusal in refusals if refusal and refusal.reason == "port_not_allowed")
            refusal = next(ports, Refusal("address_not_public", "none is an address of the public internet"))
            raise AddressRefused(refusal._replace(fact=f"{host} resolves to {addresses}: {refusal.fact}"))
        return permitted

    async def close(self) -> None:
        await self._resolver.close()


class OnlyProxy(AbstractResolver):
    """What a client behind a proxy may look up and connect to: the proxy, at whatever address the operator keeps it."""

    def __init__(self, resolver: AbstractResolver, url: URL) -> None:
        self.url = url
        self._resolver = resolver
        self._addresses = {url.raw_host or ""}  # which is its only one when it is no name

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        if host != self.url.raw_host:
            raise AddressRefused(Refusal("address_not_public", f"{host} is not the proxy"))
        found = await self._resolver.resolve(host, port, family)
        self._addresses = {result["host"] for result in found}
        return found

    def refusal(self, ip: IPv4Address | IPv6Address, port: int) -> Refusal | None:
        if str(ip) in self._addresses and port == self.url.port:
            return None
        return Refusal("address_not_public", f"{ip}, port {port}, is not the proxy")

    async def close(self) -> None:
        await self._resolver.close()


def guarded_sockets(policy: AddressPolicy | OnlyProxy, made: weakref.WeakSet[socket.socket]) -> SocketFactory:
    """A maker of sockets that refuses, with AddressRefused, addresses that the policy does not permit.

    The client calls it with the very address that it connects to next. The sockets are added to `made`.
    """

    def make(info: AddressInfo) -> socket.socket:
        family, kind, protocol, _, address = info
        refusal = policy.refusal(ip_address(str(address[0])), int(address[1]))
        if refusal is not None:
            raise AddressRefused(refusal)
        sock = socket.socket(family, kind, protocol)
        made.add(sock)
        return sock

    return make


def _check_headers(url: str, response: aiohttp.ClientResponse) -> None:
    if not 200 <= response.status < 300 or response.status == 206:  # nobody asked for a part
        raise _failure(
            "http_status",
            url,
            f"the answer was {response.status}",
            transient=response.status in (408, 429) or response.status >= 500,
            retry_after=seconds_until(response.headers.get("Retry-After", ""), now=time()),
        )
    encoding = ", ".join(response.headers.getall("Content-Encoding", [])).strip().lower()
    if encoding not in DECODED:
        raise _failure("content_encoding", url, f"the answer is encoded as {encoding!r}, which is not understood")


@contextmanager
def _failures(url: str, limits: FetchLimits) -> Generator[None]:
    """What the client raises, as FetchErrors."""
    try:
        yield
    except TimeoutError as e:
        # The client tells of a time-out while connecting only that it was one; its cause may tell more.
        fact = str(e.__cause__ or "") or str(e) or f"took longer than {limits.total_timeout:g} s"
        raise _failure("timeout", url, fact, transient=True) from e
    except aiohttp.InvalidURL as e:
        raise _failure("url_invalid", url, str(e)) from e
    except aiohttp.ClientConnectorCertificateError as e:
        raise _failure("certificate_invalid", url, str(e.certificate_error)) from e
    except (aiohttp.ClientConnectionError, OSError) as e:
        refused = e if isinstance(e, AddressRefused) else e.__cause__
        if isinstance(refused, AddressRefused):
            raise _failure(refused.reason, url, str(refused)) from e
        raise _failure("host_unreachable", url, str(e), transient=True) from e
    except aiohttp.ClientResponseError as e:
        undecodable = e.__cause__ is not None and isinstance(e.__cause__.__cause__, ContentEncodingError)
        if undecodable:  # an encoding that the client knows, and has no decoder for
            raise _failure("content_encoding", url, e.message) from e
        raise _failure("response_broken", url, str(e), transient=True) from e
    except aiohttp.ClientError as e:
        raise _failure("response_broken", url, str(e), transient=True) from e


def seconds_until(retry_after: str, *, now: float) -> float:
    """What a `Retry-After` header asks for (RFC 9110, 10.2.3): seconds, or a date; 0 when it says nothing that is understood."""
    if retry_after.isascii() and retry_after.strip().isdigit():
        return float(retry_after)
    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - now)
    except (ValueError, OverflowError):
        return 0.0


def _failure(reason: str, url: str, fact: str, *, transient: bool = False, retry_after: float = 0.0) -> FetchError:
    # Some facts come from the client, which quotes what the server sent.
    line = "".join(c if c.isprintable() else "?" for c in " ".join(fact.split()))[:MAX_FACT_LENGTH]
    return FetchError(reason, f"image_url {shown(url)}: {line}", transient=transient, retry_after=retry_after)
