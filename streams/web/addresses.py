"""Which addresses a picture may be fetched from.

The URL in an event is written by a stranger, and the worker that fetches it stands inside the operator's network:
without a rule, an event could make it call the cloud's metadata service, or a database next door. The rule is that only
the public internet may be called, on the ports of the web, and the networks that the operator names; the operator may
narrow it to a list of hosts. This module is the rule, with no I/O; `fetch` applies it to the text of the URL, to the
answer of the resolver, and to the socket about to be connected.
"""

import re
import socket
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import NamedTuple

from yarl import URL

from streams.exceptions import FetchError

WEB_PORTS = (80, 443)
MAX_URL_LENGTH = 2048  # characters; what browsers and caches agree to carry
SHOWN_URL_LENGTH = 200  # characters of a URL in a message

# IANA's special-purpose registry, where it does not say "globally reachable", and multicast. Written out, because what
# `ipaddress.is_global` says differs between patch releases of Python.
NOT_PUBLIC_IPV4 = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this host on this network; Linux takes 0.0.0.0 for itself
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # shared by carriers (CGNAT); some clouds keep their metadata service here
        "127.0.0.0/8",  # this host
        "168.63.129.16/32",  # a public address by its number, but inside Azure the platform's own control service
        "169.254.0.0/16",  # link-local; most clouds keep their metadata service here
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments; one cloud keeps its metadata service here
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # relays of 6to4, deprecated
        "192.168.0.0/16",  # private
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and the broadcast address
    )
)

# In IPv6 only 2000::/3 has been given out for the public internet: all else is loopback, local, multicast or unused.
PUBLIC_IPV6 = IPv6Network("2000::/3")
NOT_PUBLIC_IPV6 = tuple(
    IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments: Teredo (2001::/32) would tunnel to any IPv4 address; benchmarks, ORCHID
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4 would tunnel to any IPv4 address; deprecated
        "3fff::/20",  # documentation
    )
)

# Addresses that are an IPv4 address in other words: the rule for that one applies. A network's own NAT64 prefix
# (RFC 6052) cannot be told from an ordinary one.
IPV4_MAPPED = IPv6Network("::ffff:0:0/96")
NAT64 = IPv6Network("64:ff9b::/96")

CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
HOST_NAME = re.compile(r"(?=.{1,253}\.?\Z)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*\.?\Z")
ENDS_IN_A_NUMBER = re.compile(r"(.*\.)?([0-9]+|0x[0-9a-f]*)\.?\Z")  # what the C library and browsers take for IPv4


def unwrapped(ip: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The IPv4 address that an IPv4-mapped or NAT64 address stands for; any other address itself."""
    if isinstance(ip, IPv6Address) and (ip in IPV4_MAPPED or ip in NAT64):
        return IPv4Address(int(ip) & 0xFFFF_FFFF)
    return ip


def is_public(ip: IPv4Address | IPv6Address) -> bool:
    """Whether an address belongs to the public internet. When in doubt it does not."""
    ip = unwrapped(ip)
    if isinstance(ip, IPv4Address):
        return not any(ip in network for network in NOT_PUBLIC_IPV4)
    return ip.scope_id is None and ip in PUBLIC_IPV6 and not any(ip in network for network in NOT_PUBLIC_IPV6)


class Refusal(NamedTuple):
    """Why an address may not be called: the reason of the dead letter, and the fact."""

    reason: str
    fact: str


@dataclass(frozen=True)
class AddressPolicy:
    """The public internet on the ports of the web, and what the operator names.

    allow_networks: networks that may be called besides the public internet, there on any port (FETCH_ALLOW_NETWORKS).
    ports: of the public internet (FETCH_PORTS).
    allow_hosts: the only hosts that a URL may name, as `host_pattern` writes them; all hosts if empty (FETCH_ALLOW_HOSTS).
        It narrows, and never widens: the address of such a host has to be permitted all the same.
    """

    allow_networks: tuple[IPv4Network | IPv6Network, ...] = ()
    ports: tuple[int, ...] = WEB_PORTS
    allow_hosts: tuple[str, ...] = ()

    def refusal(self, ip: IPv4Address | IPv6Address, port: int) -> Refusal | None:
        """Why a connection to this address and port is not permitted; None if it is."""
        if any(unwrapped(ip) in network or ip in network for network in self.allow_networks):
            return None
        if not is_public(ip):
            return Refusal("address_not_public", f"{ip} is not an address of the public internet")
        return self._port_refusal(port)

    def name_refusal(self, port: int) -> Refusal | None:
        """The same for a name, before it is looked up: its address may yet be in a network that the operator named."""
        return None if self.allow_networks else self._port_refusal(port)

    def permits_host(self, host: str) -> bool:
        """Whether a URL may name this host, written in ASCII and lower case."""
        host = host.removesuffix(".")
        return not self.allow_hosts or any(
            host.endswith(pattern) if pattern.startswith(".") else host == pattern for pattern in self.allow_hosts
        )

    def _port_refusal(self, port: int) -> Refusal | None:
        if port in self.ports:
            return None
        return Refusal("port_not_allowed", f"port {port} is not one of FETCH_PORTS, {', '.join(map(str, self.ports))}")


PUBLIC_ONLY = AddressPolicy()


def check_url(url: str, policy: AddressPolicy = PUBLIC_ONLY) -> URL:
    """The URL, parsed, when a picture may be asked for there as far as its text tells.

    Raises FetchError: `url_scheme`, `url_invalid`, `host_not_allowed`, `port_not_allowed`, or `address_not_public` when
    the host is an address, in any of the spellings that a C library understands (`127.1`, `2130706433`, `0x7f.1`), that
    the policy does not permit.
    """
    if len(url) > MAX_URL_LENGTH:
        raise _refusal("url_invalid", url, f"{len(url)} characters, and at most {MAX_URL_LENGTH} are allowed")
    try:
        parsed = parse_url(url)
    except ValueError as e:
        raise _refusal("url_invalid", url, str(e)) from e
    if parsed.scheme not in ("http", "https"):
        raise _refusal("url_scheme", url, f"the scheme is {parsed.scheme!r}, and only http and https are allowed")
    if parsed.user is not None or parsed.password is not None:
        bare = str(parsed.with_user(None))  # a password has no place in a message
        raise _refusal("url_invalid", bare, "a user name or password is in it, and none is allowed")
    host = parsed.raw_host
    if not host:
        raise _refusal("url_invalid", url, "no host is in it")
    _check_host(url, host, parsed.port or 0, policy)
    return parsed


def parse_url(url: str) -> URL:
    """A URL, absolute or relative. Raises ValueError when it is none."""
    if CONTROL.search(url):  # looked for in the text as it came: the parser drops some of them
        raise ValueError("a control character, or half a surrogate pair, is in it")
    try:
        parsed = URL(url)
        _ = parsed.host  # decodes an internationalized name: an invalid one fails here and not later
    except IndexError as e:  # what yarl raises for some broken hosts: "http://[]@"
        raise ValueError("the host is broken") from e
    return parsed


def host_of(url: str) -> str:
    """Host and port of a URL; "" when it has none that can be read."""
    try:
        parsed = parse_url(url)
    except ValueError:
        return ""
    return f"{parsed.raw_host}:{parsed.port}"


def shown(url: str) -> str:
    """A URL for a message: quoted, on one line, and shortened."""
    return repr(url if len(url) <= SHOWN_URL_LENGTH else url[: SHOWN_URL_LENGTH - 1] + "…")


def host_pattern(text: str) -> str:
    """One host of `AddressPolicy.allow_hosts`, as hosts are compared: ASCII, lower case, no dot at the end.

    `.cdn.example` and `*.cdn.example` are all names below cdn.example, itself not among them. Raises ValueError.
    """
    name = text.removeprefix("*") if text.startswith("*.") else text
    below, name = name.startswith("."), name.removeprefix(".")
    try:
        ip = ip_address(name)
    except ValueError:
        ip = None
    if ip is not None and not below:
        return str(ip)
    try:
        host = URL.build(scheme="http", host=name).raw_host or ""
    except ValueError:
        host = ""
    if not HOST_NAME.match(host) or ENDS_IN_A_NUMBER.match(host):
        raise ValueError(f"{text!r} is not a host name; write cdn.example, or .cdn.example for all names below it")
    return "." * below + host.removesuffix(".")


def check_proxy(url: str) -> None:
    """Raises ValueError unless `url` is `http://host:port`. A password has no place in it, for settings are shown."""
    parsed = parse_url(url)
    if parsed.user is not None or parsed.password is not None:
        raise ValueError("a user name or password is in it, and none is supported")
    if parsed.scheme != "http" or not parsed.raw_host or not parsed.port or parsed != parsed.origin():
        raise ValueError("it has to be http://host:port")


def _check_host(url: str, host: str, port: int, policy: AddressPolicy) -> None:
    ip = _literal(url, host)
    if ip is None and not HOST_NAME.match(host):
        raise _refusal("url_invalid", url, f"{host!r} is not a host name")
    if not policy.permits_host(host if ip is None else str(ip)):
        raise _refusal("host_not_allowed", url, f"{host} is not one of FETCH_ALLOW_HOSTS")
    refusal = policy.name_refusal(port) if ip is None else policy.refusal(ip, port)
    if refusal is not None:
        spelled = "" if ip is None or str(ip) == host else f" (written {host})"
        raise _refusal(refusal.reason, url, refusal.fact + spelled)
    if isinstance(ip, IPv4Address) and str(ip) != host:
        raise _refusal("url_invalid", url, f"{host} has to be written {ip}")


def _literal(url: str, host: str) -> IPv4Address | IPv6Address | None:
    """The address that a host is, however it is spelled; None when it is a name."""
    if ":" in host:
        try:
            return IPv6Address(host)
        except ValueError as e:
            raise _refusal("url_invalid", url, str(e)) from e
    if not ENDS_IN_A_NUMBER.match(host):
        return None
    try:
        return IPv4Address(socket.inet_aton(host.removesuffix(".")))
    except OSError as e:
        raise _refusal("url_invalid", url, f"{host!r} is neither an address nor a host name") from e


def _refusal(reason: str, url: str, fact: str) -> FetchError:
    return FetchError(reason, f"image_url {shown(url)}: {fact}")
