"""Applies an `AddressPolicy` where names are resolved and where sockets are opened.

Each check alone can be bypassed, so a fetch makes all three:

1. `check_url` checks the text of the URL, also after each redirect. A name in the URL tells nothing about its address.
2. `GuardedResolver` drops the addresses that are not permitted from the answer for a name. The HTTP client does not ask
   the resolver about a host that is an address, and caches answers for a while.
3. `guarded_socket_factory` checks the address that is connected next. A name server cannot change it after that check.
"""

import asyncio
import socket
import weakref
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

from aiohttp import AsyncResolver
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from streams.web.addresses import AddressPolicy, Refusal

# What aiohttp hands to a socket factory: family, type, protocol, canonical name, (address, port, ...).
AddressInfo = tuple[int, int, int, str, tuple[Any, ...]]
SocketFactory = Callable[[AddressInfo], socket.socket]


class AddressRefused(OSError):
    """The policy does not permit an address. An OSError, because resolvers and sockets fail with those."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.detail)
        self.reason = refusal.reason


class NameResolver(AbstractResolver):
    """Resolves names without threads, so that a name whose look-up hangs delays no other name.

    It reads /etc/hosts and /etc/resolv.conf, as the C library does. Other sources in /etc/nsswitch.conf are not asked.
    """

    def __init__(self, timeout: float, nameservers: Sequence[str] | None = None) -> None:
        """Create a resolver.

        Args:
            timeout: seconds for the look-up of a name.
            nameservers: `address:port` of name servers to ask instead of those in /etc/resolv.conf.
        """
        self._timeout = timeout
        self._nameservers = nameservers
        self._resolver: AsyncResolver | None = None  # needs a running event loop

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """All addresses of a name. Raises OSError if there is none, TimeoutError if the answer takes too long."""
        if self._resolver is None:
            # c-ares asks again after a third of the time, or as little as 250 ms once it knows how fast a server answers, and
            # each time waits twice as long. With five questions it never gives up before the time is over.
            self._resolver = AsyncResolver(nameservers=self._nameservers, timeout=self._timeout / 3, tries=5)
        try:
            async with asyncio.timeout(self._timeout):
                return await self._resolver.resolve(host, port, family)
        except TimeoutError as e:
            raise TimeoutError(f"the name {host} was not resolved within {self._timeout:g} s") from e

    async def close(self) -> None:
        """Give up all look-ups."""
        if self._resolver is not None:
            await self._resolver.close()


class GuardedResolver(AbstractResolver):
    """Wraps a resolver, and drops the addresses that the policy does not permit."""

    def __init__(self, resolver: AbstractResolver, policy: AddressPolicy) -> None:
        self._resolver = resolver
        self._policy = policy

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The permitted addresses of a name. Raises AddressRefused if none is left."""
        found = await self._resolver.resolve(host, port, family)
        refusals = [self._policy.refusal(ip_address(result["host"]), port) for result in found]
        permitted = [result for result, refusal in zip(found, refusals, strict=True) if refusal is None]
        if not permitted:
            addresses = ", ".join(sorted({result["host"] for result in found})) or "no address"
            # A refused port of a public address explains more than the private addresses beside it.
            ports = (refusal for refusal in refusals if refusal and refusal.reason == "port_not_allowed")
            refusal = next(
                ports, Refusal("address_not_public", "none is a public address, nor in FETCH_ALLOW_NETWORKS")
            )
            raise AddressRefused(refusal._replace(detail=f"{host} resolves to {addresses}: {refusal.detail}"))
        return permitted

    async def close(self) -> None:
        """Close the wrapped resolver."""
        await self._resolver.close()


class OnlyProxy(AbstractResolver):
    """Permits the proxy alone, at whatever address the operator runs it: for a client that fetches through a proxy."""

    def __init__(self, resolver: AbstractResolver, url: URL) -> None:
        self.url = url
        self._resolver = resolver
        self._addresses = {url.raw_host or ""}  # already the address if the host is one

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The addresses of the proxy. Raises AddressRefused for any other name."""
        if host != self.url.raw_host:
            raise AddressRefused(Refusal("address_not_public", f"{host} is not the proxy"))
        found = await self._resolver.resolve(host, port, family)
        self._addresses = {result["host"] for result in found}
        return found

    def refusal(self, ip: IPv4Address | IPv6Address, port: int) -> Refusal | None:
        """Why a connection is not permitted; None if it goes to the proxy."""
        if str(ip) in self._addresses and port == self.url.port:
            return None
        return Refusal("address_not_public", f"{ip}, port {port}, is not the proxy")

    async def close(self) -> None:
        """Close the wrapped resolver."""
        await self._resolver.close()


def guarded_socket_factory(policy: AddressPolicy | OnlyProxy, created: weakref.WeakSet[socket.socket]) -> SocketFactory:
    """A socket factory that raises AddressRefused for an address that the policy does not permit.

    Args:
        policy: what is permitted.
        created: the sockets are added to this set.
    """

    def create(info: AddressInfo) -> socket.socket:
        family, kind, protocol, _, address = info
        refusal = policy.refusal(ip_address(str(address[0])), int(address[1]))
        if refusal is not None:
            raise AddressRefused(refusal)
        sock = socket.socket(family, kind, protocol)
        created.add(sock)
        return sock

    return create
