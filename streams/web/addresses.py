"""Which URLs and addresses pictures may be fetched from. Pure; `guards` and `fetch` apply these rules.

A stranger writes the URL in an event, and the worker that fetches it runs inside the operator's network. Without rules, an
event could make the worker call the cloud's metadata service, or a database next door (server-side request forgery). So a
worker calls public addresses only, on the ports of the web, and the networks that the operator allows. The operator can
restrict it further to a list of hosts.

The rules are checked against the text of the URL, the addresses that its name resolves to, and the address of the socket.
"""

import re
import socket
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import NamedTuple
from urllib.parse import urljoin

from yarl import URL

from streams.exceptions import FetchError
from streams.text import UNSAFE

WEB_PORTS = (80, 443)
MAX_URL_LENGTH = 2048  # characters; browsers and caches all accept this many
DISPLAYED_URL_LENGTH = 200  # characters of a URL in a message

# The blocks of IANA's special-purpose registry that are not globally reachable, and multicast. The list is written out here
# because `ipaddress.is_global` differs between patch releases of Python.
NOT_PUBLIC_IPV4 = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this host on this network; Linux connects 0.0.0.0 to itself
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # shared by carriers (CGNAT); some clouds keep their metadata service here
        "127.0.0.0/8",  # this host
        "168.63.129.16/32",  # looks public, but is the platform's control service inside Azure
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

# Only 2000::/3 is assigned to the public internet in IPv6. All else is loopback, local, multicast or unused.
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

# IPv6 addresses that stand for an IPv4 address; the rules for the IPv4 address apply. A network's own NAT64 prefix (RFC 6052)
# looks like any other prefix and cannot be recognised.
IPV4_MAPPED = IPv6Network("::ffff:0:0/96")
NAT64 = IPv6Network("64:ff9b::/96")

# The parts of a URL after the host: path, query and fragment.
AFTER_HOST = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*:)?(?://[^/?#]*)?([^?#]*)(?:\?([^#]*))?(?:#(.*))?", re.DOTALL)
# What RFC 3986 does not allow there. `[`, `]` and `|` are missing: browsers send them as they are.
ILLEGAL = re.compile(r"""[^!$&'()*+,\-./0-9:;=?@A-Z_a-z~%\[\]|]|%(?![0-9A-Fa-f]{2})""")
RAW_BYTE = re.compile(r"[\udc80-\udcff]")  # a byte that is not UTF-8, as Python's `surrogateescape` holds it

HOST_NAME = re.compile(r"(?=.{1,253}\.?\Z)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*\.?\Z")
ENDS_IN_A_NUMBER = re.compile(r"(.*\.)?([0-9]+|0x[0-9a-f]*)\.?\Z")  # the C library and browsers read these as IPv4


def unwrap_ipv4(ip: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The IPv4 address that an IPv4-mapped or NAT64 address stands for; any other address unchanged."""
    if isinstance(ip, IPv6Address) and (ip in IPV4_MAPPED or ip in NAT64):
        return IPv4Address(int(ip) & 0xFFFF_FFFF)
    return ip


def is_public(ip: IPv4Address | IPv6Address) -> bool:
    """Whether an address belongs to the public internet. False when in doubt."""
    ip = unwrap_ipv4(ip)
    if isinstance(ip, IPv4Address):
        return not any(ip in network for network in NOT_PUBLIC_IPV4)
    return ip.scope_id is None and ip in PUBLIC_IPV6 and not any(ip in network for network in NOT_PUBLIC_IPV6)


class Refusal(NamedTuple):
    """Why an address may not be called.

    Attributes:
        reason: the reason of the dead letter.
        detail: the sentence of the message.
    """

    reason: str
    detail: str


@dataclass(frozen=True)
class AddressPolicy:
    """Which addresses, ports and hosts may be called: the public internet, and what the operator allows.

    Attributes:
        allow_networks: networks that may be called besides the public internet, on any port (FETCH_ALLOW_NETWORKS).
        ports: ports that may be called on the public internet (FETCH_PORTS).
        allow_hosts: the only hosts that a URL may name, in the form of `host_pattern`; empty for all hosts
            (FETCH_ALLOW_HOSTS). It only restricts: the address of such a host must be permitted as well.
    """

    allow_networks: tuple[IPv4Network | IPv6Network, ...] = ()
    ports: tuple[int, ...] = WEB_PORTS
    allow_hosts: tuple[str, ...] = ()

    def refusal(self, ip: IPv4Address | IPv6Address, port: int) -> Refusal | None:
        """Why a connection to this address and port is not permitted; None if it is permitted."""
        if any(unwrap_ipv4(ip) in network or ip in network for network in self.allow_networks):
            return None
        if not is_public(ip):
            return Refusal("address_not_public", f"{ip} is not a public address, nor in FETCH_ALLOW_NETWORKS")
        return self._port_refusal(port)

    def refusal_before_lookup(self, port: int) -> Refusal | None:
        """Why a name may not be called on this port, whatever address it resolves to; None if that depends on the address."""
        return None if self.allow_networks else self._port_refusal(port)

    def permits_host(self, host: str) -> bool:
        """Whether a URL may name this host, given in ASCII and lower case."""
        host = host.removesuffix(".")
        return not self.allow_hosts or any(
            host.endswith(pattern) if pattern.startswith(".") else host == pattern for pattern in self.allow_hosts
        )

    def _port_refusal(self, port: int) -> Refusal | None:
        if port in self.ports:
            return None
        return Refusal("port_not_allowed", f"port {port} is not in FETCH_PORTS ({', '.join(map(str, self.ports))})")


PUBLIC_ONLY = AddressPolicy()


def check_url(url: str, policy: AddressPolicy = PUBLIC_ONLY) -> URL:
    """Parse the URL of a picture, and check all that its text tells.

    Raises:
        FetchError: `url_scheme`, `url_invalid`, `host_not_allowed`, `port_not_allowed`, or `address_not_public` if the host
            is an address that the policy does not permit, in any spelling that a C library understands (`127.1`,
            `2130706433`, `0x7f.1`).
    """
    if len(url) > MAX_URL_LENGTH:
        raise _refusal("url_invalid", url, f"the URL has {len(url)} characters; the limit is {MAX_URL_LENGTH}")
    try:
        parsed = parse_url(absolute(url))
    except ValueError as e:
        raise _refusal("url_invalid", url, str(e)) from e
    if parsed.scheme not in ("http", "https"):
        raise _refusal("url_scheme", url, f"the scheme is {parsed.scheme!r}; only http and https are allowed")
    if parsed.user is not None or parsed.password is not None:
        bare = str(parsed.with_user(None))  # a message must not repeat a password
        raise _refusal("url_invalid", bare, "the URL contains a user name or password, which is not allowed")
    host = parsed.raw_host
    if not host:
        raise _refusal("url_invalid", url, "the URL has no host")
    _check_host(url, host, parsed.port or 0, policy)
    return parsed


def parse_url(url: str) -> URL:
    """Parse a URL, absolute or relative, and encode what is illegal in it.

    Path and query keep their bytes otherwise, because some hosts sign them: `%3a` stays `%3a`, and `,` stays `,`. Segments that
    are `.` or `..` are resolved, as browsers do.

    Raises:
        ValueError: it is not a URL.
    """
    if UNSAFE.search(url):  # checked before parsing, because the parser drops some of them
        raise ValueError("the URL contains a control character or half a surrogate pair")
    url = url.strip(" ")
    try:
        parsed = URL(url)
        _ = parsed.host  # decodes an internationalized name, so that an invalid one fails here and not later
    except IndexError as e:  # yarl raises it for some invalid hosts, such as "http://[]@"
        raise ValueError("the host is invalid") from e
    path, query, fragment = (part and ILLEGAL.sub(_percent_encoded, part) for part in AFTER_HOST.match(url).groups())  # pyright: ignore[reportOptionalMemberAccess]
    path = _without_dots(path)
    if query == "":  # yarl would drop the mark of an empty query
        path = (path or "/" * parsed.absolute) + "?"
    encoded = URL.build(
        scheme=parsed.scheme,
        authority=parsed.raw_authority,
        path=path,
        query_string=query or "",
        fragment=fragment or "",
        encoded=True,
    )
    _ = encoded.port  # splits the authority, so that an invalid one fails here and not later
    return encoded


def absolute(url: str) -> str:
    """The URL with a scheme: `//cdn.example/1.jpg`, as written in web pages, means https."""
    return f"https:{url}" if url.startswith("//") and url[2:3] not in {"", "/", "\\"} else url


def redirected(url: URL, location: str) -> str:
    """Where a redirect leads: `Location`, resolved against the URL of the response. The result is not checked.

    Args:
        url: what was requested.
        location: the header, with bytes that are not UTF-8 as `surrogateescape` decodes them. They are percent-encoded, as
            browsers do.

    Raises:
        ValueError: the location is not a URL.
    """
    location = RAW_BYTE.sub(lambda found: f"%{ord(found[0]) - 0xDC00:02X}", location)
    target = parse_url(location)
    if target.raw_host:
        return str(target) if target.scheme else f"{url.scheme}:{target}"
    if target.scheme:  # `https:b.jpg`
        return urljoin(str(url), str(target))
    relative = target.raw_path_qs  # `urljoin` would join the slashes of `a//b`
    if not relative:
        return str(url)
    if relative.startswith("?"):
        relative = url.raw_path + relative
    elif not relative.startswith("/"):
        relative = f"{url.raw_path.rpartition('/')[0]}/{relative}"
    return f"{url.origin()}{relative}"


def host_and_port(url: str) -> str:
    """`host:port` of a URL; "" if the URL cannot be parsed."""
    try:
        parsed = parse_url(absolute(url))
    except ValueError:
        return ""
    return f"{parsed.raw_host}:{parsed.port}"


def display_url(url: str) -> str:
    """A URL for a message: quoted, on one line, and shortened."""
    return repr(url if len(url) <= DISPLAYED_URL_LENGTH else url[: DISPLAYED_URL_LENGTH - 1] + "…")


def host_pattern(text: str) -> str:
    """Normalise one entry of `AddressPolicy.allow_hosts`: ASCII, lower case, no dot at the end.

    `.cdn.example` and `*.cdn.example` match all names below cdn.example, but not cdn.example itself.

    Raises:
        ValueError: the text is not a host name.
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
    """Raise ValueError unless `url` is `http://host:port`. A password is refused, because settings are printed."""
    parsed = parse_url(url)
    if parsed.user is not None or parsed.password is not None:
        raise ValueError("the URL contains a user name or password, which is not supported")
    if parsed.scheme != "http" or not parsed.raw_host or not parsed.port or parsed != parsed.origin():
        raise ValueError("expected http://host:port")


def _percent_encoded(found: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in found[0].encode())


def _without_dots(path: str) -> str:
    """Remove the dot segments of an absolute path (RFC 3986, 5.2.4). Those that are encoded stay."""
    if "/." not in path or not path.startswith("/"):
        return path
    first, *segments = path.split("/")
    kept: list[str] = []
    for segment in segments:
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append(segment)
    if segments[-1] in (".", ".."):
        kept.append("")
    return "/".join([first, *kept])


def _check_host(url: str, host: str, port: int, policy: AddressPolicy) -> None:
    ip = _ip_literal(url, host)
    if ip is None and not HOST_NAME.match(host):
        raise _refusal("url_invalid", url, f"{host!r} is not a host name")
    if not policy.permits_host(host if ip is None else str(ip)):
        raise _refusal("host_not_allowed", url, f"{host} is not in FETCH_ALLOW_HOSTS")
    refusal = policy.refusal_before_lookup(port) if ip is None else policy.refusal(ip, port)
    if refusal is not None:
        spelling = "" if ip is None or str(ip) == host else f" (written {host})"
        raise _refusal(refusal.reason, url, refusal.detail + spelling)
    if isinstance(ip, IPv4Address) and str(ip) != host:
        raise _refusal("url_invalid", url, f"write the address {host} as {ip}")


def _ip_literal(url: str, host: str) -> IPv4Address | IPv6Address | None:
    """The address that a host spells, in any notation; None if the host is a name."""
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


def _refusal(reason: str, url: str, detail: str) -> FetchError:
    return FetchError(reason, f"image_url {display_url(url)}: {detail}")
