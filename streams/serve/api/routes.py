"""What a route is: its path, the scope that it needs, the types of its parameters, body and answer, and its handler.

A route is declared once. The server validates requests by it, and the OpenAPI document describes it.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin
from urllib.parse import parse_qsl, unquote_to_bytes

import msgspec
from aiohttp import hdrs, web
from msgspec import Struct

from streams.exceptions import MessageError
from streams.messages import ItemId, UserId, message_error
from streams.serve.api.parameters import NoQuery
from streams.serve.api.problems import Problem
from streams.serve.api.tokens import Scope
from streams.text import UNSAFE, visible

Q = TypeVar("Q", bound=Struct)

JSON, EVENTS, FORM = "application/json", "text/event-stream", "multipart/form-data"
Place = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]  # a partition or an offset
PATH_TYPES: dict[str, Any] = {
    "user_id": UserId,
    "item_id": ItemId,
    "reason": str,
    "partition": Place,
    "offset": Place,
}
JSON_BYTES = 1024**2  # of a body, unless its route says otherwise: a thousand ids of 256 characters fit
MAX_PARAMETERS = 32
_ALWAYS = ("not_acceptable", "unknown_parameter", "invalid_field", "internal_error")


@dataclass(frozen=True, kw_only=True)
class Route:
    """One resource and one method."""

    method: str
    path: str
    name: str
    summary: str
    scope: Scope | None  # None: for everybody
    handler: Callable[[Any], Awaitable[web.StreamResponse]]
    answer: Any  # type of the answer
    query: type[Struct] = NoQuery
    body: Any = None  # type of the body
    reads: Literal["json", "bytes", "itself"] = (
        "json"  # whether the handler gets the value, the bytes, or reads the body
    )
    form: Any = None  # type of the body as multipart/form-data
    body_bytes: int = JSON_BYTES
    status: int = 200
    media: str = JSON  # of the answer
    also: Mapping[int, str] = field(default_factory=dict[int, str])  # other good statuses, and when
    problems: tuple[str, ...] = ()

    @property
    def path_names(self) -> list[str]:
        """The names in the path."""
        return re.findall(r"{(\w+)}", self.path)

    @property
    def reasons(self) -> list[str]:
        """All reasons for which a request can be refused."""
        found = [*_ALWAYS, *self.problems]
        if self.scope is not None:
            found += [
                "not_authenticated",
                "token_expired",
                "not_permitted",
                "foreign_host",
                "cross_site",
                "too_many_requests",
            ]
        if self.body is not None:
            found += ["invalid_json", "missing_field", "empty_message", "unsupported_media_type", "body_too_large"]
            found += ["slow_request", "busy"]
        return list(dict.fromkeys(found))


def path_values(route: Route, raw_path: str) -> dict[str, str]:
    """The ids in the path of a request, each percent-decoded exactly once.

    Raises:
        Problem: one is not UTF-8, is too long, or has control characters.
    """
    found: dict[str, str] = {}
    for template, given in zip(route.path.split("/"), raw_path.split("/"), strict=True):
        if not template.startswith("{"):
            continue
        name = template[1:-1]
        if "%" in given and re.search(r"%(?![0-9A-Fa-f]{2})", given):
            raise Problem("invalid_field", f"{name}: write a percent sign as %25", field=name)
        try:
            text = unquote_to_bytes(given).decode()
            msgspec.convert(text, PATH_TYPES[name], strict=PATH_TYPES[name] is not Place)
            found[name] = text
        except UnicodeDecodeError:
            raise Problem("invalid_field", f"{name}: it is not percent-encoded UTF-8", field=name) from None
        except msgspec.ValidationError as error:
            raise Problem("invalid_field", f"{name}: {error}", field=name) from error
        check_text(name, text)
    return found


def query_values(kind: type[Q], raw_query: str) -> Q:
    """The parameters of a request. Raises Problem if one is unknown, given twice, or not valid."""
    if not raw_query:
        given: dict[str, str] = {}
    else:
        try:
            pairs = parse_qsl(raw_query, keep_blank_values=True, errors="strict", max_num_fields=MAX_PARAMETERS)
        except UnicodeDecodeError:
            raise Problem("invalid_field", "the parameters are not percent-encoded UTF-8") from None
        except ValueError:
            raise Problem("invalid_field", f"there are more than {MAX_PARAMETERS} parameters") from None
        given = dict(pairs)
        names = _parameters(kind)
        for name, value in pairs:
            if name not in names:
                known = ", ".join(names) or "none"
                raise Problem(
                    "unknown_parameter", f"{visible(name[:64])}: unknown; the parameters are: {known}", field=name[:64]
                )
            if names[name] is bool and value not in ("true", "false"):
                raise Problem("invalid_field", f"{name}: expected true or false", field=name)
        if len(given) < len(pairs):
            twice = next(name for name, _ in pairs if sum(name == other for other, _ in pairs) > 1)
            raise Problem("invalid_field", f"{twice}: it is given twice", field=twice)
    try:
        found = msgspec.convert(given, kind, strict=False)
    except msgspec.ValidationError as error:
        raise as_problem(message_error(error)) from error
    for name, value in given.items():
        check_text(name, value)
        if isinstance(getattr(found, name), datetime) and ":" not in value:  # msgspec takes a number for a time, too
            raise Problem("invalid_field", f"{name}: expected a time such as 2026-05-01T12:00:00Z", field=name)
    return found


@cache
def _parameters(kind: type[Struct]) -> dict[str, Any]:
    """The parameters by name, each with its type."""
    fields = msgspec.structs.fields(kind)
    return {one.encode_name: get_args(one.type)[0] if get_origin(one.type) is Annotated else one.type for one in fields}


def body_value(kind: Any, content: bytes) -> Any:
    """Decode a body of JSON. Raises Problem."""
    if not content:
        raise Problem("empty_message", "the body is empty")
    try:
        found = msgspec.json.decode(content, type=kind)
    except msgspec.ValidationError as error:
        raise as_problem(message_error(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Problem("invalid_json", f"the body is not JSON: {visible(error)}") from error
    for name, text in _texts(found, "body"):
        check_text(name, text)
    return found


def as_problem(error: MessageError) -> Problem:
    """The problem that a refused event, body or parameter is."""
    return Problem(error.reason, visible(error), field=error.field)


async def read_body(request: web.Request, limit: int, seconds: float) -> bytes:
    """Read a body, and never more than `limit` bytes of it. Raises Problem."""
    check_length(request, limit)
    content = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.content.iter_any():
                content += chunk
                if len(content) > limit:
                    raise too_large(limit)
    except TimeoutError:
        raise Problem("slow_request", f"the body did not arrive within {seconds:g} s") from None
    except web.RequestPayloadError as error:
        raise Problem("malformed_request", f"the body is broken: {visible(error)}") from error
    return bytes(content)


def check_length(request: web.Request, limit: int) -> None:
    """Raises Problem if a body is compressed, or says that it is longer than `limit`."""
    if request.headers.get(hdrs.CONTENT_ENCODING, "identity") != "identity":
        raise Problem("unsupported_media_type", "Content-Encoding: bodies are not decompressed; send it as it is")
    if request.content_length is not None and request.content_length > limit:
        raise too_large(limit)


def too_large(limit: int) -> Problem:
    """The problem of a body that is too large. What is left of it is not read."""
    return Problem("body_too_large", f"the body is larger than {limit} bytes", headers={hdrs.CONNECTION: "close"})


def _texts(value: Any, name: str) -> Iterator[tuple[str, str]]:
    """All texts in a value, each with the name of the field that it is in."""
    if isinstance(value, str):
        yield name, value
    elif isinstance(value, list):
        for one in value:
            yield from _texts(one, name)
    elif isinstance(value, Struct):
        for key in value.__struct_fields__:
            yield from _texts(getattr(value, key), key)


def check_text(name: str, text: str) -> None:
    """Raises Problem if a text has control characters."""
    if found := UNSAFE.search(text):
        raise Problem(
            "invalid_field",
            f"{name}: contains the control character {visible(found[0])} at character {found.start()}",
            field=name,
        )


def accepts(header: str | None, media: str) -> bool:
    """Whether an `Accept` header permits a media type."""
    if not header:
        return True
    kind = media.split("/", maxsplit=1)[0]
    best = (0, 0.0)  # how closely a range names the type, and its quality: the closest one counts
    for part in header.split(","):
        name, *options = [one.strip().lower() for one in part.split(";")]
        closeness = {media: 3, f"{kind}/*": 2, "*/*": 1}.get(name, 0)
        quality = 1.0
        for option in options:
            if option.startswith("q="):
                try:
                    quality = float(option[2:])
                except ValueError:
                    quality = 0.0
        best = max(best, (closeness, quality)) if closeness else best
    return best[1] > 0
