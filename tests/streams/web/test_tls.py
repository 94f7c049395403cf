"""HTTPS: a certificate that is not trusted, or belongs to another host, is refused before a request is sent."""

import shutil
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path

import aiohttp.connector
import pytest
from aiohttp import web

from streams.web.fetch import Fetcher
from tests.streams.web.servers import LOOPBACK, PICTURE, Answers, failure, serving

pytestmark = pytest.mark.skipif(
    shutil.which("openssl") is None, reason="openssl, which makes the certificate, is not installed"
)

Certificate = tuple[Path, ssl.SSLContext]


@pytest.fixture
def self_signed(tmp_path: Path) -> Callable[..., Certificate]:
    """Makes a certificate for 127.0.0.1 and shop.example. Gives its file, and the context of a server that uses it."""

    def make(days: int = 1) -> Certificate:
        key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
        names = "subjectAltName=IP:127.0.0.1,DNS:shop.example"
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        command += ["-subj", "/CN=shop.example", "-addext", names, "-days", str(days)]
        subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True, timeout=30)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        return certificate, context

    return make


def trust(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trust this certificate instead of the system's authorities."""
    context = ssl.create_default_context(cafile=str(certificate))
    monkeypatch.setattr(aiohttp.connector, "_SSL_CONTEXT_VERIFIED", context)


async def test_a_self_signed_certificate_is_refused(self_signed: Callable[..., Certificate]) -> None:
    asked: list[web.BaseRequest] = []

    async def handler(request: web.BaseRequest) -> web.Response:
        asked.append(request)
        return web.Response(body=PICTURE)

    async with serving(handler, tls=self_signed()[1]) as url, Fetcher(policy=LOOPBACK) as fetcher:
        failed = await failure(fetcher, url)
    assert (failed.reason, failed.transient) == ("certificate_invalid", False)
    assert "self-signed certificate" in str(failed)
    assert not asked


async def test_a_certificate_is_valid_only_for_the_hosts_it_names(
    self_signed: Callable[..., Certificate], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def handler(_: web.BaseRequest) -> web.Response:
        return web.Response(body=PICTURE)

    certificate, context = self_signed()
    trust(certificate, monkeypatch)
    async with (
        serving(handler, tls=context) as url,
        Fetcher(policy=LOOPBACK, resolver=Answers(["127.0.0.1"])) as fetcher,
    ):
        assert await fetcher.fetch(url) == PICTURE
        assert await fetcher.fetch(url.replace("127.0.0.1", "shop.example")) == PICTURE
        failed = await failure(fetcher, url.replace("127.0.0.1", "other.example"))
    assert (failed.reason, failed.transient) == ("certificate_invalid", False)
    assert "other.example" in str(failed)


async def test_http_to_a_tls_port_fails_as_transient(self_signed: Callable[..., Certificate]) -> None:
    async def handler(_: web.BaseRequest) -> web.Response:
        return web.Response(body=PICTURE)

    async with serving(handler, tls=self_signed()[1]) as url, Fetcher(policy=LOOPBACK) as fetcher:
        failed = await failure(fetcher, url.replace("https:", "http:"))
    assert failed.transient
    assert failed.reason in (
        "host_unreachable",
        "response_broken",
    )  # the server closes the connection, or sends a TLS alert
