"""The options of `tastestream taste`."""

import asyncio
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import typer
from numpy.typing import NDArray

from model.exceptions import TastestreamError
from streams.bundles import load_bundle
from streams.console import USAGE, counting_progress, fail, read, say, stdout
from streams.runtime.process import MISCONFIGURED, configure_logging, stop_event, unless_stopped
from streams.serve.taste import Kind
from streams.settings import Settings
from streams.taste.page import page, pictures_of
from streams.taste.photos import find
from streams.taste.profile import Profile, encode
from streams.taste.screen import none_found, print_profile
from streams.taste.work import Answer, Looked, answer_of, look, profile_of
from streams.text import visible

app = typer.Typer(rich_markup_mode="rich", add_completion=False)

STOPPED = 130  # exit code after Ctrl-C, as a shell reports it
THUMBNAIL = 480  # pixels, of the photos on a page
MAX_BAG = 256  # photos; a network that was trained with 64 still scores so many


@app.command(epilog="Example: tastestream taste ~/Pictures/2024 --html me.html")
def taste(
    photos: Annotated[
        list[Path], typer.Argument(metavar="PICTURES|FOLDER...", help="Photos of things the person has, or likes.")
    ],
    *,
    view: Annotated[
        list[Path] | None,
        typer.Option(
            help="Photos of things that the person only looked at. Each counts less, as a view does beside a purchase.",
            metavar="PICTURE|FOLDER",
            show_default=False,
        ),
    ] = None,
    top: Annotated[
        int | None,
        typer.Option(
            help="Categories and photos to list. Default: TOP_K.", metavar="N", min=1, max=1000, show_default=False
        ),
    ] = None,
    bag_size: Annotated[
        int | None,
        typer.Option(
            help="Photos to score: the newest. Default: BAG_SIZE.", metavar="N", min=1, max=MAX_BAG, show_default=False
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    html: Annotated[
        Path | None,
        typer.Option(help="Write a page with the photos to this file.", metavar="FILE", show_default=False),
    ] = None,
) -> None:
    """Say what somebody's own photos tell of their taste.

    Finds the photos in folders and below, and embeds and scores the newest
    ones, as the workers do with the pictures of a shopper. All of it happens on
    this machine, without Kafka and without the network. Nothing is stored but
    the page.

    A photo is as old as its EXIF block says, or else its file. HEIC, the format
    of phones, needs the extra heic: pip install 'tastestream\\[heic]'.

    Exit code 0: there is a profile; 1: there is no photo; 78: the bundle cannot
    be used.
    """
    settings = read()
    roots: list[tuple[Path, Kind]] = []
    roots.extend((path, "purchase") for path in photos)
    roots.extend((path, "view") for path in view or ())
    for path, _ in roots:
        if not path.exists():
            fail(f"{path}: there is no such file or folder. See: tastestream taste --help", USAGE)
    if html is not None and (html.is_dir() or not html.absolute().parent.is_dir()):
        fail(f"--html {html}: expected a file in a folder that exists. See: tastestream taste --help", USAGE)
    configure_logging(settings)
    limits = Limits(top or settings.top_k, bag_size or settings.bag_size, None if html is None else THUMBNAIL)
    try:
        done = _work(settings, roots, limits)
    except TastestreamError as error:
        fail(str(error), MISCONFIGURED)
    if done is None:
        raise typer.Exit(STOPPED)
    profile, answer, thumbnails = done
    if html is not None:
        try:
            html.write_text(page(profile, pictures_of(answer, thumbnails)), encoding="utf-8")
        except OSError as error:
            fail(f"--html {html}: {error.strerror}")
    if as_json:
        sys.stdout.write(encode(profile).decode() + "\n")
        return
    console = stdout()
    print_profile(console, profile, limits.top)
    if html is not None:
        console.print()
        say(console, f"wrote {visible(html)}")


class Limits(NamedTuple):
    """The options that bound the result."""

    top: int
    bag_size: int
    thumbnail: int | None  # pixels


def _work(
    settings: Settings, roots: list[tuple[Path, Kind]], limits: Limits
) -> tuple[Profile, Answer, dict[Path, NDArray[np.uint8]]] | None:
    """Find, embed and score, with a progress bar. None after a signal. Ends with one line and exit code 1 if there is no photo."""
    bundle = load_bundle(settings.bundle, settings.bundle_key)
    now = datetime.now(UTC)
    with counting_progress() as progress:
        task = progress.add_task("looking for photos", total=None)
        found = find(roots, now, lambda so_far: progress.update(task, completed=so_far.files))
        progress.reset(task, description="reading photos", total=min(limits.bag_size, len(found.photos)))

        async def work() -> tuple[Looked, dict[Path, NDArray[np.uint8]]] | None:
            return await unless_stopped(
                look(
                    settings,
                    bundle,
                    found.photos,
                    bag_size=limits.bag_size,
                    thumbnail=limits.thumbnail,
                    done=lambda so_far: progress.update(task, completed=len(so_far.used)),
                ),
                stop_event(with_parent=False),
            )

        done = asyncio.run(work())
    if done is None:
        return None
    looked, thumbnails = done
    if not looked.used:
        fail(none_found(found, looked))
    answer = answer_of(bundle, settings, looked, now, top=limits.top, bag_size=limits.bag_size)
    return profile_of(answer, found, looked, now), answer, thumbnails
