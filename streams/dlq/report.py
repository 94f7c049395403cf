"""A dead letter as a few lines, for people, and as a line of JSON, for programs. Pure."""

from collections.abc import Mapping

import msgspec
from rich.text import Text

from streams.dead_letter import UNKNOWN, Letter, subject
from streams.dead_letters.document import document_of
from streams.text import visible, visible_json

MAX_ID_CHARACTERS = 40  # of a user, an event or a topic for people; the JSON shortens nothing


def record(letter: Letter, attempts: int) -> list[Text]:
    """The letter for people: when, why and whose on the first line, then the error, then where the event comes from.

    Control characters are escaped: anybody can write to a topic.

    Args:
        letter: The letter.
        attempts: How often its event had been sent again before it failed.
    """
    who = subject(letter)
    about = " ".join(part for part in (_short(who.user), _short(who.event_id)) if part)
    head = Text.assemble(
        f"{letter.at:%Y-%m-%d %H:%M:%SZ}  ", (visible(letter.reason) or UNKNOWN, "bold"), f"  {about}" if about else ""
    )
    origin = letter.origin
    lines = [
        visible(letter.error),
        f"field {_short(letter.field)}" if letter.field else "",
        f"from {_short(origin.topic)}/{origin.partition}/{origin.offset}" if origin else "",
        f"sent again {attempts} time{'' if attempts == 1 else 's'} before" if attempts else "",
    ]
    error, *rest = lines
    details = ", ".join(part for part in rest if part)
    return [head, *(Text(line) for line in (error, details) if line)]


def counts(reasons: Mapping[str, int]) -> str:
    """The number of letters of each reason, the most frequent first."""
    ordered = sorted(reasons.items(), key=lambda pair: (-pair[1], pair[0]))
    return ", ".join(f"{visible(reason) or UNKNOWN} {count:,}" for reason, count in ordered)


def json_line(letter: Letter, attempts: int) -> str:
    """The whole letter as one line of JSON, with its line end. `attempts`: as in a row."""
    return visible_json(msgspec.json.encode(document_of(letter, attempts)).decode()) + "\n"


def _short(text: str) -> str:
    return visible(text[:MAX_ID_CHARACTERS]) + ("…" if len(text) > MAX_ID_CHARACTERS else "")
