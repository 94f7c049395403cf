"""Only the public internet, and what the operator names, may be called; however an address is spelled."""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.embed.addresses import AddressPolicy, check_url, is_public, unwrapped
from streams.exceptions import FetchError

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
def test_the_public_internet_is_public(address: str) -> None:
    assert is_public(ip_address(address))


@pytest.mark.parametrize("address", NOT_PUBLIC.split())
def test_anything_else_is_not(address: str) -> None:
    assert not is_public(ip_address(address))


@given(st.integers(0, 2**32 - 1))
def test_an_ipv4_address_in_ipv6_words_is_what_it_stands_for(number: int) -> None:
    ip = ip_address(number)
    assert is_public(ip_address(f"::ffff:{ip}")) == is_public(ip)
    assert is_public(ip_address(f"64:ff9b::{ip}")) == is_public(ip)


@given(st.ip_addresses())
def test_no_address_that_python_calls_private_or_multicast_is_public(ip: IPv4Address | IPv6Address) -> None:
    if unwrapped(ip) == ip and (ip.is_private or ip.is_multicast or ip.is_reserved):
        assert not is_public(ip)


def test_the_operator_may_name_networks() -> None:
    policy = AddressPolicy((ip_network("10.1.0.0/16"), ip_network("fd00::/8")))
    permitted = ["10.1.2.3", "::ffff:10.1.2.3", "fd00::1", "8.8.8.8"]
    refused = ["10.2.0.1", "127.0.0.1", "::ffff:10.2.0.1", "fe80::1"]
    assert [policy.permits(ip_address(a)) for a in permitted + refused] == [True] * 4 + [False] * 4


@pytest.mark.parametrize(
    "url",
    [
        "http://shop.example/a.jpg",
        "https://shop.example:8443/ü.jpg?w=1 2#x",
        "http://münchen.example/",
        "HTTP://S.EXAMPLE",
        "http://under_score.example./",
        "http://8.8.8.8/",
        "http://[2606:4700::1111]:81/",
        "http://[::ffff:8.8.8.8]/",
    ],
)
def test_an_ordinary_url_passes(url: str) -> None:
    assert check_url(url).scheme in ("http", "https")


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.1.", "127.0.0.1"),
        ("127.1", "127.0.0.1"),
        ("127.0.1", "127.0.0.1"),
        ("2130706433", "127.0.0.1"),
        ("0x7f.1", "127.0.0.1"),
        ("0X7F000001", "127.0.0.1"),
        ("0177.0.0.1", "127.0.0.1"),
        ("017700000001", "127.0.0.1"),
        ("0", "0.0.0.0"),
        ("１２７.0.0.1", "127.0.0.1"),  # full-width digits
        ("127。0。0。1", "127.0.0.1"),  # ideographic full stops
        ("①②⑦.1", "127.0.0.1"),
        ("169.254.169.254", "169.254.169.254"),
        ("2852039166", "169.254.169.254"),
        ("[::1]", "::1"),
        ("[::]", "::"),
        ("[0:0:0:0:0:0:0:1]", "::1"),
        ("[::ffff:127.0.0.1]", "::ffff:7f00:1"),
        ("[::ffff:7f00:1]", "::ffff:7f00:1"),
        ("[::127.0.0.1]", "::7f00:1"),
        ("[64:ff9b::7f00:1]", "64:ff9b::7f00:1"),
        ("[2002:7f00:1::]", "2002:7f00:1::"),
        ("[fd00:ec2::254]", "fd00:ec2::254"),
        ("[fe80::1%25eth0]", "fe80::1%25eth0"),
    ],
)
def test_a_private_address_is_refused_in_every_spelling_and_named(host: str, address: str) -> None:
    with pytest.raises(FetchError) as refused:
        check_url(f"http://{host}:8080/x.jpg")
    assert refused.value.reason == "address_not_public"
    assert not refused.value.transient
    assert address in str(refused.value)


def test_a_permitted_address_has_to_be_written_plainly() -> None:
    assert check_url("http://127.0.0.1/", LOOPBACK).raw_host == "127.0.0.1"
    for host in ("127.1", "2130706433", "127.0.0.1."):
        with pytest.raises(FetchError, match=r"has to be written 127\.0\.0\.1") as refused:
            check_url(f"http://{host}/", LOOPBACK)
        assert refused.value.reason == "url_invalid"


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://a.example/x", "data:image/png;base64,AAAA", "gopher://a/"]
)
@pytest.mark.parametrize("prefix", ["", "x"])
def test_only_http_is_spoken(url: str, prefix: str) -> None:
    with pytest.raises(FetchError) as refused:
        check_url(prefix + url)
    assert refused.value.reason == "url_scheme"


@pytest.mark.parametrize("url", ["", "a.jpg", "//shop.example/a.jpg", "/a.jpg"])
def test_a_url_without_a_scheme_is_refused(url: str) -> None:
    with pytest.raises(FetchError) as refused:
        check_url(url)
    assert refused.value.reason == "url_scheme"


@pytest.mark.parametrize(
    "url",
    [
        "http://",
        "http:///a.jpg",
        "http://[::1",
        "http://[::1]]/",
        "http://[]@",
        "http://[]:80/",
        "http://[1::2::3]/",
        "http://a..b/",
        "http://.a/",
        "http://a.example:99999/",
        "http://a.example:x/",
        "http://a b/",
        "http://a%2eb/",
        "http://%31%32%37.0.0.1/",
        "http://127.0.0.1%00.example/",
        "http://a\\b/",
        "http://a\\@b/",
        "http://08.0.0.1/",
        "http://999999999999/",
        "http://1.2.3.4.5/",
        "http://a.0x/",
        f"http://{'a' * 64}.example/",
        f"http://{'a.' * 130}example/",
        "http://a.example/\r\nX: y",
        "http://a.example/\x00",
        "http://a.example/\x7f",
        "http://a.example/\ud800",
        "http://xn--a/",
        f"http://a.example/{'a' * 2048}",
    ],
)
def test_a_url_that_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(FetchError) as refused:
        check_url(url)
    assert refused.value.reason == "url_invalid"
    assert len(str(refused.value)) < 700


@pytest.mark.parametrize("url", ["http://ann:hush@a.example/", "http://ann@a.example/", "http://:hush@a.example/"])
def test_credentials_are_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(FetchError, match="user name or password") as refused:
        check_url(url)
    assert refused.value.reason == "url_invalid"
    assert "ann" not in str(refused.value) and "hush" not in str(refused.value)


@given(st.text() | st.text("0123456789.x:[]%/@a。①\ud800").map("http://".__add__))
def test_any_text_is_either_a_url_or_a_fetch_error(text: str) -> None:
    try:
        url = check_url(text)
    except FetchError as e:
        str(e).encode()  # a message can be written to a header
        assert "\n" not in str(e)
    else:
        assert url.raw_host is not None
        url.raw_host.encode("idna")  # the resolver can be asked
