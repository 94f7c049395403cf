"""What a check says. Pure."""

from dataclasses import dataclass
from typing import Literal

from rich.text import Text

from streams.text import visible

Level = Literal["ok", "warn", "fail"]
STYLES: dict[Level, str] = {"ok": "green", "warn": "yellow", "fail": "red"}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    check: str  # what was looked at, in a word or two
    level: Level
    fact: str  # one sentence
    fix: str = ""  # what to do; "" if nothing has to be done


def ok(check: str, fact: str) -> Finding:
    """All is well."""
    return Finding(check, "ok", fact)


def warn(check: str, fact: str, fix: str) -> Finding:
    """It works, but not as it should."""
    return Finding(check, "warn", fact, fix)


def fail(check: str, fact: str, fix: str) -> Finding:
    """It does not work."""
    return Finding(check, "fail", fact, fix)


def lines(finding: Finding) -> list[Text]:
    """A finding for people: the fact, and the fix below it."""
    first = Text.assemble(
        (f"{finding.level:<5}", STYLES[finding.level]), (f"{finding.check:<12} ", "bold"), visible(finding.fact)
    )
    return [first, Text(f"     fix: {visible(finding.fix)}")] if finding.fix else [first]
