"""The options of `tastestream demo`."""

from typing import Annotated

import typer

app = typer.Typer(rich_markup_mode="rich", add_completion=False)


@app.command(epilog="Example: tastestream demo --keep")
def demo(
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep running after the story, and accept your own events, until Ctrl-C.")
    ] = False,
    pace: Annotated[float, typer.Option(help="Seconds between two events.", metavar="SECONDS", min=0.0)] = 0.6,
) -> None:
    """Watch recommendations change while three shoppers view, buy and return things.

    Runs a broker, both workers, a picture server and the shoppers on this machine, and stops them at the end.
    """
    from streams.demo.run import run_demo

    raise typer.Exit(run_demo(keep=keep, pace=pace))
