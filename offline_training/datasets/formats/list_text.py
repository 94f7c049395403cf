"""Reads a list that was written as text: by JSON, by Python (`['a', 'b']`) or by numpy (`['a' 'b']`). Nothing is evaluated. Pure."""

import json
import re
from typing import Any

LONGEST = 65_536  # characters
BEGINNING = re.compile(r"""\s*(?:array\()?[\[(]\s*(?:(?:array\()?[\[(\])'"]|u['"]|(?:None|null|nan|NaN)\b)""")
TOKEN = re.compile(
    r"""(?P<open>(?:array)?\(|\[)|(?P<close>[\])])|u?(?P<text>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
    r"""|(?P<between>[\s,]+|(?:None|null|nan|NaN|dtype=\w+)\b)""",
    re.DOTALL,
)
ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U(000[0-9a-fA-F]{5}|0010[0-9a-fA-F]{4})|(.))", re.DOTALL)
CLOSING = {"[": "]", "(": ")", "array(": ")"}
DEPTH = 6  # lists of lists, each in the brackets of an array


def begins_like_list(text: str) -> bool:
    """Whether text begins like a list of texts or of lists. A name such as `[Sale] Hats` does not."""
    return BEGINNING.match(text) is not None


def list_in(text: str) -> list[Any]:
    """Read a list of texts, or of lists of texts. Values that are missing (None, null, nan) are left out.

    Raises:
        ValueError: the text is no such list, or too long.
    """
    if len(text) > LONGEST:
        raise ValueError("too long for a list")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = _python_list(text.strip())
    if not isinstance(found, list):
        raise ValueError("not a list")  # noqa: TRY004  (one error for all that is no list)
    return found


def _python_list(text: str) -> list[Any]:
    stack: list[list[Any]] = [[]]
    brackets: list[str] = []
    at = 0
    while at < len(text):
        token = TOKEN.match(text, at)
        if token is None or (at and not brackets):
            raise ValueError(f"unexpected {text[at : at + 10]!r}")
        at = token.end()
        if token["open"]:
            brackets.append(token["open"])
            if len(brackets) > DEPTH:
                raise ValueError("too deep")
            if token["open"] != "array(":
                stack.append([])
        elif token["close"]:
            if not brackets or CLOSING[brackets[-1]] != token["close"]:
                raise ValueError("a bracket too many")
            if brackets.pop() != "array(":
                inner = stack.pop()
                stack[-1].append(inner)
        elif token["text"]:
            stack[-1].append(ESCAPE.sub(_unescaped, token["text"][1:-1]))
    if brackets or len(stack[0]) != 1:
        raise ValueError("a bracket is missing")
    return stack[0][0]


def _unescaped(found: re.Match[str]) -> str:
    code = found[1] or found[2] or found[3]
    return chr(int(code, 16)) if code else {"n": "\n", "t": "\t", "r": "\r", "\n": ""}.get(found[4], found[4])
