"""URLs of pictures, and hosts in settings."""

from ipaddress import ip_address

from yarl import URL

from streams.exceptions import FetchError
from streams.text import UNSAFE
from streams.web.addresses import (
    MAX_URL_LENGTH,
    check_proxy,
    check_url,
    display_url,
    host_and_port,
    host_pattern,
    is_public,
)


def seeds() -> list[bytes]:
    """URLs in every notation of a host, and with every part."""
    texts = [
        "https://shop.example/1.jpg", "http://shop.example:80/a%3Ab.jpg?x=%2F&y=%27#part", "//cdn.example/1.jpg", "data:,x",
        "https://bücher.example/ä.jpg", "https://xn--bcher-kva.example./", "http://127.1/", "http://2130706433/", "http://0x7f.1/",
        "http://[::1]/", "http://[::ffff:10.0.0.1]/", "http://[fe80::1%25eth0]/", "http://[2606:4700::1111]:443/", "http://8.8.8.8/x",
        "http://user:secret@shop.example/", "http://[]@", "https://a..b/", "https://shop.example:99999/", "http://shop.example\\@evil/",
        ".cdn.example", "*.cdn.example", "10.1.0.0/16", "http://proxy:3128", "https://ⓔⓧ.example/", "https://" + "a." * 130,
        "https://shop.example/a\nb", "https://shop.example/\u202egpj.1",
    ]  # fmt: skip
    return [text.encode() for text in texts]


def check(data: bytes) -> str:
    """Check a URL; an accepted one is accepted again, as the same, in the form that is requested."""
    text = data.decode("utf-8", "surrogateescape")
    assert len(display_url(text)) < 2500
    assert isinstance(host_and_port(text), str)
    _as_settings(text)
    try:
        url = check_url(text)
    except FetchError as error:
        assert not error.transient
        return error.reason
    assert url.scheme in ("http", "https")
    assert not UNSAFE.search(text)
    assert url.raw_host and url.raw_host.isascii() and not UNSAFE.search(str(url))
    try:
        ip = ip_address(url.raw_host)
    except ValueError:
        pass
    else:
        assert is_public(ip)
    if len(str(url)) <= MAX_URL_LENGTH:  # encoded, it may be longer
        again = check_url(str(url))
        assert str(again) == str(url)
    return "accepted"


def _as_settings(text: str) -> None:
    """The same text as a value of FETCH_ALLOW_HOSTS and of FETCH_PROXY."""
    try:
        pattern = host_pattern(text)
    except ValueError:
        pass
    else:
        assert host_pattern(pattern) == pattern
    try:
        check_proxy(text)
    except ValueError:
        return
    assert URL(text).password is None
