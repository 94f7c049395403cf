"""Reads the settings, and says in one line what is wrong with one.

A value comes, in this order, from an environment variable `TASTESTREAM_<NAME>`, a `.env` file in the working folder,
the TOML file given as `--config`, or the default. An empty variable counts as not set.
"""

import difflib
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dotenv import dotenv_values
from pydantic import ValidationError
from pydantic_settings import SettingsConfigDict

from streams.exceptions import StartupError
from streams.settings.settings import PREFIX, Settings

MAY_HOLD_A_PASSWORD = frozenset({"broker", "sasl_password", "fetch_proxy"})  # not repeated in a message

SERVICE_LINK = re.compile(r"_SERVICE_(HOST|PORT(_\w+)?)\Z|_PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?\Z")
"""Variables that Kubernetes sets for each Service; those of a Service called tastestream begin with our prefix."""


def read_settings(config: Path | None = None, **overrides: Any) -> Settings:
    """Settings from the environment, `.env`, `config` and the defaults; `overrides` beat them all.

    Raises:
        StartupError: A name is unknown, or a value is wrong. The message is one line, which names the setting, its
            value and what is wrong with it.
    """
    _check_names(config)

    class FromFile(Settings):
        model_config = SettingsConfigDict(toml_file=config)

    try:
        return FromFile(**overrides)
    except ValidationError as error:
        first = error.errors()[0]
        message = first["msg"].removeprefix("Value error, ")
        if not first["loc"]:
            raise StartupError(f"settings: {message}") from error
        name = str(first["loc"][0])  # what follows is the place within the value
        given = "" if name in MAY_HOLD_A_PASSWORD else f" is {first['input']!r}"
        raise StartupError(f"setting {_variable(name)}{given}: {message}") from error


def _variable(name: str) -> str:
    return PREFIX + name.upper()


def _check_names(config: Path | None) -> None:
    """Raises StartupError if one of the sources names a setting that does not exist."""
    if config:
        unknown = sorted(set(_toml(config)) - set(Settings.model_fields))
        if unknown:
            raise StartupError(f"--config {config}: unknown setting {_with_nearest(unknown, str)}")
    for where, variables in (("environment", os.environ), (".env", _dotenv())):
        unknown = sorted(
            name
            for name, value in variables.items()
            if name.upper().startswith(PREFIX)
            and name[len(PREFIX) :].lower() not in Settings.model_fields
            and not _is_service_link(name, value or "")
        )
        if unknown:
            raise StartupError(f"{where}: unknown setting {_with_nearest(unknown, _variable)}")


def _toml(config: Path) -> dict[str, Any]:
    if not config.exists():
        raise StartupError(f"--config {config}: there is no such file")
    try:
        return tomllib.loads(config.read_text("utf-8"))
    except OSError as error:
        raise StartupError(f"--config {config}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise StartupError(f"--config {config}: not a TOML file: {error}") from error


def _dotenv() -> Mapping[str, str | None]:
    path = Path(".env")
    if not path.is_file():
        return {}
    try:
        return dotenv_values(path, encoding="utf-8-sig")
    except OSError as error:
        raise StartupError(f".env in {Path.cwd()}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise StartupError(f".env in {Path.cwd()}: not a UTF-8 file: {error}") from error


def _is_service_link(name: str, value: str) -> bool:
    return bool(SERVICE_LINK.search(name)) or (
        name.endswith("_PORT") and value.startswith(("tcp://", "udp://", "sctp://"))
    )


def _with_nearest(names: list[str], spelled: Callable[[str], str]) -> str:
    """The names, each with the known name that is most like it, spelled as this source spells it."""
    described: list[str] = []
    for name in names:
        nearest = difflib.get_close_matches(name.lower().removeprefix(PREFIX.lower()), Settings.model_fields, n=1)
        described.append(f"{name} (did you mean {spelled(nearest[0])}?)" if nearest else name)
    return f"{', '.join(described)}; `tastestream settings --defaults` lists all settings"
