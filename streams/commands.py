"""The commands that are a few lines each: `topics`, `worker`, `schema`, `settings`, `completion` and `bundle`."""
# ruff: noqa: PLC0415 -- each command imports what it needs when it runs: the supervisor of `worker all` stays small

import sys
import textwrap
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Column, Table
from rich.text import Text

from model.exceptions import TastestreamError
from streams import console
from streams.console import USAGE, PlainConsole, fail, on_kafka, read, say, show, stdout
from streams.text import visible, visible_json

if TYPE_CHECKING:
    from model.bundle import Bundle

COMPLETE = "_TASTESTREAM_COMPLETE"  # the variable by which a shell asks for completions
MAX_PARTITIONS = 10_000  # of the bags: the trend knows no more
LINE = 100  # columns of a description, at most; on a narrower terminal it is as wide as that

topics_app, worker_app, schema_app, settings_app, completion_app = (
    typer.Typer(rich_markup_mode="rich") for _ in range(5)
)
bundle_app = typer.Typer(help="Show and check model bundles.", no_args_is_help=True)


class WorkerChoice(StrEnum):
    embed = "embed"
    profile = "profile"
    serve = "serve"
    all = "all"


class Shell(StrEnum):
    bash = "bash"
    zsh = "zsh"
    fish = "fish"


class Document(StrEnum):
    interaction = "interaction"
    item = "item"
    recommendation = "recommendation"
    taste = "taste"
    asyncapi = "asyncapi"
    all = "all"


@topics_app.callback(
    invoke_without_command=True, epilog="Example: TASTESTREAM_BROKER=localhost:9092 tastestream topics"
)
def topics(
    context: typer.Context,
    *,
    apply: Annotated[
        bool,
        typer.Option(
            "--apply",
            help="Set retention and compaction times of existing topics as they are on new ones. A shorter retention "
            "deletes older records.",
        ),
    ] = False,
) -> None:
    """Create missing topics, and check existing ones.

    If a topic has too few partitions or a clean-up policy that cannot work, or a
    consumer group belongs to another topic, the exit code is 1. A retention that
    differs from the settings is named; --apply sets it.
    """
    if context.invoked_subcommand is not None:
        return
    from streams.kafka.generations import in_use
    from streams.kafka.groups import group_uses
    from streams.kafka.topics import ensure_topics, topic_specs
    from streams.profile.spread import partitions_of_bags

    settings = read()
    settings = on_kafka(settings, in_use(settings))
    states = on_kafka(settings, ensure_topics(settings, group_uses(settings), trend=True, apply=apply))
    on_kafka(settings, partitions_of_bags(settings, {name: state.partitions for name, (state, _) in states.items()}))
    table = Table(Column("topic", no_wrap=True), "what", "partitions", "cleanup", "")
    for spec in topic_specs(settings):
        if spec.name not in states:  # optional, and the log says why it could not be created
            table.add_row(spec.name, spec.what, "", spec.cleanup, "missing")
            continue
        state, created = states[spec.name]
        table.add_row(spec.name, spec.what, str(state.partitions), state.cleanup, "created" if created else "exists")
    show(table)
    differences = [(name, one) for name, (state, _) in states.items() for one in state.differences]
    for name, one in differences:
        change = f"set to {one.wanted}, was {one.value}" if apply else f"is {one.value}; --apply sets {one.wanted}"
        say(stdout(), f"{name}: {one.name} {change}")


@topics_app.command(epilog="Example: tastestream topics resize --partitions 24")
def resize(
    *,
    partitions: Annotated[
        int | None,
        typer.Option(
            help="Number of partitions that the bags are to have.",
            metavar="N",
            min=1,
            max=MAX_PARTITIONS,
            show_default=False,
        ),
    ] = None,
    rollback: Annotated[
        bool, typer.Option("--rollback", help="Return to the topics before, or take a resize back that is under way.")
    ] = False,
    delete_old: Annotated[
        bool, typer.Option("--delete-old", help="Delete the topics before. There is no rollback after that.")
    ] = False,
    status: Annotated[bool, typer.Option("--status", help="Show which topics are in use, and change nothing.")] = False,
) -> None:
    """Spread the bags over another number of partitions: more or fewer.

    The bags are copied to new topics while the workers run. Then events wait for
    some seconds until the workers run on the new topics. No event is lost.

    Run it again after an interruption: it goes on. The topics before stay for a
    rollback until --delete-old.

    Exit code 0: done; 1: it could not be done, and the workers go on as before;
    130: stopped by Ctrl-C or SIGTERM.
    """
    from streams.resize import commands as resizing

    if sum((partitions is not None, rollback, delete_old, status)) != 1:
        fail("topics resize: expected one of --partitions N, --rollback, --delete-old and --status", USAGE)
    settings, out = read(), stdout()
    if partitions is not None:
        work = resizing.resize(settings, partitions, out)
    elif rollback:
        work = resizing.rollback(settings, out)
    elif delete_old:
        work = resizing.delete_old(settings, out)
    else:
        work = resizing.status(settings, out)
    raise typer.Exit(on_kafka(settings, work))


@worker_app.command(epilog="Example: TASTESTREAM_BROKER=localhost:9092 tastestream worker all")
def worker(
    which: Annotated[
        WorkerChoice, typer.Argument(help="One worker, or one of each under a supervisor that restarts them.")
    ],
    with_parent: Annotated[
        bool, typer.Option("--with-parent", help="Stop when standard input ends.", hidden=True)
    ] = False,
) -> None:
    """Run a worker until SIGTERM or Ctrl-C.

    The embed and the profile worker create missing topics first; the serve
    worker creates nothing. Exit code 69 if there is no broker, and 78 if a
    restart would not help: settings, bundle, topics or data folder are wrong.
    """
    settings = read()
    if which is WorkerChoice.all:
        from streams.runtime.supervisor import run_all

        raise typer.Exit(
            run_all(settings, ["--config", str(console.config)] if console.config else [], with_parent=with_parent)
        )
    if which is WorkerChoice.serve:
        from streams.serve.worker import run_serve_worker

        raise typer.Exit(run_serve_worker(settings, with_parent=with_parent))
    from streams.runner import run_worker

    raise typer.Exit(run_worker(which.value, settings, with_parent=with_parent))


@schema_app.command(epilog="Example: tastestream schema interaction > interaction.schema.json")
def schema(
    document: Annotated[Document, typer.Argument(help="The document to print, as JSON.")] = Document.all,
) -> None:
    """Print the JSON Schemas of the messages and the AsyncAPI document, generated from the code.

    `taste` is the schema of what `tastestream taste --json` prints.
    """
    from streams import schema as documents
    from streams.messages import json_schema
    from streams.taste.profile import Profile

    makers: dict[Document, Callable[[], dict[str, Any]]] = {
        Document.interaction: documents.interaction_schema,
        Document.item: documents.item_schema,
        Document.recommendation: documents.recommendation_schema,
        Document.taste: lambda: json_schema(Profile),
        Document.asyncapi: lambda: documents.asyncapi(read()),
    }
    if document is Document.all:
        sys.stdout.write(documents.to_json({name.value: make() for name, make in makers.items()}) + "\n")
    else:
        sys.stdout.write(documents.to_json(makers[document]()) + "\n")


@settings_app.command(epilog="Example: tastestream settings --defaults > .env")
def settings(
    *,
    defaults: Annotated[
        bool, typer.Option("--defaults", help="Print the defaults, whatever the environment and files say.")
    ] = False,
) -> None:
    """Print all settings, as the lines of a `.env` file: what each one is, and its value.

    Secrets are hidden.
    """
    from streams.settings import PREFIX, Settings
    from streams.settings.values import as_text

    default = Settings.model_construct()
    current = default if defaults else read()
    out = PlainConsole(soft_wrap=True)
    for name, field in Settings.model_fields.items():
        value, usual = as_text(getattr(current, name)), as_text(getattr(default, name))
        comment = (field.description or "") + ("" if value == usual else f" Default: {usual or 'not set'}.")
        out.print(
            Text(textwrap.fill(comment, min(out.width, LINE), initial_indent="# ", subsequent_indent="# "), "dim")
        )
        line = Text.assemble((PREFIX + name.upper(), "bold"), "=", visible(value), "\n")
        # As a comment it does not pin the name in a `.env` whose NAMESPACE is set later.
        out.print(Text.assemble(("# ", "dim"), line) if current.follows_namespace(name) else line)


@completion_app.command(epilog="Example: source <(tastestream completion bash)")
def completion(
    shell: Annotated[Shell, typer.Argument(help="The shell.")],
) -> None:
    """Print the script that completes commands, options and values in a shell.

    bash: add `source <(tastestream completion bash)` to ~/.bashrc. zsh: write the
    script to a file called _tastestream in a folder of $fpath. fish: write it to
    ~/.config/fish/completions/tastestream.fish.
    """
    from typer._completion_shared import get_completion_script  # typer has no public name for it

    script = get_completion_script(prog_name="tastestream", complete_var=COMPLETE, shell=shell.value)
    sys.stdout.write(script + "\n")


@bundle_app.command("show", epilog="Example: tastestream bundle show")
def bundle_show(
    path: Annotated[
        Path | None,
        typer.Argument(help="The bundle's folder; if missing, the bundle in the package.", show_default=False),
    ] = None,
) -> None:
    """Show what a bundle contains: its model, categories, training data, licences and measured figures."""
    import msgspec

    loaded = load_bundle(path)
    out = PlainConsole()
    manifest = loaded.manifest
    out.print(Text.assemble((visible(loaded.name), "bold"), visible(f" {loaded.version}  ({loaded.path})")))
    out.print(
        f"{_versions(loaded)}, embeddings of {loaded.embedding_size} values, "
        f"pictures of {loaded.image_size} x {loaded.image_size} pixels"
    )
    out.print(f"{len(loaded.categories)} categories: {', '.join(loaded.categories)}")
    if (data := manifest.data) is not None and not data.events:
        out.print(f"learnt from {data.items:,} pictures, without events: {visible(data.source)}", markup=False)
    elif data is not None:
        out.print(
            f"learnt from {data.events:,} events of {data.users:,} users, and the labels of {data.items:,} items: "
            f"{visible(data.source)}, {visible(data.from_time)} to {visible(data.to_time)}; "
            f"fingerprints of {len(data.user_ids):,} users and {len(data.user_items):,} events",
            markup=False,
        )
    shown = ("sources", "training", "metrics", *(["adapts"] if manifest.adapts else []))
    rest = {name: getattr(manifest, name) for name in shown}
    out.print(Text(visible_json(msgspec.json.format(msgspec.json.encode(rest), indent=2).decode())))


@bundle_app.command("check", epilog="Example: tastestream bundle check ./my-bundle")
def bundle_check(
    path: Annotated[Path, typer.Argument(help="The bundle's folder.")],
    key: Annotated[
        Path | None, typer.Option(help="Ed25519 public key (PEM) that must have signed it.", show_default=False)
    ] = None,
) -> None:
    """Check a bundle's files, checksums and shapes. Exit code 1 and one line if something is wrong."""
    loaded = load_bundle(path, key)
    signed = "" if key is None else f", and signed by {key}"
    say(PlainConsole(), f"{loaded.path}: {loaded.name} {loaded.version} is intact{signed}; {_versions(loaded)}")


def _versions(bundle: "Bundle") -> str:
    """What the pictures of a bundle are embedded by. Early bundles have no backbone by itself."""
    versions = f"backbone {bundle.backbone_version or 'inside the embedder'}, embedder {bundle.embedder_version}"
    adapts = bundle.manifest.adapts
    return versions if adapts is None else f"{versions}, adapts embedder {adapts.embedder_version}"


@bundle_app.command("sign", epilog="Example: tastestream bundle sign ./my-bundle --key private.pem")
def bundle_sign(
    path: Annotated[Path, typer.Argument(help="The bundle's folder.")],
    key: Annotated[Path, typer.Option(help="Ed25519 private key (PEM) without a passphrase.")],
) -> None:
    """Sign a bundle: write `manifest.json.sig` beside its manifest.

    Make a key with `openssl genpkey -algorithm ed25519 -out private.pem`, and its
    public key with `openssl pkey -in private.pem -pubout -out public.pem`.
    """
    from model.bundle import MANIFEST
    from model.bundle.signature import SIGNATURE, sign

    loaded = load_bundle(path)
    try:
        (path / SIGNATURE).write_bytes(sign((path / MANIFEST).read_bytes(), key))
    except TastestreamError as error:
        fail(str(error))
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}")
    say(PlainConsole(), f"{path / SIGNATURE}: {loaded.name} {loaded.version} is signed")


def load_bundle(path: Path | None, key: Path | None = None) -> "Bundle":
    """Load a bundle. Ends with one line and exit code 1 if it cannot be used."""
    from model.bundle import Bundle

    try:
        return Bundle.load(path, key)
    except TastestreamError as error:
        fail(str(error))
