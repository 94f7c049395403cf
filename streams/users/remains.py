"""Where data of an erased user still is, and until when. Pure."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

from streams.kafka.topics import TopicSpec

UNLIMITED = 10 * 365 * 86_400_000  # milliseconds; more is no limit that anybody promises


class Remainder(NamedTuple):
    """A place that still has data of the user."""

    place: str
    what: str
    until: datetime | None  # None: without a limit, or an unknown one
    why: str  # the values that say so


def remainders(
    specs: list[TopicSpec], configs: Mapping[str, Mapping[str, str]], personal: Mapping[str, str], erased_at: datetime
) -> list[Remainder]:
    """Topics that still have data of the user, in the order in which an event meets them.

    A record can be removed when the file that it is in is full or `segment.ms` old, and the retention has passed since; on a
    compacted topic, when the file is `max.compaction.lag.ms` old.

    Args:
        specs: All topics.
        configs: Configuration of those that exist, by name.
        personal: What those with personal data have of a user, by name.
        erased_at: When the user was erased.
    """
    found: list[Remainder] = []
    for spec in specs:
        if spec.name not in personal or spec.name not in configs:
            continue
        names = ("segment.ms", "retention.ms" if spec.cleanup == "delete" else "max.compaction.lag.ms")
        values = {name: _number(configs[spec.name].get(name)) for name in names}
        limited = all(value is not None and 0 <= value < UNLIMITED for value in values.values())
        until = erased_at + timedelta(milliseconds=sum(value or 0 for value in values.values())) if limited else None
        why = ", ".join(f"{name} {_duration(value)}" for name, value in values.items())
        found.append(Remainder(spec.name, personal[spec.name], until, why))
    return found


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.lstrip("-").isdecimal() else None


def _duration(milliseconds: int | None) -> str:
    if milliseconds is None:
        return "unknown"
    if not 0 <= milliseconds < UNLIMITED:
        return "without a limit"
    return str(timedelta(seconds=milliseconds // 1000))
