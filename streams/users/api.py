"""Asks the HTTP API of a serve worker."""

from collections.abc import Mapping
from typing import TypeVar
from urllib.parse import quote

import aiohttp
import msgspec
from aiohttp import hdrs
from yarl import URL

from model.exceptions import TastestreamError
from streams.serve.api.problems import ProblemDocument
from streams.settings import Settings

TIMEOUT = aiohttp.ClientTimeout(total=30, connect=5)  # seconds
MAX_ANSWER = 64 * 1024**2  # bytes; an export of 128 items has about 1 MB

T = TypeVar("T")


class ApiError(TastestreamError):
    """The API does not answer, or refuses."""


def address(settings: Settings) -> str:
    """The address of the API, without a slash at its end."""
    return settings.api_url.rstrip("/") or f"http://127.0.0.1:{settings.serve_port}"


async def ask(
    settings: Settings, user_id: str, what: str, answer: type[T], query: Mapping[str, str] | None = None
) -> tuple[T, bytes]:
    """Ask for something about a user.

    Args:
        settings: Where the API is, and the token.
        user_id: The user.
        what: The rest of the path, such as `/export`.
        answer: The type of the answer.
        query: Parameters.

    Returns:
        The answer, and the JSON that it came as.

    Raises:
        ApiError: The API does not answer, refuses, or answers something else.
    """
    base = address(settings)
    token = settings.api_token.get_secret_value()
    headers = {hdrs.AUTHORIZATION: f"Bearer {token}"} if token else {}
    url = f"{base}/v1/users/{quote(user_id, safe='')}{what}"
    try:
        async with (
            aiohttp.ClientSession(timeout=TIMEOUT, headers=headers) as session,
            session.get(URL(url, encoded=True), params=dict(query or {}), allow_redirects=False) as got,
        ):
            content = await got.content.read(MAX_ANSWER + 1)
            status = got.status
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        reason = str(error) or type(error).__name__
        raise ApiError(
            f"the API at {base} does not answer ({reason}): start `tastestream worker serve`, or name another one "
            "(TASTESTREAM_API_URL)"
        ) from error
    try:
        if status != 200:
            problem = msgspec.json.decode(content, type=ProblemDocument)
            raise ApiError(f"{problem.detail}{_remedy(problem.reason)}")
        return msgspec.json.decode(content, type=answer), content
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ApiError(
            f"{base} answered {status} with something else than the API would: name another address (TASTESTREAM_API_URL)"
        ) from error


def _remedy(reason: str) -> str:
    if reason in ("not_authenticated", "token_expired", "not_permitted"):
        return "; set TASTESTREAM_API_TOKEN to a token with the scope (`tastestream token create`)"
    return ""
