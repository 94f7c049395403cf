"""Fetches a picture from a URL that a stranger wrote, within limits on time, bytes and connections, from permitted addresses only.

A fetch returns bytes; the decoder finds out whether they are a picture. Nothing is retried here: a FetchError says whether its
cause is transient, and the caller decides.

`guards` describes the three checks of an address. Behind a proxy (FETCH_PROXY) the third one is lost: the proxy opens the sockets,
and resolves the name once more. Two checks remain: the text of the URL, and a look-up of our own, of which every address must be
permitted, because the proxy picks one. A name server that answers us and the proxy differently passes both. So the proxy must
refuse internal addresses itself. Our own sockets can then reach the proxy and nothing else.
"""

import asyncio
import socket
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from time import time
from typing import Self

import aiohttp
from aiohttp.abc import AbstractResolver
from aiohttp.compression_utils import HAS_BROTLI
from aiohttp.http_exceptions import ContentEncodingError
from yarl import URL

from streams.exceptions import FetchError
from streams.web.addresses import AddressPolicy, check_url, display_url, redirected
from streams.web.guards import AddressRefused, GuardedResolver, NameResolver, OnlyProxy, guarded_socket_factory
from streams.web.large_places import BYTES_PER_SECOND, Place
from streams.web.limits import LARGE_PICTURE_BYTES, FetchLimits
from streams.web.response_size import MAX_HEADER_BYTES, MAX_HEADERS, BoundedConnector, headers_too_large

CHUNK = 64 * 1024  # bytes read at a time
MAX_DETAIL_LENGTH = 500  # characters of a message, besides the URL
REDIRECTS = frozenset({301, 302, 303, 307, 308})
HEADERS = {
    "Accept": "image/jpeg, image/png, image/webp, image/gif, image/*;q=0.5, */*;q=0.1",
    "Accept-Encoding": "identity",  # a picture is compressed already; some servers compress it again all the same
}
# Content encodings that aiohttp decodes.
DECODED = frozenset({"", "identity", "gzip", "deflate"} | ({"br"} if HAS_BROTLI else set()))


class Fetcher:
    """Fetches pictures over HTTP. An asynchronous context manager. It owns the connections, so a worker has one fetcher."""

    def __init__(
        self,
        limits: FetchLimits | None = None,
        policy: AddressPolicy | None = None,
        resolver: AbstractResolver | None = None,
        proxy: str | None = None,
    ) -> None:
        """Create a fetcher.

        Args:
            limits: what a fetch may cost.
            policy: which addresses may be called.
            resolver: resolves names instead of the operating system. The policy filters its answers all the same.
            proxy: URL of an HTTP proxy for all fetches. The environment's proxy is never used.
        """
        self._limits = limits or FetchLimits()
        self._policy = policy or AddressPolicy()
        self._resolver = resolver or NameResolver(self._limits.connect_timeout)
        self._proxy = OnlyProxy(self._resolver, URL(proxy)) if proxy else None
        self._sockets = weakref.WeakSet[socket.socket]()
        self._resources = AsyncExitStack()
        self._keep_alive: aiohttp.ClientSession | None = None  # reuses connections
        self._force_close: aiohttp.ClientSession | None = None  # closes each connection after its response

    async def __aenter__(self) -> Self:
        self._resources.push_async_callback(self._resolver.close)
        self._keep_alive = await self._resources.enter_async_context(self._new_session(force_close=False))
        self._force_close = await self._resources.enter_async_context(self._new_session(force_close=True))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._resources.aclose()

    async def fetch(self, url: str) -> bytes:
        """The body at a URL. Raises FetchError as `stream` and `Response.read` do."""
        async with self.stream(url) as response:
            return await response.read()

    @asynccontextmanager
    async def stream(self, url: str) -> AsyncGenerator["Response"]:
        """Request a URL, follow redirects, and give a successful response whose body has not been read.

        The time between the response and the reading of its body does not count towards the time limit.

        Raises:
            FetchError: permanent: `url_scheme`, `url_invalid`, `host_not_allowed`, `port_not_allowed`,
                `address_not_public`, `certificate_invalid`, `http_status`, `headers_too_large`,
                `too_many_redirects`, `content_encoding`.
                Transient: `timeout`, `host_unreachable`, `response_broken`, and `http_status` for 408, 429 and 5xx, with
                `retry_after` if the host sends it. After a redirect, `status` is that of the redirect if the next host
                sends none: the host of the URL has answered.
        """
        loop = asyncio.get_running_loop()
        started = loop.time()
        redirects: list[int] = []
        try:
            with _as_fetch_errors(url, self._limits):
                async with asyncio.timeout(self._limits.total_timeout):
                    response = await self._follow_redirects(url, redirects)
            async with response:
                _check_headers(url, response)
                time_left = self._limits.total_timeout - (loop.time() - started)
                yield Response(url, response, self._limits, time_left)
        except FetchError as error:
            error.status = error.status or (redirects[-1] if redirects else 0)
            raise

    @property
    def open_connections(self) -> int:
        """How many connections are open now, in use or idle."""
        return sum(s.fileno() >= 0 for s in self._sockets)

    async def _follow_redirects(self, url: str, redirects: list[int]) -> aiohttp.ClientResponse:
        """The first response that is no redirect. The status of each redirect is appended to `redirects`."""
        target = check_url(url, self._policy)
        for _ in range(self._limits.max_redirects + 1):
            if self._proxy is not None:
                await self._check_name(target)
            response = await self._pick_session().get(target, allow_redirects=False)
            location = response.headers.get("Location")
            if response.status not in REDIRECTS or location is None:
                return response
            response.release()
            redirects.append(response.status)
            target = self._redirect_target(url, target, location)
        detail = f"more than {self._limits.max_redirects} redirects, the last to {display_url(str(target))}"
        raise _error("too_many_redirects", url, detail)

    def _redirect_target(self, url: str, target: URL, location: str) -> URL:
        """Where a redirect from `target` leads. It must pass the same checks as the first URL."""
        try:
            return check_url(redirected(target, location), self._policy)
        except ValueError as e:
            raise _error("url_invalid", url, f"redirected to {display_url(location)}: {e}") from e
        except FetchError as e:
            raise _error(e.reason, url, f"redirected: {e}") from e

    async def _check_name(self, target: URL) -> None:
        """Raise AddressRefused unless every address of a name is permitted, because the proxy picks one of them."""
        host, port = target.raw_host or "", target.port or 0
        try:
            ip_address(host)  # `check_url` has checked it
        except ValueError:
            for found in await self._resolver.resolve(host, port):
                refusal = self._policy.refusal(ip_address(found["host"]), port)
                if refusal is not None:
                    raise AddressRefused(refusal._replace(detail=f"{host}: {refusal.detail}")) from None

    def _new_session(self, *, force_close: bool) -> aiohttp.ClientSession:
        limits = self._limits
        connector = BoundedConnector(
            limit=limits.connections,
            limit_per_host=limits.connections_per_host,
            force_close=force_close,
            resolver=self._proxy or GuardedResolver(self._resolver, self._policy),
            socket_factory=guarded_socket_factory(self._proxy or self._policy, self._sockets),
        )
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            proxy=self._proxy and self._proxy.url,
            trust_env=False,  # a proxy from the environment would open the connections itself, past the policy
            headers={**HEADERS, "User-Agent": limits.user_agent},
            max_line_size=MAX_HEADER_BYTES,
            max_field_size=MAX_HEADER_BYTES,
            max_headers=MAX_HEADERS,
            timeout=aiohttp.ClientTimeout(
                total=None,  # `stream` limits the whole chain of redirects
                sock_connect=limits.connect_timeout,
                sock_read=limits.idle_timeout,
            ),
        )

    def _pick_session(self) -> aiohttp.ClientSession:
        """The session that reuses connections, unless too many connections are open.

        Strangers can name ever new hosts, each of which would leave an idle connection. aiohttp's own limit counts only the
        connections in use.
        """
        if self._keep_alive is None or self._force_close is None:
            raise RuntimeError("enter the Fetcher before use: async with Fetcher() as fetcher")
        return self._keep_alive if self.open_connections < 2 * self._limits.connections else self._force_close


@dataclass(frozen=True)
class Response:
    """A successful response whose body has not been read."""

    _url: str
    _response: aiohttp.ClientResponse
    _limits: FetchLimits
    _timeout: float  # seconds for the body

    async def read(self, before_large: Callable[[], Awaitable[Place]] | None = None) -> bytes:
        """Read the body.

        Args:
            before_large: awaited once, before more than `LARGE_PICTURE_BYTES` bytes are read: a wait for a place. The time of
                that wait does not count towards the time limit.

        Returns:
            The body, decompressed: at least one byte, and at most `max_bytes`.

        Raises:
            FetchError: `picture_too_many_bytes` or `empty_body`; transient: `timeout`, `host_unreachable` or
                `response_broken`, and what `before_large` raises.
        """
        limit = self._limits.max_bytes
        if self._response.content_length is not None and self._response.content_length > limit:
            detail = f"{self._response.content_length} bytes announced; the limit is {limit}"
            raise _error("picture_too_many_bytes", self._url, detail)
        body = bytearray()
        try:
            with _as_fetch_errors(self._url, self._limits):
                await self._read_into(body, before_large)
        except BaseException:
            body.clear()  # the traceback would keep up to `max_bytes` until the garbage is collected
            raise
        if not body:
            raise _error("empty_body", self._url, f"the response, status {self._response.status}, has no body")
        return bytes(body)

    async def _read_into(self, body: bytearray, before_large: Callable[[], Awaitable[Place]] | None) -> None:
        limit = self._limits.max_bytes
        loop = asyncio.get_running_loop()
        started = loop.time()
        place: Place | None = None
        try:
            async with asyncio.timeout(self._timeout) as deadline:
                async for chunk in self._response.content.iter_chunked(CHUNK):  # decompressed chunk by chunk
                    body += chunk
                    if len(body) > limit:
                        raise _error(
                            "picture_too_many_bytes", self._url, f"more than {limit} bytes, which is the limit"
                        )
                    if place is not None:
                        place.received(len(chunk))
                    elif before_large is not None and len(body) > LARGE_PICTURE_BYTES:
                        time_left = self._timeout - (loop.time() - started)
                        deadline.reschedule(None)
                        place = await before_large()
                        deadline.reschedule(loop.time() + time_left)
                        place.begin(give_up=lambda: deadline.reschedule(loop.time()))
        except TimeoutError as e:
            if place is None or not place.lost:
                raise
            detail = f"less than {BYTES_PER_SECOND} bytes a second while other large pictures waited"
            raise _error("timeout", self._url, detail, transient=True) from e
        finally:
            if place is not None:
                place.end()


def _check_headers(url: str, response: aiohttp.ClientResponse) -> None:
    if not 200 <= response.status < 300 or response.status == 206:  # no request asks for a part
        raise _error(
            "http_status",
            url,
            f"the server answered with status {response.status}",
            transient=response.status in (408, 429) or response.status >= 500,
            retry_after=retry_after_seconds(response.headers.get("Retry-After", ""), now=time()),
            status=response.status,
        )
    encoding = ", ".join(response.headers.getall("Content-Encoding", [])).strip().lower()
    if encoding not in DECODED:
        raise _error("content_encoding", url, f"unknown Content-Encoding {encoding!r}")


@contextmanager
def _as_fetch_errors(url: str, limits: FetchLimits) -> Generator[None]:
    """Turn the exceptions of the HTTP client into FetchErrors."""
    try:
        yield
    except TimeoutError as e:
        # The message of a timeout during connecting is empty; its cause may say more.
        detail = str(e.__cause__ or "") or str(e) or f"took longer than {limits.total_timeout:g} s"
        raise _error("timeout", url, detail, transient=True) from e
    except aiohttp.InvalidURL as e:
        raise _error("url_invalid", url, str(e)) from e
    except aiohttp.ClientConnectorCertificateError as e:
        raise _error("certificate_invalid", url, str(e.certificate_error)) from e
    except (aiohttp.ClientConnectionError, OSError) as e:
        refused = e if isinstance(e, AddressRefused) else e.__cause__
        if isinstance(refused, AddressRefused):
            raise _error(refused.reason, url, str(refused)) from e
        raise _error("host_unreachable", url, str(e), transient=True) from e
    except aiohttp.ClientResponseError as e:
        if e.__cause__ is not None and isinstance(e.__cause__.__cause__, ContentEncodingError):
            # An encoding that the client knows, but has no decoder for.
            raise _error("content_encoding", url, e.message) from e
        if headers_too_large(e):
            detail = f"the headers of the response have more than {MAX_HEADER_BYTES} bytes or {MAX_HEADERS} lines"
            raise _error("headers_too_large", url, detail) from e
        raise _error("response_broken", url, str(e), transient=True) from e
    except aiohttp.ClientError as e:
        raise _error("response_broken", url, str(e), transient=True) from e


def retry_after_seconds(header: str, *, now: float) -> float:
    """Seconds that a `Retry-After` header asks for (RFC 9110, 10.2.3).

    Args:
        header: seconds, or an HTTP date.
        now: seconds since the epoch.

    Returns:
        0 if the header is empty, invalid, or a date in the past.
    """
    if header.isascii() and header.strip().isdigit():
        return float(header)
    try:
        return max(0.0, parsedate_to_datetime(header).timestamp() - now)
    except (ValueError, OverflowError):
        return 0.0


def _error(
    reason: str, url: str, detail: str, *, transient: bool = False, retry_after: float = 0.0, status: int = 0
) -> FetchError:
    # Some details come from the client, which quotes what the server sent.
    line = "".join(c if c.isprintable() else "?" for c in " ".join(detail.split()))[:MAX_DETAIL_LENGTH]
    message = f"image_url {display_url(url)}: {line}"
    return FetchError(reason, message, transient=transient, retry_after=retry_after, status=status)
