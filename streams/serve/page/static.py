"""Serves the files of the web page at `/` and `/page/...`, and tells browsers what the page may load.

The files hold no data of the shop, so they need no token, and other sites may link to them. What the page shows it asks from the
API, with the token of whoever looks at it.
"""

import gzip
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address
from pathlib import Path

from aiohttp import hdrs, web

FILES = Path(__file__).parent / "files"
INDEX = "index.html"
FOLDER = "/page/"  # of all other files
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_LOOPBACK = ip_address("127.0.0.1")
_LOCAL_SITES = "http://127.0.0.1:* http://localhost:*"


def policy(*, local_pictures: bool) -> str:
    """The Content-Security-Policy of the page: its own files, its own API, and pictures of the web.

    Args:
        local_pictures: whether pictures may come from this machine without TLS.
    """
    pictures = "'self' https: data: blob:" + (f" {_LOCAL_SITES}" if local_pictures else "")
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        f"img-src {pictures}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    )


def has_loopback(networks: Sequence[IPv4Network | IPv6Network]) -> bool:
    """Whether this machine is in one of some networks."""
    return any(_LOOPBACK in network for network in networks)


@dataclass(frozen=True)
class StaticFile:
    """A file of the page."""

    content: bytes
    packed: bytes  # with gzip
    media: str
    etag: str

    @classmethod
    def read(cls, path: Path) -> "StaticFile":
        """Read a file. Raises OSError."""
        content = path.read_bytes()
        digest = hashlib.blake2b(content, digest_size=12).hexdigest()
        return cls(content, gzip.compress(content, mtime=0), TYPES[path.suffix], f'"{digest}"')


def read_files(folder: Path = FILES) -> dict[str, StaticFile]:
    """All files of the page, by the path that they are served at. Raises OSError."""
    paths = (path for path in sorted(folder.rglob("*")) if path.suffix in TYPES)
    found = {FOLDER + path.relative_to(folder).as_posix(): StaticFile.read(path) for path in paths}
    found["/"] = found.pop(FOLDER + INDEX)
    return found


class Page:
    """The page, as handlers of requests."""

    def __init__(self, files: Mapping[str, StaticFile], *, local_pictures: bool) -> None:
        """The arguments are those of `read_files` and `policy`."""
        self._files = files
        self._headers = {
            hdrs.CACHE_CONTROL: "no-cache",  # a browser asks each time, and a worker of another version is noticed
            hdrs.VARY: hdrs.ACCEPT_ENCODING,
            "Content-Security-Policy": policy(local_pictures=local_pictures),
            "Cross-Origin-Opener-Policy": "same-origin",
            "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
        }

        self.paths = frozenset(files)

    def answer(self, path: str, request: web.Request) -> web.Response:
        """The file at one of the paths."""
        file = self._files[path]
        headers = {**self._headers, hdrs.ETAG: file.etag}
        known = request.headers.get(hdrs.IF_NONE_MATCH, "").split(",")
        if file.etag in [one.strip().removeprefix("W/") for one in known]:
            return web.Response(status=304, headers=headers)
        headers[hdrs.CONTENT_TYPE] = file.media
        if "gzip" in request.headers.get(hdrs.ACCEPT_ENCODING, ""):
            headers[hdrs.CONTENT_ENCODING] = "gzip"
            return web.Response(body=file.packed, headers=headers)
        return web.Response(body=file.content, headers=headers)
