"""What the options of `tastestream topics resize` do."""

from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from msgspec.structs import replace
from rich.console import Console

from streams.console import say
from streams.exceptions import TopicsError
from streams.kafka.generations import Layout, LayoutWriter, begun, going_back, read_layout
from streams.resize.job import Job
from streams.resize.ledger import open_ledger
from streams.resize.topics import check_names, create_generations_topic, delete_unused
from streams.runtime.process import stop_event, unless_stopped
from streams.settings import Settings

STOPPED = 130  # exit code after Ctrl-C or SIGTERM, as a shell reports it


async def resize(settings: Settings, partitions: int, console: Console) -> int:
    """Move the bags to topics with so many partitions, or go on with that. Returns the exit code. Raises TastestreamError."""
    with open_ledger(settings) as ledger:
        async with _opened(settings, console) as job:
            layout = job.layout
            if layout.target:
                check_target(layout, partitions)
            else:
                serving = await job.partitions(layout.serving)
                if serving == partitions:
                    say(console, f"the bags are spread over {partitions} partitions already")
                    return 0
                if layout.kept:
                    raise TopicsError(
                        f"generation {layout.kept} is kept for a rollback: delete it first, with `tastestream topics resize "
                        "--delete-old`"
                    )
                check_names(job.generation(layout.last + 1))
                known = {**layout.partitions, layout.serving: serving}
                await job.write(begun(replace(layout, partitions=known), partitions))
            return await _until_stopped(lambda: job.run(ledger))


def check_target(layout: Layout, partitions: int) -> None:
    """Raise TopicsError if what is under way is another resize. Pure."""
    if layout.target == layout.kept:
        raise TopicsError("a rollback is under way: finish it with `tastestream topics resize --rollback`")
    under_way = layout.partitions[layout.target]
    if under_way != partitions:
        raise TopicsError(
            f"a resize to {under_way} partitions is under way: go on with --partitions {under_way}, or take it back with --rollback"
        )


async def rollback(settings: Settings, console: Console) -> int:
    """Take a resize back, or return to the generation before. Returns the exit code. Raises TastestreamError."""
    with open_ledger(settings) as ledger:
        async with _opened(settings, console) as job:
            layout = job.layout
            if layout.target and layout.target != layout.kept:
                code = await _until_stopped(job.abandon)
                if code == 0:
                    say(console, f"generation {job.layout.serving} serves, as before")
                return code
            if not layout.target and layout.kept > layout.serving:
                say(console, f"generation {layout.serving} serves again already")
                return 0
            if not layout.kept:
                raise TopicsError("there is nothing to go back to: no generation is kept")
            if not layout.target:
                await job.write(going_back(layout))
            return await _until_stopped(lambda: job.run(ledger))


async def delete_old(settings: Settings, console: Console) -> int:
    """Delete the topics of the generation that is kept. Returns the exit code. Raises TastestreamError."""
    async with _opened(settings, console) as job:
        layout = job.layout
        if layout.target:
            raise TopicsError(
                "a resize is under way: finish it with --partitions or --rollback before anything is deleted"
            )
        if layout.kept:
            await job.write(replace(layout, kept=0, marks={}))
        gone = await delete_unused(settings, job.layout)
    say(console, f"deleted {', '.join(gone)}" if gone else "there is nothing to delete")
    return 0


async def status(settings: Settings, console: Console) -> int:
    """Print which generations there are, and what can be done. Returns the exit code. Raises TastestreamError."""
    layout = await read_layout(settings)
    for line in status_lines(settings, layout):
        say(console, line)
    return 0


def status_lines(settings: Settings, layout: Layout) -> list[str]:
    """What `--status` prints. Pure."""

    def named(number: int) -> str:
        one = settings.of_generation(number)
        spread = f", {layout.partitions[number]} partitions" if number in layout.partitions else ""
        return f"generation {number}{spread}: {one.embedded_topic}, {one.bags_changelog}"

    lines = [f"serves     {named(layout.serving)}"]
    if layout.kept:
        lines.append(f"kept       {named(layout.kept)}")
    if layout.target:
        again = "--rollback" if layout.target == layout.kept else f"--partitions {layout.partitions[layout.target]}"
        lines.append(f"moving to  {named(layout.target)}")
        if layout.is_draining:
            lines.append("events wait until the move is finished")
        back = "" if layout.target == layout.kept else "; --rollback takes it back"
        lines.append(f"if no `tastestream topics resize` runs now, go on with {again}{back}")
    elif layout.kept:
        back = "--rollback returns to the generation that is kept; " if layout.kept < layout.serving else ""
        lines.append(f"{back}--delete-old deletes {'it' if back else 'the generation that is kept'}")
    return lines


@asynccontextmanager
async def _opened(settings: Settings, console: Console) -> AsyncGenerator[Job]:
    """A job that may write the layout. Another one that runs may no longer."""
    await create_generations_topic(settings)
    async with LayoutWriter(settings) as writer:
        yield Job(settings, await read_layout(settings), writer, console)


async def _until_stopped(work: Callable[[], Coroutine[Any, Any, None]]) -> int:
    """Do it, unless a signal stops it. Returns the exit code."""
    stop = stop_event(with_parent=False)
    await unless_stopped(work(), stop)
    return STOPPED if stop.is_set() else 0
