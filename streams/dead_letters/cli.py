"""The subcommands of `tastestream dlq`."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from streams.console import USAGE, fail, on_kafka, read, stdout

if TYPE_CHECKING:
    from streams.dead_letters.selection import LetterFilter

app = typer.Typer(help="Dead letters: look at them, and send their events again.", no_args_is_help=True)

Reasons = Annotated[
    list[str] | None,
    typer.Option("--reason", help="Only of this reason, as `http_status`; may be given again.", show_default=False),
]
User = Annotated[str | None, typer.Option(help="Only of this user.", show_default=False)]
Since = Annotated[
    str | None,
    typer.Option(help="Only from then on: RFC 3339, or back from now, as 90s, 30m, 2h, 7d.", show_default=False),
]
Until = Annotated[str | None, typer.Option(help="Only before then; as `--since`.", show_default=False)]
Limit = Annotated[int | None, typer.Option(help="Only the newest N of those.", metavar="N", min=1, show_default=False)]


@app.command("list", epilog="Example: tastestream dlq list --reason http_status --since 2h")
def dlq_list(
    *,
    reason: Reasons = None,
    user: User = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object a line, with the original's key, value and headers.")
    ] = False,
) -> None:
    """List the dead letters, newest last, and count them by reason.

    A table, in UTC, that shortens long ids; `--json` shortens nothing.
    """
    from streams.dead_letters.commands import list_as_json, list_letters

    selection = select(reason, user, since, until, limit)
    settings = read()
    on_kafka(settings, list_as_json(settings, selection) if as_json else list_letters(settings, selection, stdout()))


@app.command("replay", epilog="Example: tastestream dlq replay --reason http_status --since 2h --dry-run")
def dlq_replay(
    *,
    reason: Reasons = None,
    user: User = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = None,
    every: Annotated[bool, typer.Option("--all", help="All dead letters, instead of a filter.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be sent, and send nothing.")] = False,
    rate: Annotated[float, typer.Option(help="Events a second at most.", min=0.01)] = 100.0,
    max_attempts: Annotated[int, typer.Option(help="Times that one event is sent again at most.", min=1)] = 3,
) -> None:
    """Send the events of dead letters again, to the topics that they came from.

    Key, value and headers are the original's; one more header, `tastestream-attempts`, counts how often it was sent again.

    An event that fails again becomes a new dead letter. That one stands for it from then on: older ones are left alone.

    Nothing else is remembered: an event that has succeeded is sent again if you select its dead letter again. That changes
    no bag, but costs the work; `--since` and `--until` keep such letters out.
    """
    from streams.dead_letters.commands import replay_letters
    from streams.dead_letters.selection import LetterFilter

    selection = select(reason, user, since, until, limit)
    filtered = selection != LetterFilter()
    if not filtered and not every:
        fail(
            "dlq replay needs a filter, such as --reason or --since, or --all. See: tastestream dlq replay --help",
            USAGE,
        )
    if filtered and every:
        fail("--all is every dead letter: leave it out, or the filters. See: tastestream dlq replay --help", USAGE)
    settings = read()
    on_kafka(
        settings,
        replay_letters(settings, selection, stdout(), max_attempts=max_attempts, rate=rate, dry_run=dry_run),
    )


def select(
    reason: list[str] | None, user: str | None, since: str | None, until: str | None, limit: int | None
) -> "LetterFilter":
    """The selection that the options mean. Ends with one line where they mean none."""
    from streams.dead_letters.selection import LetterFilter, moment

    now = datetime.now(UTC)
    moments: dict[str, datetime | None] = {}
    for name, text in (("since", since), ("until", until)):
        try:
            moments[name] = moment(text, now=now) if text is not None else None
        except ValueError as error:
            fail(f"--{name} {error}", USAGE)
    first, end = moments["since"], moments["until"]
    if first and end and first >= end:
        fail(f"--since {since} is not before --until {until}: no dead letter can match", USAGE)
    return LetterFilter(frozenset(reason or ()), user, first, end, limit)
