"""The commands that are a few lines each: `topics`, `worker`, `schema`, `settings` and `bundle`."""

import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.table import Column, Table

from model.bundle import Bundle
from model.exceptions import TastestreamError
from streams import console
from streams import schema as documents
from streams.console import fail, on_kafka, read, show
from streams.kafka.topics import ensure_topics, topic_specs
from streams.settings import PREFIX, Settings

topics_app, worker_app, schema_app, settings_app = (typer.Typer(rich_markup_mode="rich") for _ in range(4))
bundle_app = typer.Typer(help="Model bundles: what one is, and whether it is whole.", no_args_is_help=True)


class WorkerChoice(StrEnum):
    embed = "embed"
    profile = "profile"
    all = "all"


class Document(StrEnum):
    interaction = "interaction"
    recommendation = "recommendation"
    asyncapi = "asyncapi"
    all = "all"


@topics_app.command(epilog="Example: TASTESTREAM_BROKER=kafka://localhost:9092 tastestream topics")
def topics() -> None:
    """Create the topics that are missing, and check the ones that exist."""
    settings = read()
    states = on_kafka(settings, ensure_topics(settings))
    table = Table(Column("topic", no_wrap=True), "what", "partitions", "cleanup", "")
    for spec in topic_specs(settings):
        state, created = states[spec.name]
        table.add_row(spec.name, spec.what, str(state.partitions), state.cleanup, "created" if created else "exists")
    show(table)


@worker_app.command(epilog="Example: TASTESTREAM_BROKER=kafka://localhost:9092 tastestream worker all")
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
        from streams.runtime.supervisor import run_all  # noqa: PLC0415 -- the supervisor stays small: it loads no worker

        raise typer.Exit(
            run_all(settings, ["--config", str(console.config)] if console.config else [], with_parent=with_parent)
        )
    from streams.runner import run_worker  # noqa: PLC0415

    raise typer.Exit(run_worker(which.value, settings, with_parent=with_parent))


@schema_app.command(epilog="Example: tastestream schema interaction > interaction.schema.json")
def schema(
    document: Annotated[Document, typer.Argument(help="Which document to print, as JSON.")] = Document.all,
) -> None:
    """Print the JSON Schemas of the messages and the AsyncAPI document, generated from the code."""
    makers: dict[Document, Callable[[], dict[str, Any]]] = {
        Document.interaction: documents.interaction_schema,
        Document.recommendation: documents.recommendation_schema,
        Document.asyncapi: lambda: documents.asyncapi(read()),
    }
    if document is Document.all:
        sys.stdout.write(documents.to_json({name.value: make() for name, make in makers.items()}) + "\n")
    else:
        sys.stdout.write(documents.to_json(makers[document]()) + "\n")


@settings_app.command(epilog="Example: tastestream settings")
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
