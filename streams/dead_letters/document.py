"""A dead letter as JSON, for programs: everything that is known of it, and its bytes. Pure."""

from base64 import b64encode
from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta, Struct

from streams.dead_letter import Letter, subject

Encoding = Annotated[
    Literal["utf-8", "base64"] | None, Meta(description="how the bytes are written; null if there are none")
]


class OriginalPlace(Struct, frozen=True):
    """Where the original of a letter is."""

    topic: str
    partition: int
    offset: int


class LetterHeader(Struct, frozen=True):
    """A header of the original."""

    name: str
    value: str | None
    encoding: Encoding


class LetterDocument(Struct, frozen=True, kw_only=True):
    """A dead letter. Bytes are text if they are UTF-8, else base64."""

    partition: Annotated[int, Meta(ge=0, description="of the dead letter topic, as `offset` is")]
    offset: Annotated[int, Meta(ge=0)]
    at: Annotated[datetime, Meta(tz=True, description="when the worker made it")]
    reason: Annotated[str, Meta(description="short and stable")]
    field: Annotated[str, Meta(description='the field at fault; "" for the whole event')]
    error: Annotated[str, Meta(description="one sentence for people")]
    worker: Annotated[str, Meta(description="kind of the worker that made it")]
    user: str
    event_id: str
    attempts: (
        Annotated[
            int, Meta(ge=0, description="how often the event had been sent again before it failed; null if not counted")
        ]
        | None
    )
    first_offset: (
        Annotated[int, Meta(description="of the offsets that it stands for, if it holds an unreadable batch")] | None
    )
    truncated: (
        Annotated[int, Meta(description="size of the original's value, if this is only its first part, bytes")] | None
    )
    original: OriginalPlace | None
    key: str | None
    key_encoding: Encoding
    value: str | None
    value_encoding: Encoding
    headers: list[LetterHeader]


def document_of(letter: Letter, attempts: int | None) -> LetterDocument:
    """The document of a letter. `attempts`: how often its event had been sent again before it failed; None if not counted."""
    who = subject(letter)
    key, key_encoding = _as_text(letter.key)
    value, value_encoding = _as_text(letter.value)
    return LetterDocument(
        partition=letter.partition,
        offset=letter.offset,
        at=letter.at,
        reason=letter.reason,
        field=letter.field,
        error=letter.error,
        worker=letter.worker,
        user=who.user,
        event_id=who.event_id,
        attempts=attempts,
        first_offset=letter.first_offset,
        truncated=letter.truncated,
        original=OriginalPlace(*letter.origin) if letter.origin else None,
        key=key,
        key_encoding=key_encoding,
        value=value,
        value_encoding=value_encoding,
        headers=[LetterHeader(name, *_as_text(content)) for name, content in letter.headers],
    )


def _as_text(content: bytes | None) -> tuple[str | None, Encoding]:
    if content is None:
        return None, None
    try:
        return content.decode(), "utf-8"
    except UnicodeDecodeError:
        return b64encode(content).decode(), "base64"
