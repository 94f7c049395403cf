"""What `tastestream dlq list` and `dlq replay` do: read or send, with a progress bar on standard error, and say what came out."""

import sys
from collections import Counter, deque
from contextlib import nullcontext

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from streams.dead_letters.reading import DeadLetterTopic
from streams.dead_letters.redrive import Sender, make_plan, verdicts
from streams.dead_letters.report import counts, json_line, row, table
from streams.dead_letters.selection import LetterFilter, Skip
from streams.settings import Settings


async def list_letters(settings: Settings, selection: LetterFilter, console: Console) -> None:
    """Print the selected letters as a table, newest last, and how many there are of each reason. Raises TastestreamError."""
    rows: deque[list[Text]] = deque(maxlen=selection.limit)
    reasons: Counter[str] = Counter()
    async with DeadLetterTopic(settings) as topic:
        with _progress() as progress:
            reading = progress.add_task(f"reading {topic.name}", total=len(topic))
            async for letter in topic.letters():
                progress.advance(reading)
                if selection.matches(letter):
                    reasons[letter.reason] += 1
                    rows.append(row(letter))
    if not reasons:
        _say(
            console,
            f"none of {_letters(len(topic))} on {topic.name} matches" if len(topic) else f"{topic.name} is empty",
        )
        return
    printed = table()
    for one in rows:
        printed.add_row(*one)
    console.print(printed)
    shown = "" if len(rows) == reasons.total() else f", the newest {len(rows):,} shown"
    _say(console, f"{_letters(reasons.total())}{shown}: {counts(reasons)}")


async def list_as_json(settings: Settings, selection: LetterFilter) -> None:
    """Print the selected letters as lines of JSON, newest last. Raises TastestreamError."""
    newest: deque[str] = deque(maxlen=selection.limit)
    async with DeadLetterTopic(settings) as topic:
        with _progress(hidden=sys.stdout.isatty()) as progress:  # there the lines themselves are the progress
            reading = progress.add_task(f"reading {topic.name}", total=len(topic))
            async for letter in topic.letters():
                progress.advance(reading)
                if selection.matches(letter):
                    newest.append(json_line(letter))
                    if selection.limit is None:  # nothing can push it out again
                        sys.stdout.write(newest.pop())
    sys.stdout.writelines(newest)


async def replay_letters(
    settings: Settings, selection: LetterFilter, console: Console, *, max_attempts: int, rate: float, dry_run: bool
) -> None:
    """Send the originals of the selected letters again, `rate` a second, and say how many were sent, whatever ends it.

    With `dry_run`, say how many would be. Raises TastestreamError.
    """
    sent: Counter[tuple[str, str]] = Counter()  # by topic and reason
    skipped: Counter[Skip] = Counter()
    selected, done = 0, False
    async with DeadLetterTopic(settings) as topic:
        try:
            with _progress() as progress:
                reading = progress.add_task(f"reading {topic.name}", total=len(topic))
                plan = await make_plan(topic, selection, lambda: progress.advance(reading))
            selected = plan.selected
            with _progress() as progress:
                sending = progress.add_task("would send" if dry_run else "sending", total=selected)
                async with nullcontext() if dry_run else Sender(settings, rate, sent) as sender:
                    async for letter, judged in verdicts(settings, topic, selection, plan, max_attempts=max_attempts):
                        if isinstance(judged, Skip):
                            skipped[judged] += 1
                        elif sender is None:
                            sent[judged.topic, letter.reason] += 1
                        else:
                            await sender.send(letter, judged.topic)
                        progress.advance(sending)
            done = True
        finally:
            verb = "would send" if dry_run else "sent"
            _say(console, f"{'' if done else 'stopped: '}{verb} {sent.total():,} of {_letters(selected)}")
            for name in sorted({name for name, _ in sent}):
                reasons = {reason: count for (to, reason), count in sent.items() if to == name}
                _say(console, f"  {sum(reasons.values()):,} to {name}: {counts(reasons)}")
            for skip in [skip for skip in Skip if skip in skipped]:
                _say(console, f"  not {skipped[skip]:,}: {skip}")


def _progress(*, hidden: bool = False) -> Progress:
    """A bar on standard error if that is a terminal, gone when it is done: standard output is the result alone."""
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        redirect_stdout=False,  # to standard error it would be
        redirect_stderr=False,
        disable=hidden or not console.is_terminal,
    )


def _letters(count: int) -> str:
    return f"{count:,} dead letter{'' if count == 1 else 's'}"


def _say(console: Console, line: str) -> None:
    console.print(line, highlight=False, markup=False, soft_wrap=True)
