"""Makes responses: JSON, and validators by which a client may ask again."""

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec
from aiohttp import hdrs, web

from streams.serve.api.routes import JSON

encode = msgspec.json.Encoder().encode


def reply(answer: Any, *, status: int = 200, headers: Mapping[Any, str] | None = None) -> web.Response:
    """An answer as JSON."""
    return web.Response(body=encode(answer), status=status, content_type=JSON, headers=headers)


def etag_of(*facts: Any) -> str:
    """A validator (weak, because the clock and the lag in two such answers may differ) of what an answer is made of."""
    return f'W/"{hashlib.blake2b(encode(facts), digest_size=12).hexdigest()}"'


def is_known(request: web.Request, etag: str) -> bool:
    """Whether the client says that it has the answer with this validator."""
    given = request.headers.get(hdrs.IF_NONE_MATCH, "")
    return given.strip() == "*" or etag in [one.strip() for one in given.split(",")]


def not_modified(etag: str) -> web.Response:
    """304."""
    return web.Response(status=304, headers={hdrs.ETAG: etag, hdrs.CACHE_CONTROL: "private, no-cache"})


def known_or_reply(request: web.Request, answer: Any) -> web.Response:
    """An answer as JSON with its `ETag`; 304 if the client has it."""
    etag = etag_of(answer)
    if is_known(request, etag):
        return not_modified(etag)
    return reply(answer, headers={hdrs.ETAG: etag, hdrs.CACHE_CONTROL: "private, no-cache"})
