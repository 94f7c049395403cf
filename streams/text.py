"""Text of strangers: which characters ids and URLs may hold, what it takes, and how it is shown on a line of output. Pure."""

import re

UNSAFE_PATTERN = r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]"
"""Control characters (C0, DEL, C1), line and paragraph separators, and the controls that reorder text (bidirectional).

A regular expression of JSON Schema too, which has no half surrogate pairs: there they are not JSON.
"""

UNSAFE = re.compile(rf"{UNSAFE_PATTERN}|[\ud800-\udfff]")


WIDE_CHARACTER = 8  # bytes of a character in a text that is not ASCII, at most: 4, and 4 of its UTF-8


def memory_of(text: str) -> int:
    """The memory of the characters of a text at most, bytes, without the object around them."""
    return len(text) * (1 if text.isascii() else WIDE_CHARACTER)


def visible(text: object) -> str:
    """The text on one line, with every character escaped that is not printable: `\\n`, `\\x1b`, `\\u202e`."""
    line = str(text)
    if line.isprintable():
        return line
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)


def visible_json(document: str) -> str:
    """The same JSON with every control character escaped as JSON does. It may hold line ends, as an indented document does."""
    return re.sub(UNSAFE, lambda found: found[0] if found[0] == "\n" else f"\\u{ord(found[0]):04x}", document)
