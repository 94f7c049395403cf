"""The subcommands of `tastestream rollout` and their options."""
# ruff: noqa: PLC0415 -- each command imports what it needs when it runs

from collections.abc import Callable
from typing import Annotated

import typer

from model.exceptions import TastestreamError
from streams.console import fail, read, stdout
from streams.exceptions import BrokerUnreachable, DeliveryError, StateError
from streams.runtime.process import CRASHED, MISCONFIGURED, UNAVAILABLE

app = typer.Typer(help="Go from one bundle to the next without a gap.", no_args_is_help=True, rich_markup_mode="rich")


@app.command(epilog="Example: tastestream rollout prepare --rate 1000")
def prepare(
    *,
    rate: Annotated[
        float | None,
        typer.Option(help="Maximum number of items sent per second.", metavar="N", min=0.01, show_default=False),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="Look at only N items without a code.", metavar="N", min=1, show_default=False)
    ] = None,
    fetch: Annotated[
        bool,
        typer.Option(
            "--fetch/--no-fetch", help="Fetch pictures without features on the topic, or adapt their codes at once."
        ),
    ] = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and send nothing.")] = False,
) -> None:
    """Give the items in the bags the codes of NEXT_BUNDLE, while BUNDLE is served.

    Codes come from the features on FEATURES_TOPIC. Pictures without features are
    fetched. If a picture is gone, its code is adapted from the one that the bag
    has, if the bundle has an adapter.

    Run it again to continue after an interruption, or to retry what failed: only
    items without a code are sent. Profile workers need NEXT_BUNDLE first.

    Exit code 0: all items have a code; 1: some have none; 130: stopped by Ctrl-C or SIGTERM.
    """
    from streams.rollout.prepare import Options, run_prepare

    settings, options = read(), Options(rate, limit, dry_run, fetch)
    _run(lambda: run_prepare(settings, stdout(), options))


@app.command(epilog="Example: tastestream rollout status")
def status() -> None:
    """Show how many items of the bags have a code of NEXT_BUNDLE, and why the others have none.

    Native codes were made from the picture, adapted ones from another code.
    """
    from streams.rollout.status import run_status

    settings = read()
    _run(lambda: run_status(settings, stdout()))


@app.command(epilog="Example: tastestream rollout promote")
def promote(
    *,
    other_categories: Annotated[
        bool, typer.Option("--other-categories", help="Permit other categories than those of BUNDLE.")
    ] = False,
    without_comparison: Annotated[
        bool,
        typer.Option("--without-comparison", help="Do without a comparison.json that says that it is not worse."),
    ] = False,
) -> None:
    """Check whether NEXT_BUNDLE can take over, and say what to set and in which order to restart.

    It changes nothing.

    Exit code 0: it can; 3: it cannot, and the table says why.
    """
    from streams.rollout.promote import run_promote

    settings = read()
    _run(
        lambda: run_promote(
            settings, stdout(), other_categories=other_categories, without_comparison=without_comparison
        )
    )


@app.command(epilog="Example: tastestream rollout abort")
def abort() -> None:
    """Say how to end a rollout without a promotion. It changes nothing."""
    from streams.rollout.promote import abort_steps
    from streams.rollout.report import say

    settings, out = read(), stdout()
    for line in abort_steps(settings):
        say(out, line)


def _run(command: Callable[[], int]) -> None:
    """Run a command, and end with its exit code, or with one line and the code of its failure."""
    try:
        code = command()
    except BrokerUnreachable as error:
        fail(str(error), UNAVAILABLE)
    except TastestreamError as error:
        fail(str(error), CRASHED if isinstance(error, StateError | DeliveryError) else MISCONFIGURED)
    raise typer.Exit(code)
