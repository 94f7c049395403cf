"""How the value of a setting is written as text: with or without quotes, as a list, as weights, as a line of `.env`. Pure."""

import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator, SecretStr
from pydantic_settings import NoDecode

T = TypeVar("T")

JSON_LIST = re.compile(r"""\[\s*(["'].*|[\d,\s]*\])""", re.DOTALL)  # and not `[::1]:9092`, a broker
NEEDS_NO_QUOTES = re.compile(r"[\w.,:/=+@%*-]*")


def unquoted(text: str) -> str:
    """The text without the white space and the pair of quotes around it.

    `docker run --env-file` passes quotes on to the process, and a file with Windows line ends leaves a carriage return.
    """
    bare = text.strip()
    if len(bare) >= 2 and bare[0] == bare[-1] and bare[0] in "'\"":
        return bare[1:-1]
    return bare or text


def parts(value: Any) -> Any:
    """The parts of a list, which is written with commas (`a, b`) or as JSON (`["a", "b"]`). Anything but text stays as it is.

    Raises:
        ValueError: The text begins like a JSON list and is none.
    """
    if not isinstance(value, str):
        return value
    if JSON_LIST.fullmatch(value.strip()):
        return _from_json(value, list, '["a", "b"], or a, b')
    return [part.strip() for part in value.split(",") if part.strip()]


Listed = Annotated[tuple[T, ...], NoDecode, BeforeValidator(parts)]
"""The type of a setting that is a list, such as `Listed[int]`."""


def pairs(value: Any) -> Any:
    """Names and numbers, written as `purchase=1, cart=.6` or as a JSON object. Anything but text stays as it is.

    Raises:
        ValueError: The text begins like a JSON object and is none.
    """
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("{"):
        return _from_json(value, dict, '{"a": 1, "b": 0.5}, or a=1, b=0.5')
    split = [part.partition("=") for part in value.split(",") if part.strip()]
    return {name.strip(): number.strip() for name, _, number in split}


def as_text(value: Any) -> str:
    """The value of a setting as one would write it in `.env`. A secret is hidden; "" stands for unset.

    Reading the text again gives the same value, except for a secret, and for `${NAME}`, which `.env` expands.
    """
    if value is None:
        text = ""
    elif isinstance(value, SecretStr):
        text = "**********" if value.get_secret_value() else ""
    elif isinstance(value, bool):
        text = str(value).lower()
    elif isinstance(value, tuple):
        text = ",".join(map(str, value))
    elif isinstance(value, Mapping):
        text = ",".join(f"{name}={number:g}" for name, number in value.items())
    elif isinstance(value, float):
        text = f"{value:.15g}"
    else:
        text = str(value)
    if NEEDS_NO_QUOTES.fullmatch(text):
        return text
    return f'"{text}"' if "'" in text else f"'{text}'"


def _from_json(text: str, kind: type, example: str) -> Any:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not valid JSON ({error}); write {example}") from error
    if not isinstance(found, kind):
        raise ValueError(f"write {example}")  # noqa: TRY004 -- pydantic turns a ValueError into a message
    return found
