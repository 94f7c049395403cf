"""`tastestream replay`: its options, and what is wrong with them in one line."""

import re
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from model.exceptions import TastestreamError
from streams.console import USAGE, fail, read, stdout, window
from streams.exceptions import BrokerUnreachable
from streams.runtime.process import CRASHED, UNAVAILABLE

app = typer.Typer(rich_markup_mode="rich")
compare_app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)


class ReplayCommand(TyperCommand):
    """`tastestream replay DATASET`, but for the word `compare`, which is another command: `./compare` is a folder of that name."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        if args[:1] == ["compare"]:
            other: Any = typer.main.get_command(compare_app)
            return other.make_context(f"{info_name} compare", args[1:], parent, **extra)
        return super().make_context(info_name, args, parent, **extra)


UNITS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
TYPES = ("view", "cart", "purchase", "return")


@app.command(cls=ReplayCommand, epilog="Example: tastestream replay data/shop --users 0.1 --out runs/shop --check")
def replay(
    dataset: Annotated[Path, typer.Argument(help="What `tastestream dataset` wrote.", file_okay=False)],
    *,
    out: Annotated[
        Path, typer.Option(help="The run's folder: results, report, and where it goes on.", file_okay=False)
    ],
    users: Annotated[float, typer.Option(help="Share of the users, chosen by their names.", min=0.0, max=1.0)] = 1.0,
    limit: Annotated[
        int | None, typer.Option(help="Only the first N events.", metavar="N", min=1, show_default=False)
    ] = None,
    since: Annotated[
        str | None, typer.Option("--from", help="Only events of this time or later: 2020-09-01.", show_default=False)
    ] = None,
    until: Annotated[str | None, typer.Option(help="Only events before this time.", show_default=False)] = None,
    speed: Annotated[
        str | None,
        typer.Option(help="Event time against the clock, 3600x.", show_default="as fast as answers come"),
    ] = None,
    rate: Annotated[
        str | None, typer.Option(help="Events at most, 500/s.", show_default="as fast as answers come")
    ] = None,
    lead: Annotated[int, typer.Option(help="Events without an answer at most.", min=1)] = 256,
    serve_on: Annotated[
        str,
        typer.Option(
            metavar="HOST:PORT",
            help="Where pictures that are files are served to the workers, which need FETCH_ALLOW_NETWORKS for it. "
            "A fixed port lets a second run find their embeddings in the cache; 0 is any.",
        ),
    ] = "127.0.0.1:0",
    targets: Annotated[str, typer.Option(help="Types of events that count, separated by commas.")] = "purchase",
    delay: Annotated[
        str, typer.Option(help="How much older than a target its recommendation is at least: 90m, 7d.")
    ] = "",
    k: Annotated[
        list[int] | None,
        typer.Option(help="Categories that are looked at; may be given several times.", show_default="1, 5, 10"),
    ] = None,
    tag: Annotated[
        str,
        typer.Option(
            help="Stands before users' names, so that a replay meets no bag of an earlier one on the same topics."
        ),
    ] = "",
    beside: Annotated[
        list[Path] | None,
        typer.Option(
            help="Another bundle, measured at the same targets without being served: computed from the events; may be given "
            "several times.",
            file_okay=False,
            show_default=False,
        ),
    ] = None,
    check: Annotated[
        bool,
        typer.Option("--check", help="Compute all answers again without Kafka, and say whether they are the same."),
    ] = False,
) -> None:
    """Play a data set as a stream of events, and measure the recommendations as they stood before each purchase.

    Both workers have to run, with this command's settings: it creates topics that are missing, and waits for a broker that is away.

    Ctrl-C or SIGTERM stop it; the same command again goes on where it was. When all is played it measures again, and plays nothing.

    [bold]tastestream replay compare RUN RUN ...[/bold] puts finished runs side by side; it has a --help of its own.

    Exit code 0: played and measured; 1: something failed, or --check found a difference; 69: no broker; 130: stopped.
    """
    from offline_training.replay.commands import run_replay
    from offline_training.replay.measuring import ReplayOptions
    from offline_training.replay.pacing import Pace
    from offline_training.replay.prequential import Rules
    from offline_training.replay.source import Selection

    host, port = _address(serve_on)
    kinds = frozenset(part.strip() for part in targets.split(",") if part.strip())
    if not kinds or not kinds <= set(TYPES):
        fail(f"--targets {targets!r}: expected {', '.join(TYPES)}, separated by commas", USAGE)
    if not users:
        fail("--users 0: nobody is left; 0.1 is a tenth of the users", USAGE)
    first, end = window(since, until)
    options = ReplayOptions(
        dataset=dataset,
        out=out,
        selection=Selection(users, limit, first, end),
        rules=Rules(kinds, _duration(delay), tuple(sorted(set(k or (1, 5, 10))))),
        pace=Pace(_number("--speed", speed, "3600x"), _number("--rate", rate, "500/s")),
        lead=lead,
        host=host,
        port=port,
        tag=tag,
        check=check,
        delay=delay,
        beside=tuple(beside or ()),
    )
    if options.rules.ks[0] < 1:
        fail(f"--k {options.rules.ks[0]}: expected 1 or more", USAGE)
    settings = read()
    try:
        code = run_replay(settings, options, stdout())
    except BrokerUnreachable as error:
        fail(f"{error}; run the same command again to go on", UNAVAILABLE)
    except TastestreamError as error:
        fail(str(error), CRASHED)
    raise typer.Exit(code)


@compare_app.command(epilog="Example: tastestream replay compare runs/shop runs/other --out runs/compared")
def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(
            help="Folders of finished replays (their --out), or results.json in them; two or more.",
            metavar="RUN",
        ),
    ],
    *,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for compare.html, compare.md and compare.json.", file_okay=False, show_default=False),
    ] = None,
) -> None:
    """Put finished replays of the same events side by side: their figures, and how far each is ahead of the first.

    The stream, the selection of users and times, and the rules have to be the same.

    Exit code 0: compared; 2: the runs are none, or not comparable.
    """
    from offline_training.replay.commands import run_compare

    if len(runs) < 2:
        fail("replay compare: expected two runs or more, found one", USAGE)
    try:
        run_compare(runs, out, stdout())
    except TastestreamError as error:
        fail(str(error), USAGE)


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdigit() or int(port) > 65535 or host in {"0.0.0.0", "::"}:  # noqa: S104 -- refused
        fail(
            f"--serve-on {text!r}: expected HOST:PORT, such as 127.0.0.1:8080; workers call it, so HOST is one machine's",
            USAGE,
        )
    return host, int(port)


def _duration(text: str) -> int:
    """Milliseconds."""
    if not text:
        return 0
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", text.strip())
    if not found:
        fail(f"--delay {text!r}: expected a number and ms, s, m, h or d, such as 90m or 7d", USAGE)
    return round(float(found[1]) * UNITS[found[2]])


def _number(option: str, text: str | None, example: str) -> float | None:
    from offline_training.replay.pacing import parse_rate, parse_speed

    if text is None:
        return None
    try:
        return parse_speed(text) if option == "--speed" else parse_rate(text)
    except ValueError:
        fail(f"{option} {text!r}: expected a positive number such as {example}", USAGE)
