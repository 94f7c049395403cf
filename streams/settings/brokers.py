"""The brokers in the text of `BROKER`, as people copy it from the settings of other Kafka clients. Pure."""

import re
from ipaddress import IPv6Address
from typing import Literal, NamedTuple, get_args

SecurityProtocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]

DEFAULT_PORT = 9092  # Kafka's

SCHEMES: dict[str, SecurityProtocol | None] = {
    "kafka": None,  # says nothing about the protocol
    "kafka+ssl": "SSL",
    **{protocol.lower(): protocol for protocol in get_args(SecurityProtocol)},
}

HOST = re.compile(r"(?=.{1,253}\Z)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*\.?", re.IGNORECASE)


class Broker(NamedTuple):
    """One broker."""

    host: str  # an IPv6 address in brackets
    port: int
    protocol: SecurityProtocol | None  # what the scheme says, if it says one

    @property
    def server(self) -> str:
        """host:port, as Kafka clients take it."""
        return f"{self.host}:{self.port}"


def parse_broker(text: str) -> Broker:
    """One broker: `host`, `host:port` or `scheme://host:port`, with or without a slash at the end.

    Raises:
        ValueError: It is none of these. The message does not repeat a password.
    """
    scheme, separator, rest = text.strip().partition("://")
    if separator and scheme.lower() not in SCHEMES:
        known = ", ".join(f"{name}://" for name in SCHEMES)
        raise ValueError(f"the scheme {scheme}:// is unknown; write host:port, or one of {known}")
    address = (rest if separator else scheme).removesuffix("/")
    if "@" in address:
        raise ValueError("a broker's address has no user name; set SASL_USERNAME and SASL_PASSWORD")
    if not address:
        raise ValueError("a broker has no host; write host:port")
    if address.startswith("["):
        host, bracket, tail = address.partition("]")
        if not bracket or not _is_ipv6(host[1:]) or not (not tail or tail.startswith(":")):
            raise ValueError(f"{address!r} is not an IPv6 address and port; write [::1]:9092")
        host, port = host + "]", tail[1:] if tail else str(DEFAULT_PORT)
    elif _is_ipv6(address):
        raise ValueError(f"{address!r} may end in a port or not; write an IPv6 address in brackets, such as [::1]:9092")
    elif address.count(":") > 1:
        raise ValueError(f"{address!r} is not host:port; separate brokers with commas")
    else:
        host, colon, port = address.partition(":")
        port = port if colon else str(DEFAULT_PORT)
        if not HOST.fullmatch(host):
            raise ValueError(f"{host!r} is not a host name; write host:port, separated by commas")
    if not re.fullmatch(r"[0-9]{1,5}", port) or not 1 <= int(port) <= 65535:
        raise ValueError(f"{port!r} is not a port of {host}; a port is between 1 and 65535")
    return Broker(host, int(port), SCHEMES[scheme.lower()] if separator else None)


def common_protocol(brokers: list[Broker]) -> SecurityProtocol | None:
    """The protocol that the schemes of all brokers say, or None if no scheme says one.

    Raises:
        ValueError: They say different ones.
    """
    named: list[SecurityProtocol] = list(dict.fromkeys(broker.protocol for broker in brokers if broker.protocol))
    if len(named) > 1:
        raise ValueError(f"BROKER names brokers by {' and by '.join(named)}; name those of one listener")
    return named[0] if named else None


def _is_ipv6(text: str) -> bool:
    try:
        IPv6Address(text)
    except ValueError:
        return False
    return True
