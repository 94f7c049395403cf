"""The encoding of a text file: what its first bytes say, or what the user names. A byte that is not of the encoding is kept apart."""

import codecs

from offline_training.datasets.records import UNDECODED, DatasetError
from streams.times import shown

MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, whose mark it begins with
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
KEEP_APART = "tastestream-undecoded"
"""An error handler: each byte that cannot be decoded becomes half of a surrogate pair, which `records.unpaired` finds.

Python's own `surrogateescape` fails on bytes below 128, such as those of a UTF-16 file that is cut off.
"""


def _kept_apart(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "".join(chr(UNDECODED + byte) for byte in error.object[error.start : error.end]), error.end


codecs.register_error(KEEP_APART, _kept_apart)


def checked_encoding(name: str) -> str:
    """Check the name of an encoding. Raises DatasetError when there is no such encoding of text."""
    try:
        b"a\n".decode(name, KEEP_APART)
        codecs.getincrementaldecoder(name)(KEEP_APART).decode(b"a\xe9\n", final=True)
    except (LookupError, ValueError):
        raise DatasetError(
            f"--encoding {shown(name)}: expected an encoding such as latin-1, cp1251 or utf-16-le"
        ) from None
    return name


def encoding_of(beginning: bytes, declared: str | None) -> str:
    """The encoding of a file: that of its byte order mark, else the declared one, else UTF-8.

    Of UTF-16 without a mark, the zero in the first character tells the byte order, as in RFC 4627, section 3.
    """
    marked = next((name for mark, name in MARKS.items() if beginning.startswith(mark)), None)
    if marked or declared:
        return marked or declared or ""
    zeros = [byte == 0 for byte in beginning[:4]]
    if zeros[:2] == [False, True]:
        return "utf-16-le"
    return "utf-16-be" if zeros[:2] == [True, False] else "utf-8"
