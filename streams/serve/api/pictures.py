"""Reads the pictures of a request: files and URLs of a form, or a JSON list of URLs. What is read is bounded, and never on disk."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, get_args

import msgspec
from aiohttp import BodyPartReader, hdrs, web
from aiohttp.http_exceptions import HttpProcessingError

from streams.messages import ImageUrl
from streams.serve.api.context import Call
from streams.serve.api.parameters import PictureList
from streams.serve.api.problems import Problem
from streams.serve.api.routes import (
    FORM,
    JSON,
    JSON_BYTES,
    body_value,
    check_length,
    check_text,
    read_body,
    too_large,
)
from streams.serve.api.types.taste import PicturedType
from streams.serve.interface import Uploaded
from streams.text import visible

TYPES: tuple[PicturedType, ...] = get_args(PicturedType)
MAX_NAME = 256  # characters of a file name
_URL_BYTES = 8192  # of a URL in a form: 2,048 characters


class Given(NamedTuple):
    """A picture of a request."""

    picture: str | Uploaded
    type: PicturedType

    @property
    def name(self) -> str:
        return self.picture if isinstance(self.picture, str) else self.picture.name


@asynccontextmanager
async def pictures_of(call: Call[Any, Any], kind: Any, *, most: int) -> AsyncGenerator[list[Given]]:
    """Read the pictures of a request, and keep memory for them while the block runs.

    Args:
        call: the request.
        kind: type of its body if that is JSON.
        most: pictures.

    Raises:
        Problem: the body is none of the two, too large, too slow, or broken, or there are too many pictures or none.
    """
    request, limits = call.request, call.api.limits
    media = request.content_type
    if media == JSON:
        with call.api.room(JSON_BYTES):
            found = body_value(kind, await read_body(request, JSON_BYTES, limits.body_seconds))
            urls = found.pictures if isinstance(found, PictureList) else [found.picture]
            yield [Given(one.url, one.type) for one in urls]
    elif media == FORM:
        check_length(request, limits.upload_bytes)
        with call.api.room(request.content_length or limits.upload_bytes):
            try:
                async with asyncio.timeout(limits.upload_seconds):
                    given = await _form(request, limits.upload_bytes, limits.picture_bytes, most)
            except TimeoutError:
                raise Problem(
                    "slow_request", f"the pictures did not arrive within {limits.upload_seconds:g} s"
                ) from None
            except (ValueError, AssertionError, EOFError, HttpProcessingError, web.RequestPayloadError) as error:
                raise Problem("invalid_form", f"the form is broken: {visible(error)[:200]}") from error
            yield given
    else:
        raise Problem("unsupported_media_type", f"{visible(media)}: expected {JSON} or {FORM}")


async def _form(request: web.Request, most_bytes: int, picture_bytes: int, most: int) -> list[Given]:
    """Read a form. Raises Problem, and what aiohttp raises for a broken one."""
    given: list[Given] = []
    left = most_bytes
    async for part in await request.multipart():
        if not isinstance(part, BodyPartReader):
            raise Problem("invalid_form", "a part of the form is a form")
        name = part.name or ""
        if name not in TYPES:
            raise Problem(
                "invalid_field",
                f"{visible(name[:64])}: name each part by its type: {', '.join(TYPES)}",
                field=name[:64],
            )
        if len(given) == most:
            raise Problem("too_many_pictures", f"more than {most} pictures", headers={hdrs.CONNECTION: "close"})
        if part.headers.get(hdrs.CONTENT_TRANSFER_ENCODING, "binary").lower() not in ("binary", "8bit", "7bit"):
            raise Problem("invalid_form", "Content-Transfer-Encoding: send the pictures as they are")
        is_file = part.filename is not None
        content = bytearray()
        while chunk := await part.read_chunk(64 * 1024):
            content += chunk
            left -= len(chunk)
            if left < 0:
                raise too_large(most_bytes)
            if len(content) > (picture_bytes if is_file else _URL_BYTES):
                what = (
                    f"a picture is larger than {picture_bytes} bytes (FETCH_MAX_BYTES)"
                    if is_file
                    else "a URL is too long"
                )
                raise Problem("body_too_large", what, field=name, headers={hdrs.CONNECTION: "close"})
        if is_file:
            file_name = visible(part.filename)[:MAX_NAME] or f"{len(given) + 1}"
            given.append(Given(Uploaded(file_name, bytes(content)), name))
        else:
            given.append(Given(_url(name, bytes(content)), name))
    if not given:
        raise Problem("missing_field", "the form has no picture", field="view")
    return given


def _url(field: str, content: bytes) -> str:
    """A URL in a form. Raises Problem."""
    try:
        url = msgspec.convert(content.decode().strip(), ImageUrl)
    except (UnicodeDecodeError, msgspec.ValidationError) as error:
        raise Problem("invalid_field", f"{field}: {visible(error)}", field=field) from error
    check_text(field, url)
    return url
