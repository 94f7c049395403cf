"""Who may ask: the address that the API is bound to, tokens and their scopes, other sites in a browser, and the rate.

Without a token, the API is open to this machine and to nobody else. A browser on this machine runs pages of strangers, so a request
must then name this machine as its host (another name may have been pointed at 127.0.0.1: DNS rebinding), and must not come from
another site.
"""

from collections.abc import Callable, Collection
from datetime import UTC, datetime
from functools import lru_cache
from ipaddress import ip_address
from math import ceil
from typing import NamedTuple

from aiohttp import hdrs, web

from streams.exceptions import StartupError
from streams.serve.api.problems import Problem
from streams.serve.api.tokens import SCOPES, Scope, Tokens
from streams.text import visible

ANYBODY = "-"  # the name of a caller without a token
_SAFE_SITES = ("same-origin", "none")  # of Sec-Fetch-Site: our own page, and an address that somebody typed
MAX_AUTHORIZATION = 256  # characters; a token has 47


class Caller(NamedTuple):
    """Who asks."""

    name: str  # of the token
    scopes: frozenset[Scope]


class Access:
    """Decides on each request."""

    def __init__(
        self, tokens: Tokens, *, host: str, origins: Collection[str], rate: float, clock: Callable[[], float]
    ) -> None:
        """Raises StartupError if everybody could ask.

        Args:
            tokens: those that exist.
            host: the address to listen on.
            origins: sites whose pages may ask.
            rate: requests per second of a token; 0 for no limit.
            clock: monotonic, seconds.
        """
        self._tokens = tokens
        self._origins = frozenset(origins)
        self._rate = rate
        self._clock = clock
        self._left: dict[str, tuple[float, float]] = {}  # by token: requests left, and when that was
        self._loopback = is_loopback(host)
        if not self._loopback and not tokens.needed:
            raise StartupError(
                f"SERVE_HOST is {host}, and there is no token, so everybody could read and erase: "
                "create one with `tastestream token create --scope read --name NAME`, or set SERVE_HOST to 127.0.0.1"
            )

    @property
    def _open(self) -> bool:
        """Whether no token is needed."""
        return self._loopback and not self._tokens.needed

    def check_site(self, request: web.Request) -> None:
        """Raises Problem if a browser may have been made to send the request by another site."""
        if not self._open:
            return  # a page of another site has no token
        host = request.headers.get(hdrs.HOST, "")
        if not is_loopback(_name_of(host)):
            raise Problem(
                "foreign_host", f"Host: {visible(host[:100]) or 'missing'}; without a token, only localhost is answered"
            )
        origin = request.headers.get(hdrs.ORIGIN)
        if origin in self._origins:
            return
        site = request.headers.get("Sec-Fetch-Site", "none")
        own = f"{request.scheme}://{host}"
        if site not in _SAFE_SITES or (origin is not None and origin != own):
            raise Problem(
                "cross_site", f"Origin: {visible((origin or site)[:100])}; without a token, only own pages may ask"
            )

    def allowed_origin(self, request: web.Request) -> str | None:
        """The site of the page that asks, if its browser may show it the answer."""
        origin = request.headers.get(hdrs.ORIGIN)
        return origin if origin in self._origins else None

    def caller(self, request: web.Request, scope: Scope) -> Caller:
        """Who asks. Raises Problem if it may not, or not now."""
        if self._open:
            caller = Caller(ANYBODY, frozenset(SCOPES))
        else:
            caller = self._authenticated(request)
            if scope not in caller.scopes:
                raise Problem("not_permitted", f"the token {caller.name} does not have the scope {scope}")
        self._take(caller.name)
        return caller

    def still_permits(self, request: web.Request, scope: Scope) -> bool:
        """Whether a caller who was let in may go on: the token was not revoked, and has not expired. Counts no request."""
        if self._open:
            return True
        try:
            return scope in self._authenticated(request).scopes
        except Problem:
            return False

    def _authenticated(self, request: web.Request) -> Caller:
        scheme, _, given = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
        challenge = {hdrs.WWW_AUTHENTICATE: "Bearer"}
        if scheme.lower() != "bearer" or not given:
            raise Problem("not_authenticated", "the header Authorization has no bearer token", headers=challenge)
        token = self._tokens.find(given.strip()) if len(given) <= MAX_AUTHORIZATION else None
        if token is None:
            raise Problem("not_authenticated", "the token is unknown or revoked", headers=challenge)
        if token.is_expired(datetime.now(UTC)):
            raise Problem(
                "token_expired",
                f"the token {token.name} was valid until {token.expires:%Y-%m-%d %H:%M:%SZ}",
                headers={hdrs.WWW_AUTHENTICATE: 'Bearer error="invalid_token"'},
            )
        return Caller(token.name, token.granted)

    def _take(self, name: str) -> None:
        """Count a request. A second's worth of requests may come at once. Raises Problem beyond that."""
        if not self._rate:
            return
        now, most = self._clock(), max(self._rate, 1.0)
        left, then = self._left.get(name, (most, now))
        left = min(most, left + (now - then) * self._rate)
        if left < 1:
            self._left[name] = left, now
            wait = max(1, ceil((1 - left) / self._rate))
            raise Problem(
                "too_many_requests", f"more than {self._rate:g} requests per second (SERVE_RATE)", retry_after=wait
            )
        self._left[name] = left - 1, now


@lru_cache(64)
def is_loopback(host: str) -> bool:
    """Whether a name or an address is this machine's own."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _name_of(host: str) -> str:
    """The name in a `Host` header, without the port."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]
