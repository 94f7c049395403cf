"""Settings of the requests for pictures: where these may come from, and how large they may be."""

from importlib.metadata import version
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any, cast

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings

from model.limits import MAX_PICTURE_BYTES, MAX_PIXELS
from streams.settings.values import Listed, parts
from streams.web.addresses import WEB_PORTS, check_proxy, host_pattern
from streams.web.limits import LARGE_PICTURE_BYTES


class FetchSettings(BaseSettings):
    """Where pictures come from, and how many bytes and pixels they may have."""

    fetch_allow_networks: Listed[IPv4Network | IPv6Network] = Field(
        (),
        description="Networks that pictures may come from besides the public internet, on any port, as CIDRs separated by "
        "commas. Add the network of your own picture servers, such as 10.1.0.0/16.",
    )
    fetch_allow_hosts: Listed[str] = Field(
        (),
        description="The only hosts that pictures may come from, separated by commas; all hosts if empty. "
        "cdn.example is one host, .cdn.example is every name below it. Set it if all your pictures come from a few hosts.",
    )
    fetch_ports: Listed[int] = Field(
        WEB_PORTS,
        description="Ports on the public internet that pictures may come from, separated by commas. "
        "Add the port of a picture server that uses another one.",
    )
    fetch_proxy: str = Field(
        "",
        description="Proxy for picture requests, as http://host:port; http_proxy and its like are never used. "
        "Set it if workers cannot reach the internet by themselves. A proxy looks up names again: it has to refuse internal "
        "addresses itself, because the worker checks only what the names resolve to on its own machine.",
    )
    fetch_user_agent: str = Field(
        f"tastestream/{version('tastestream')} (product pictures)",
        description="User-Agent of picture requests. Include a contact address, so that the owner of a server can reach you.",
    )
    fetch_max_bytes: int = Field(
        MAX_PICTURE_BYTES,
        ge=1024,
        description="Maximum size of a picture, in bytes. Raise it if pictures of your shop are larger; memory grows with it.",
    )
    fetch_max_pixels: int = Field(
        MAX_PIXELS,
        ge=1024,
        description="Maximum number of pixels of a picture, by its header. "
        "Raise it if pictures of your shop are larger; memory and decoding time grow with it.",
    )
    fetch_timeout: float = Field(
        10.0,
        gt=0,
        description="Maximum seconds for one attempt to fetch a picture, from the first byte sent to the last byte received. "
        "Raise it for slow picture servers.",
    )
    fetch_attempts: int = Field(
        5,
        ge=1,
        description="Maximum number of attempts to fetch a picture; only transient failures are retried. "
        "Raise it if pictures fail that can be fetched a minute later.",
    )
    fetch_connections: int = Field(
        256,
        ge=1,
        description="Maximum number of pictures that are being fetched and embedded at a time. "
        "Raise it if slow picture servers leave the processor idle; memory grows with it.",
    )
    fetch_large: int = Field(
        16,
        ge=1,
        description=f"Maximum number of pictures above {LARGE_PICTURE_BYTES // 1024} KiB that are read and decoded at a time. "
        "Lower it to save memory, raise it if most pictures are large.",
    )

    @field_validator("fetch_allow_networks", mode="before")
    @classmethod
    def _networks(cls, value: Any) -> Any:
        listed = parts(value)
        if not isinstance(listed, list | tuple):
            return listed
        return tuple(ip_network(str(network)) for network in cast("list[Any]", listed))

    @field_validator("fetch_allow_hosts")
    @classmethod
    def _hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(host_pattern(host) for host in value)

    @field_validator("fetch_ports")
    @classmethod
    def _ports(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value:
            raise ValueError("at least one port is needed")
        for port in value:
            if not 1 <= port <= 65535:
                raise ValueError(f"{port} is not a port, which is between 1 and 65535")
        return value

    @field_validator("fetch_proxy")
    @classmethod
    def _proxy(cls, value: str) -> str:
        if value:
            check_proxy(value)
        return value

    @field_validator("fetch_user_agent")
    @classmethod
    def _user_agent(cls, value: str) -> str:
        if not value.strip() or not value.isascii() or not value.isprintable():
            raise ValueError("it has to be printable ASCII, and not empty")
        return value
