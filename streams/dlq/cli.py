"""The subcommands of `tastestream dlq` and their options."""

from datetime import UTC, datetime
from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated

import typer

from streams.console import USAGE, fail, on_kafka, read, stdout
from streams.times import shown

if TYPE_CHECKING:
    from streams.dead_letters.letter_filter import LetterFilter


def _known_reasons(beginning: str) -> list[str]:
    from streams.dead_letter import REASONS, UNKNOWN

    return sorted(one for one in {*REASONS, UNKNOWN} if one.startswith(beginning))


app = typer.Typer(help="List dead letters, and send their events again.", no_args_is_help=True)

Reasons = Annotated[
    list[str] | None,
    typer.Option(
        "--reason",
        help="Only dead letters of this reason, such as `http_status`; repeatable.",
        show_default=False,
        autocompletion=_known_reasons,
    ),
]
User = Annotated[str | None, typer.Option(help="Only dead letters of this user.", show_default=False)]
Since = Annotated[
    str | None,
    typer.Option(
        help="Only from this time on: RFC 3339, or a duration back from now: 90s, 30m, 2h, 7d.", show_default=False
    ),
]
Until = Annotated[str | None, typer.Option(help="Only before this time, written as `--since`.", show_default=False)]
Limit = Annotated[int | None, typer.Option(help="Only the newest N of these.", metavar="N", min=1, show_default=False)]


@app.command("list", epilog="Example: tastestream dlq list --reason http_status --since 2h")
def dlq_list(
    *,
    reason: Reasons = None,
    user: User = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object a line, with the original's key, value and headers.")
    ] = False,
) -> None:
    """List dead letters, newest last, and count them by reason.

    Times are in UTC, and long ids are shortened; `--json` shortens nothing.
    """
    from streams.dlq.commands import list_as_json, list_letters

    letter_filter = filter_of(reason, user, since, until, limit)
    settings = read()
    on_kafka(
        settings,
        list_as_json(settings, letter_filter) if as_json else list_letters(settings, letter_filter, stdout()),
    )


@app.command("redrive", epilog="Example: tastestream dlq redrive --reason http_status --since 2h --dry-run")
@app.command("replay", hidden=True, epilog="The former name of: tastestream dlq redrive")
def dlq_redrive(
    *,
    reason: Reasons = None,
    user: User = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = None,
    every: Annotated[bool, typer.Option("--all", help="All dead letters, instead of a filter.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be sent, and send nothing.")] = False,
    rate: Annotated[float, typer.Option(help="Maximum number of events per second.", metavar="N", min=0.01)] = 100.0,
    max_attempts: Annotated[
        int, typer.Option(help="Maximum number of times one event is sent again.", metavar="N", min=1)
    ] = 3,
) -> None:
    """Send the events of dead letters again, to the topics that they came from.

    Key, value and headers are the original's.

    Each dead letter is sent once: a note on the dead letter topic says that it
    was sent. An event that fails again becomes a new dead letter, which counts
    the attempts.

    A run that is killed while it sends a dead letter may have sent it without a
    note. The next run sends it once more, and says so. Do not run two at the
    same time: they may send the same dead letters.
    """
    from streams.dead_letters.letter_filter import LetterFilter
    from streams.dlq.commands import redrive_letters

    letter_filter = filter_of(reason, user, since, until, limit)
    filtered = letter_filter != LetterFilter()
    if not filtered and not every:
        fail(
            "dlq redrive needs a filter, such as --reason or --since, or --all. See: tastestream dlq redrive --help",
            USAGE,
        )
    if filtered and every:
        fail("--all means all dead letters: omit it, or omit the filters. See: tastestream dlq redrive --help", USAGE)
    settings = read()
    on_kafka(
        settings,
        redrive_letters(settings, letter_filter, stdout(), max_attempts=max_attempts, rate=rate, dry_run=dry_run),
    )


def filter_of(
    reason: list[str] | None, user: str | None, since: str | None, until: str | None, limit: int | None
) -> "LetterFilter":
    """The filter that the options describe. Ends with one line and exit code 2 if they are wrong."""
    from streams.dead_letters.letter_filter import LetterFilter, parse_time

    for one in reason or ():
        if one not in _known_reasons(""):
            near = get_close_matches(one, _known_reasons(""), n=1)
            known = f"did you mean {near[0]}? " if near else ""
            fail(f"--reason {shown(one)} is no reason; {known}The reasons are {', '.join(_known_reasons(''))}", USAGE)
    now = datetime.now(UTC)
    times: dict[str, datetime | None] = {}
    for name, text in (("since", since), ("until", until)):
        try:
            times[name] = parse_time(text, now=now) if text is not None else None
        except ValueError as error:
            fail(f"--{name} {error}", USAGE)
    first, end = times["since"], times["until"]
    if first and end and first >= end:
        fail(f"--since {since} is not before --until {until}: no dead letter can match", USAGE)
    return LetterFilter(frozenset(reason or ()), user, first, end, limit)
