"""`tastestream lag`: how far the workers are behind, partition by partition, as a table or as JSON."""

import asyncio
import time
from collections.abc import Sequence
from typing import Annotated

import msgspec
import typer
from aiokafka.errors import KafkaError
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from streams.console import on_kafka, read, say, stdout
from streams.exceptions import BrokerUnreachable
from streams.kafka.generations import in_use
from streams.kafka.groups import PAUSE, group_uses
from streams.kafka.lag import GroupLag, PartitionLag, total
from streams.kafka.observing import Observer
from streams.settings import Settings
from streams.text import visible

PATIENCE = 5.0  # seconds for a coordinator that does not answer
ROUNDS = 20  # requests to a broker for the times of first records, at most
DAY, HOUR, MINUTE = 86_400, 3600, 60  # seconds

app = typer.Typer(rich_markup_mode="rich")


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What `tastestream lag --json` prints."""

    at: float  # seconds since the epoch
    events: int | None
    seconds: float | None
    groups: list[GroupLag]


@app.command(epilog="Example: tastestream lag")
def lag(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")] = False,
) -> None:
    """Show how far the workers are behind: unfinished events of each partition.

    It compares what each group has committed with the ends of its topic, so
    it counts events in partitions that no worker reads, too. `age` is the age
    of the oldest unfinished event, by the time at which it was sent.

    It joins no group and changes nothing.
    """
    settings = read()
    groups = on_kafka(settings, _groups(settings))
    if as_json:
        events, seconds = total(groups)
        report = Report(at=time.time(), events=events, seconds=seconds, groups=groups)
        typer.echo(msgspec.json.format(msgspec.json.encode(report), indent=2))
        return
    out = stdout()
    for group in groups:
        show_group(out, group)
    say(out, summary(groups))


async def _groups(settings: Settings) -> list[GroupLag]:
    """Look, and once more after a moment while a coordinator does not answer: a broker that has just started loads its groups."""
    settings = await in_use(settings, patient=False)
    async with Observer(settings) as observer:
        try:
            deadline = time.monotonic() + PATIENCE
            while True:
                found = (await observer.look(group_uses(settings), rounds=ROUNDS)).groups
                if all(group.state or not group.partitions for group in found) or time.monotonic() > deadline:
                    return found
                await asyncio.sleep(PAUSE)
        except KafkaError as error:
            raise BrokerUnreachable(f"the broker at {settings.broker} does not answer: {error!r}") from error


def show_group(out: Console, group: GroupLag) -> None:
    """Print the table of one group."""
    members = f"{group.members} worker{'' if group.members == 1 else 's'}"
    say(out, visible(f"{group.topic}, read by {group.group}: {members}, {group.state or 'state unknown'}"))
    if not group.partitions:
        say(out, "  there is no such topic; `tastestream topics` creates it")
        return
    columns = [Column(name, justify="right", no_wrap=True) for name in ("partition", "events", "age")]
    table = Table(*columns, Column("worker", overflow="fold"))
    for one in group.partitions:
        table.add_row(str(one.partition), count(one.events), age(one.seconds), owner(one, group))
    out.print(table)


def owner(one: PartitionLag, group: GroupLag) -> Text:
    """Who has a partition."""
    if one.owner is not None:
        return Text(visible(f"{one.owner.client} at {one.owner.host}"))
    if one.partition in group.unowned:
        return Text("none", "red" if one.events else "yellow")
    return Text("unknown", "dim")


def count(events: int | None) -> str:
    """A number of events."""
    return "unknown" if events is None else f"{events:,}"


def age(seconds: float | None) -> str:
    """A duration in its largest two units; "-" if there is nothing unfinished."""
    if seconds is None:
        return "unknown"
    if not seconds:
        return "-"
    whole = int(seconds)
    for unit, below, name, name_below in ((DAY, HOUR, "d", "h"), (HOUR, MINUTE, "h", "m"), (MINUTE, 1, "m", "s")):
        if whole >= unit:
            return f"{whole // unit} {name} {whole % unit // below} {name_below}"
    return f"{seconds:.1f} s"


def summary(groups: Sequence[GroupLag]) -> str:
    """All groups in one line, and what to do about partitions that nobody reads."""
    events, seconds = total(groups)
    behind = sum(bool(one.events) for group in groups for one in group.partitions)
    if events is None:
        line = "the lag of some partitions is unknown"
    elif not events:
        line = "no event is unfinished"
    else:
        line = (
            f"{events:,} unfinished event{'' if events == 1 else 's'} in {behind} partition{'' if behind == 1 else 's'}"
        )
        line += "" if seconds is None else f", the oldest {age(seconds)} old"
    waiting = [
        f"{group.topic}/{one.partition}"
        for group in groups
        for one in group.partitions
        if one.events and one.partition in group.unowned
    ]
    if waiting:
        line += f"; no worker reads {', '.join(waiting[:5])}{' and others' if len(waiting) > 5 else ''}"
    return line
