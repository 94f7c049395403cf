"""The options of `tastestream doctor`."""

import logging
from collections import Counter
from typing import Annotated

import typer

from model.exceptions import TastestreamError
from streams import console
from streams.console import on_kafka, stdout

app = typer.Typer(rich_markup_mode="rich", add_completion=False)


@app.command(epilog="Example: tastestream doctor --picture https://shop.example/camera.jpg")
def doctor(
    *,
    picture: Annotated[
        str | None, typer.Option(help="Also fetch and decode this picture.", metavar="URL", show_default=False)
    ] = None,
) -> None:
    """Look at everything that a worker needs, and say what is wrong and how to mend it.

    Settings, bundle, data folder, disk, ports, clock, broker, topics, retention,
    groups and rights; with --picture a picture, too. It changes nothing, and may
    run while workers do.

    Exit code 0: nothing is wrong; 1: something is; 78: a setting is wrong.
    """
    from streams.doctor.diagnosis import diagnose
    from streams.doctor.finding import Finding, fail, lines
    from streams.runtime.process import MISCONFIGURED
    from streams.settings import read_settings

    out = stdout()

    def tell(finding: Finding) -> None:
        for line in lines(finding):
            out.print(line, soft_wrap=not out.is_terminal)

    try:
        settings = read_settings(console.config)
    except TastestreamError as error:
        tell(fail("settings", str(error), "correct the setting; `tastestream settings --defaults` lists all of them"))
        raise typer.Exit(MISCONFIGURED) from error

    async def look() -> Counter[str]:
        logging.getLogger("streams").setLevel(logging.CRITICAL)  # findings say the same, each with its fix
        found: Counter[str] = Counter()
        async for finding in diagnose(settings, picture):
            found[finding.level] += 1
            tell(finding)
        return found

    found = on_kafka(settings, look())
    out.print(f"{found['ok']} ok, {found['warn']} to look at, {found['fail']} wrong")
    raise typer.Exit(1 if found["fail"] else 0)
