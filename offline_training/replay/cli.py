"""`tastestream replay`: the options, and one-line errors for invalid ones."""

import re
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from model.exceptions import TastestreamError
from offline_training.console import Paper
from streams.console import USAGE, fail, read, stdout, window
from streams.exceptions import BrokerUnreachable
from streams.runtime.process import CRASHED, UNAVAILABLE
from streams.times import shown

app = typer.Typer(add_completion=False, rich_markup_mode="rich")
compare_app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)


class ReplayCommand(TyperCommand):
    """`tastestream replay DATASET`. The word `compare` runs another command; `./compare` is a data set of that name."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        if args[:1] == ["compare"]:
            other: Any = typer.main.get_command(compare_app)
            return other.make_context(f"{info_name} compare", args[1:], parent, **extra)
        return super().make_context(info_name, args, parent, **extra)


UNITS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
TYPES = ("view", "cart", "purchase", "return")


@app.command(cls=ReplayCommand, epilog="Example: tastestream replay data/shop --users 0.1 --out runs/shop --check")
def replay(
    dataset: Annotated[Path, typer.Argument(help="Folder that `tastestream dataset` wrote.", file_okay=False)],
    *,
    out: Annotated[
        Path,
        typer.Option(
            help="Folder of the run: answers, results and reports. An interrupted run resumes from it.", file_okay=False
        ),
    ],
    users: Annotated[
        float, typer.Option(help="Share of the users to play, chosen by a hash of their names.", min=0.0, max=1.0)
    ] = 1.0,
    limit: Annotated[
        int | None,
        typer.Option(help="Play only the first N events.", metavar="N", min=1, max=10**12, show_default=False),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option("--from", help="Play only events at or after this time: 2020-09-01.", show_default=False),
    ] = None,
    until: Annotated[str | None, typer.Option(help="Play only events before this time.", show_default=False)] = None,
    speed: Annotated[
        str | None,
        typer.Option(help="Factor of event time to real time, such as 3600x.", show_default="as fast as answers come"),
    ] = None,
    rate: Annotated[
        str | None, typer.Option(help="Maximum rate of events, such as 500/s.", show_default="as fast as answers come")
    ] = None,
    lead: Annotated[int, typer.Option(help="Maximum number of unanswered events.", min=1, max=1_000_000)] = 256,
    serve_on: Annotated[
        str,
        typer.Option(
            metavar="HOST:PORT",
            help="Address on which local pictures are served to the workers, whose FETCH_ALLOW_NETWORKS must allow it. "
            "Port 0 is any free port; with a fixed port, a second run finds the embeddings in the workers' cache.",
        ),
    ] = "127.0.0.1:0",
    targets: Annotated[str, typer.Option(help="Event types to measure at, separated by commas.")] = "purchase",
    measured_users: Annotated[
        Path | None,
        typer.Option(
            help="File of users, one a line: only their targets are measured. What other users took counts for popularity and the "
            "trends.",
            dir_okay=False,
            show_default="all users",
        ),
    ] = None,
    delay: Annotated[str, typer.Option(help="Minimum age of a recommendation at its target, such as 90m or 7d.")] = "",
    k: Annotated[
        list[int] | None,
        typer.Option(
            help="Number of best categories that the figures look at. Repeatable.",
            min=1,
            max=1000,
            show_default="1, 5, 10",
        ),
    ] = None,
    tag: Annotated[
        str,
        typer.Option(
            help="Prefix of user ids. Use a new one to keep a replay apart from earlier ones on the same topics."
        ),
    ] = "",
    items: Annotated[
        bool,
        typer.Option(
            "--items",
            help="Also measure recommended items before each purchase: hit@12, MAP@12 and recall@100, beside what was popular, what "
            "others bought, and the nearest picture. The items are ranked without the workers, some hundredths of a second for each "
            "user and time: name few users with --measured-users.",
        ),
    ] = False,
    beside: Annotated[
        list[Path] | None,
        typer.Option(
            help="Another bundle to measure at the same targets. Its recommendations are computed without the workers. "
            "Repeatable.",
            file_okay=False,
            show_default=False,
        ),
    ] = None,
    live_topics: Annotated[
        bool,
        typer.Option(
            "--live-topics",
            help="Play to topics that others produce to. Without it, a replay stops if the input topic has events of others: it would "
            "change their recommendations, and they would change its figures.",
        ),
    ] = False,
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Compute all answers again without Kafka, and compare them with those of the workers."
        ),
    ] = False,
    paper: Paper = False,
) -> None:
    """Play a data set as a stream of events, and measure the recommendations before each purchase.

    Both workers must be running, with the settings of this command. Missing
    topics are created. If the broker goes down, the replay waits for it.

    Stop it with Ctrl-C or SIGTERM, and resume it with the same command. When
    everything has been played, the same command only evaluates again.

    [bold]tastestream replay compare RUN RUN ...[/bold] shows finished runs side by
    side; see its --help.

    Exit codes: 0: played and measured; 1: an error, or --check found a
    difference; 69: the broker is unreachable; 130: stopped.
    """
    from offline_training.replay.evaluation.prequential import Rules
    from offline_training.replay.play.events import EventSelection
    from offline_training.replay.play.pacing import Pace
    from offline_training.replay.run import ReplayOptions, run_replay

    host, port = _address(serve_on)
    kinds = frozenset(part.strip() for part in targets.split(",") if part.strip())
    if not kinds or not kinds <= set(TYPES):
        fail(f"--targets {shown(targets)}: expected event types of {', '.join(TYPES)}, separated by commas", USAGE)
    if not users:
        fail("--users 0 selects nobody; 0.1 is a tenth of the users", USAGE)
    first, end = window(since, until)
    options = ReplayOptions(
        dataset=dataset,
        out=out,
        selection=EventSelection(users, limit, first, end),
        rules=Rules(kinds, _duration(delay), tuple(sorted(set(k or (1, 5, 10)))), paper=paper),
        pace=Pace(_parsed("--speed", speed), _parsed("--rate", rate)),
        lead=lead,
        host=host,
        port=port,
        tag=tag,
        check=check,
        delay=delay,
        beside=tuple(beside or ()),
        live_topics=live_topics,
        measured=measured_users,
        items=items,
    )
    settings = read()
    try:
        code = run_replay(settings, options, stdout())
    except BrokerUnreachable as error:
        fail(f"{error}; run the same command again to resume", UNAVAILABLE)
    except TastestreamError as error:
        fail(str(error), CRASHED)
    raise typer.Exit(code)


@compare_app.command(epilog="Example: tastestream replay compare runs/shop runs/other --out runs/compared")
def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(
            help="Folders of two or more finished replays (their --out), or the results.json in them.",
            metavar="RUN",
        ),
    ],
    *,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder to write compare.html, compare.md and compare.json to.", file_okay=False, show_default=False
        ),
    ] = None,
) -> None:
    """Show finished replays of the same events side by side, with the difference of each to the first.

    The runs must have the same data set, the same users and times, and the same
    --targets, --delay, --k and --paper.

    Exit codes: 0: compared; 2: a run cannot be read, or the runs are not
    comparable.
    """
    from offline_training.replay.compare import run_compare

    if len(runs) < 2:
        fail("replay compare: expected two or more runs, found one", USAGE)
    try:
        run_compare(runs, out, stdout())
    except TastestreamError as error:
        fail(str(error), USAGE)


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not re.fullmatch("[0-9]{1,5}", port) or int(port) > 65535 or host in {"0.0.0.0", "::"}:  # noqa: S104 -- refused
        fail(
            f"--serve-on {shown(text)}: expected HOST:PORT such as 127.0.0.1:8080, at which the workers reach this machine",
            USAGE,
        )
    return host, int(port)


def _duration(text: str) -> int:
    """Parse a duration, to milliseconds."""
    if not text:
        return 0
    found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|s|m|h|d)", text.strip())
    if not found:
        fail(f"--delay {shown(text)}: expected a number with ms, s, m, h or d, such as 90m or 7d", USAGE)
    return round(float(found[1]) * UNITS[found[2]])


def _parsed(option: str, text: str | None) -> float | None:
    from offline_training.replay.play.pacing import parse_rate, parse_speed

    if text is None:
        return None
    parse, expected = (
        (parse_speed, "speed; expected a factor such as 3600x")
        if option == "--speed"
        else (parse_rate, "rate; expected events per second such as 500/s")
    )
    try:
        return parse(text)
    except ValueError:
        fail(f"{option} {shown(text)}: invalid {expected}", USAGE)
