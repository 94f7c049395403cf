"""A dead letter as a row of a table, for people, and as a line of JSON, for programs. Pure."""

from base64 import b64encode
from collections.abc import Mapping
from typing import Any

import msgspec
from rich.table import Column, Table
from rich.text import Text

from streams.dead_letter import Letter, subject
from streams.text import visible, visible_json

MAX_ID_CHARACTERS = 40  # of a user, an event or a topic in the table; the JSON shortens nothing


def table() -> Table:
    """The table of `dlq list`, without rows."""
    names = ("reason", "field", "user", "event", "attempts")
    when, original = Column("when (UTC)", no_wrap=True), Column("original", no_wrap=True)
    return Table(when, *(Column(name, overflow="fold") for name in names), original, Column("error", overflow="fold"))


def row(letter: Letter, attempts: int) -> list[Text]:
    """The letter as a row of that table. Control characters are escaped: anybody can write to a topic.

    Args:
        letter: The letter.
        attempts: How often its event had been sent again before it failed.
    """
    who = subject(letter)
    origin = letter.origin
    original = f"{_short(origin.topic)}/{origin.partition}/{origin.offset}" if origin else ""
    return [
        Text(f"{letter.at:%Y-%m-%dT%H:%M:%SZ}"),
        Text(visible(letter.reason) or "unknown"),
        Text(_short(letter.field)),
        Text(_short(who.user)),
        Text(_short(who.event_id)),
        Text(str(attempts), justify="right"),
        Text(original),
        Text(visible(letter.error)),
    ]


def counts(reasons: Mapping[str, int]) -> str:
    """The number of letters of each reason, the most frequent first."""
    ordered = sorted(reasons.items(), key=lambda pair: (-pair[1], pair[0]))
    return ", ".join(f"{visible(reason) or 'unknown'} {count:,}" for reason, count in ordered)


def json_line(letter: Letter, attempts: int) -> str:
    """The whole letter as one line of JSON, with its line end.

    Bytes are text if they are UTF-8, else base64. `key_encoding`, `value_encoding` and the `encoding` of a header say
    which: `utf-8`, `base64`, or null if there are no bytes.

    Args:
        letter: The letter.
        attempts: How often its event had been sent again before it failed.
    """
    who = subject(letter)
    key, key_encoding = _as_text(letter.key)
    value, value_encoding = _as_text(letter.value)
    headers: list[dict[str, Any]] = []
    for name, content in letter.headers:
        text, encoding = _as_text(content)
        headers.append({"name": name, "value": text, "encoding": encoding})
    fields = {
        "partition": letter.partition,
        "offset": letter.offset,
        "at": letter.at,
        "reason": letter.reason,
        "field": letter.field,
        "error": letter.error,
        "worker": letter.worker,
        "user": who.user,
        "event_id": who.event_id,
        "attempts": attempts,
        "first_offset": letter.first_offset,
        "truncated": letter.truncated,
        "original": letter.origin._asdict() if letter.origin else None,
        "key": key,
        "key_encoding": key_encoding,
        "value": value,
        "value_encoding": value_encoding,
        "headers": headers,
    }
    return visible_json(msgspec.json.encode(fields).decode()) + "\n"


def _as_text(content: bytes | None) -> tuple[str | None, str | None]:
    if content is None:
        return None, None
    try:
        return content.decode(), "utf-8"
    except UnicodeDecodeError:
        return b64encode(content).decode(), "base64"


def _short(text: str) -> str:
    return visible(text[:MAX_ID_CHARACTERS]) + ("…" if len(text) > MAX_ID_CHARACTERS else "")
