"""Only public addresses and what the operator allows may be called. `test_hostile_urls` is the corpus of URLs that are refused."""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.exceptions import FetchError
from streams.web.addresses import AddressPolicy, check_proxy, check_url, host_pattern, is_public, unwrap_ipv4

LOOPBACK = AddressPolicy((ip_network("127.0.0.0/8"),))

PUBLIC = """
8.8.8.8 1.1.1.1 100.128.0.1 172.32.0.1 223.255.255.255 2606:4700::1111 2a00:1450:4001::5e
    ::ffff:8.8.8.8 64:ff9b::8.8.8.8
"""
NOT_PUBLIC = """
0.0.0.0 0.1.2.3 10.0.0.1 100.64.0.1 100.100.100.200 127.0.0.1 127.255.255.254 168.63.129.16 169.254.169.254
    172.16.0.1 172.31.255.255 192.0.0.192 192.0.2.1 192.88.99.1 192.168.1.1 198.18.0.1 198.19.255.255
    198.51.100.1 203.0.113.1 224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255 :: ::1 ::7f00:1
    ::ffff:127.0.0.1 ::ffff:169.254.169.254 64:ff9b::10.0.0.1 64:ff9b:1::1 100::1 2001::1
    2001:0:4136:e378:8000:63bf:f5ff:fffe 2001:2::1 2001:10::1 2001:db8::1 2002:7f00:1:: 2002:808:808::1
    3fff::1 4000::1 5f00::1 fc00::1 fd00:ec2::254 fe80::1 fe80::1%eth0 fec0::1 ff02::1 ffff::1
    2606:4700::1111%eth0
"""


@pytest.mark.parametrize("address", PUBLIC.split())
def test_a_public_address_is_public(address: str) -> None:
    assert is_public(ip_address(address))


@pytest.mark.parametrize("address", NOT_PUBLIC.split())
def test_an_address_that_is_reserved_or_internal_is_not_public(address: str) -> None:
    assert not is_public(ip_address(address))


@given(st.integers(0, 2**32 - 1))
def test_an_ipv4_address_written_as_ipv6_follows_the_rule_for_ipv4(number: int) -> None:
    ip = ip_address(number)
    assert is_public(ip_address(f"::ffff:{ip}")) == is_public(ip)
    assert is_public(ip_address(f"64:ff9b::{ip}")) == is_public(ip)


@given(st.ip_addresses())
def test_no_address_that_python_calls_private_multicast_or_reserved_is_public(ip: IPv4Address | IPv6Address) -> None:
    if unwrap_ipv4(ip) == ip and (ip.is_private or ip.is_multicast or ip.is_reserved):
        assert not is_public(ip)


def test_networks_that_the_operator_allows_are_permitted() -> None:
    policy = AddressPolicy((ip_network("10.1.0.0/16"), ip_network("fd00::/8")))
    permitted = ["10.1.2.3", "::ffff:10.1.2.3", "fd00::1", "8.8.8.8"]
    refused = ["10.2.0.1", "127.0.0.1", "::ffff:10.2.0.1", "fe80::1"]
    refusals = [policy.refusal(ip_address(a), 80) for a in permitted + refused]
    assert [r and r.reason for r in refusals] == [None] * 4 + ["address_not_public"] * 4


def test_ports_are_restricted_on_the_public_internet_but_not_in_allowed_networks() -> None:
    policy = AddressPolicy((ip_network("10.1.0.0/16"), ip_network("9.9.0.0/16")), ports=(80, 8443))
    permitted = [("8.8.8.8", 80), ("8.8.8.8", 8443), ("10.1.2.3", 6379), ("::ffff:10.1.2.3", 22), ("9.9.9.9", 22)]
    assert [policy.refusal(ip_address(ip), port) for ip, port in permitted] == [None] * 5
    for ip, port in [("8.8.8.8", 443), ("2606:4700::1111", 22), ("64:ff9b::8.8.8.8", 22)]:
        refusal = policy.refusal(ip_address(ip), port)
        assert refusal == ("port_not_allowed", f"port {port} is not in FETCH_PORTS (80, 8443)")


HOSTS = AddressPolicy(
    allow_hosts=("cdn.example", ".images.example", "8.8.8.8", "2606:4700::1111", "xn--mnchen-3ya.example")
)


@pytest.mark.parametrize(
    "host",
    [
        "cdn.example",
        "CDN.example.",
        "ｃdn。example",
        "a.images.example",
        "a.b.images.example",
        "8.8.8.8",
        "münchen.example",
        "[2606:4700:0::1111]",
    ],
)
def test_an_allowed_host_is_permitted_in_any_spelling(host: str) -> None:
    assert check_url(f"https://{host}/a.jpg", HOSTS)


@pytest.mark.parametrize(
    "host",
    ["a.cdn.example", "xcdn.example", "images.example", "ximages.example", "cdn.example.x", "8.8.4.4", "8.8.8.8.x"],
)
def test_a_host_that_is_not_allowed_is_refused(host: str) -> None:
    with pytest.raises(FetchError, match=f"{host} is not in FETCH_ALLOW_HOSTS") as refused:
        check_url(f"https://{host}/a.jpg", HOSTS)
    assert (refused.value.reason, refused.value.transient) == ("host_not_allowed", False)


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("cdn.example", "cdn.example"),
        ("CDN.Example.", "cdn.example"),
        (".cdn.example", ".cdn.example"),
        ("*.cdn.example", ".cdn.example"),
        ("münchen.example", "xn--mnchen-3ya.example"),
        ("*.münchen.example", ".xn--mnchen-3ya.example"),
        ("8.8.8.8", "8.8.8.8"),
        ("2606:4700:0::1111", "2606:4700::1111"),
    ],
)
def test_a_host_pattern_is_normalised(text: str, pattern: str) -> None:
    assert host_pattern(text) == pattern
    assert host_pattern(pattern) == pattern


@pytest.mark.parametrize(
    "text",
    [
        "",
        "*",
        ".",
        "*.",
        "..cdn.example",
        "*cdn.example",
        "*.*.example",
        "cdn.*",
        "http://cdn.example",
        "cdn.example:80",
        "cdn.example/a",
        "ann@cdn.example",
        "cdn example",
        "127.1",
        "2130706433",
        ".0.0.1",
        "*.8.8.8.8",
        "[::1",
    ],
)
def test_a_pattern_that_is_not_a_host_name_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a host name"):
        host_pattern(text)


@pytest.mark.parametrize(
    "url",
    [
        "http://shop.example/a.jpg",
        "https://shop.example:443/ü.jpg?w=1 2#x",
        "http://shop.example:443/",
        "http://münchen.example/",
        "HTTP://S.EXAMPLE",
        "http://under_score.example./",
        "http://8.8.8.8/",
        "http://[2606:4700::1111]:80/",
        "http://[::ffff:8.8.8.8]/",
    ],
)
def test_an_ordinary_url_passes(url: str) -> None:
    assert check_url(url).scheme in ("http", "https")


@pytest.mark.parametrize("host", ["127.1", "2130706433", "0x7f.1", "127.0.0.1."])
def test_the_message_gives_a_refused_address_and_how_it_was_written(host: str) -> None:
    with pytest.raises(FetchError) as refused:
        check_url(f"http://{host}/x.jpg")
    assert f"127.0.0.1 is not a public address, nor in FETCH_ALLOW_NETWORKS (written {host})" in str(refused.value)


def test_a_permitted_address_must_be_written_in_dotted_decimal() -> None:
    assert check_url("http://127.0.0.1/", LOOPBACK).raw_host == "127.0.0.1"
    for host in ("127.1", "2130706433", "127.0.0.1."):
        with pytest.raises(FetchError, match=r"write the address .* as 127\.0\.0\.1") as refused:
            check_url(f"http://{host}/", LOOPBACK)
        assert refused.value.reason == "url_invalid"


@pytest.mark.parametrize("url", ["http://ann:hush@a.example/", "http://ann@a.example/", "http://:hush@a.example/"])
def test_credentials_are_refused_and_not_repeated_in_the_message(url: str) -> None:
    with pytest.raises(FetchError, match="user name or password") as refused:
        check_url(url)
    assert "ann" not in str(refused.value) and "hush" not in str(refused.value)


@pytest.mark.parametrize(
    "url", ["http://proxy.example:3128", "http://10.0.0.1:3128/", "http://[fd00::1]:8080", "http://p"]
)
def test_a_proxy_is_an_http_url_with_a_host(url: str) -> None:
    check_proxy(url)


@pytest.mark.parametrize(
    "url",
    [
        "proxy:3128",
        "https://proxy:3128",
        "socks5://proxy:1080",
        "http://",
        "http://proxy:3128/path",
        "http://proxy:99999",
        "http://ann:hush@proxy:3128",
        "http://ann@proxy:3128",
        "http://proxy:3128/?x",
        "http://pro\nxy:3128",
    ],
)
def test_a_proxy_with_anything_else_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r".") as refused:
        check_proxy(url)
    assert "hush" not in str(refused.value)


@given(st.text() | st.text("0123456789.x:[]%/@a。①\ud800").map("http://".__add__))
def test_any_text_is_either_a_valid_url_or_a_fetch_error(text: str) -> None:
    try:
        url = check_url(text)
    except FetchError as e:
        str(e).encode()  # the message fits into a header
        assert "\n" not in str(e)
    else:
        assert url.raw_host is not None
        url.raw_host.encode("idna")  # the resolver accepts it
