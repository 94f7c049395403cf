"""What `tastestream dlq list` and `dlq redrive` do: read or send, show progress on standard error, and print the result."""

import sys
from collections import Counter, deque
from contextlib import nullcontext

from rich.console import Console
from rich.padding import Padding
from rich.progress import Progress
from rich.text import Text

from streams.console import counting_progress, say
from streams.dead_letters.letter_filter import LetterFilter
from streams.dead_letters.reading import DeadLetterReader
from streams.dead_letters.redrive import Plan, Sender, make_plan, verdicts
from streams.dead_letters.verdict import Skip
from streams.dlq.report import counts, json_line, record
from streams.settings import Settings

INDENT = 2  # columns of the lines below the first one of a letter


async def list_letters(settings: Settings, letter_filter: LetterFilter, console: Console) -> None:
    """Print the selected letters, newest last, and count them by reason. Raises TastestreamError."""
    newest: deque[list[Text]] = deque(maxlen=letter_filter.limit)
    reasons: Counter[str] = Counter()
    async with DeadLetterReader(settings) as topic:
        with counting_progress(hidden=console.is_terminal) as progress:  # on a terminal the letters show progress
            plan = await _planned(topic, letter_filter, progress)
            reading = progress.add_task("listing", total=plan.letters)
            async for letter in topic.letters():
                progress.advance(reading)
                if letter_filter.matches(letter):
                    reasons[letter.reason] += 1
                    newest.append(record(letter, plan.history.attempts(letter)))
                    if letter_filter.limit is None:  # no later letter can displace this one
                        _print(console, newest.pop())
    if not reasons:
        say(
            console,
            f"none of {_letters(plan.letters)} on {topic.name} matches" if plan.letters else f"{topic.name} is empty",
        )
        return
    for one in newest:
        _print(console, one)
    count = min(reasons.total(), letter_filter.limit or reasons.total())
    shown = "" if count == reasons.total() else f", the newest {count:,} shown"
    say(console, f"{_letters(reasons.total())}{shown}: {counts(reasons)}")


def _print(console: Console, lines: list[Text]) -> None:
    """Print a letter: its first line, and the others below it, wrapped on a terminal and whole elsewhere."""
    head, *details = lines
    console.print(head, soft_wrap=True)
    for line in details:
        if console.is_terminal:
            console.print(Padding(line, (0, 0, 0, INDENT)))
        else:
            console.print(Text(" " * INDENT).append(line), soft_wrap=True)


async def list_as_json(settings: Settings, letter_filter: LetterFilter) -> None:
    """Print the selected letters as lines of JSON, newest last. Raises TastestreamError."""
    newest: deque[str] = deque(maxlen=letter_filter.limit)
    async with DeadLetterReader(settings) as topic:
        with counting_progress(
            hidden=sys.stdout.isatty()
        ) as progress:  # on a terminal the lines themselves show progress
            plan = await _planned(topic, letter_filter, progress)
            reading = progress.add_task("listing", total=plan.letters)
            async for letter in topic.letters():
                progress.advance(reading)
                if letter_filter.matches(letter):
                    newest.append(json_line(letter, plan.history.attempts(letter)))
                    if letter_filter.limit is None:  # no later letter can displace this one
                        sys.stdout.write(newest.pop())
    sys.stdout.writelines(newest)


async def redrive_letters(
    settings: Settings, letter_filter: LetterFilter, console: Console, *, max_attempts: int, rate: float, dry_run: bool
) -> None:
    """Send the events of the selected letters again, and print how many were sent, even if it ends early.

    Args:
        settings: Where the topics are.
        letter_filter: The letters.
        console: Where the result is printed.
        max_attempts: Number of times that one event is sent again at most.
        rate: Events a second at most.
        dry_run: Print how many would be sent, and send nothing.

    Raises:
        TastestreamError: The broker or a topic does not permit it.
    """
    sent: Counter[tuple[str, str]] = Counter()  # by topic and reason
    skipped: Counter[Skip] = Counter()
    selected, doubtful, done = 0, 0, False
    async with DeadLetterReader(settings) as topic:
        try:
            with counting_progress() as progress:
                plan = await _planned(topic, letter_filter, progress)
            selected = plan.selected
            with counting_progress() as progress:
                sending = progress.add_task("would send" if dry_run else "sending", total=selected)
                async with nullcontext() if dry_run else Sender(settings, rate, sent) as sender:
                    async for letter, judged in verdicts(
                        settings, topic, letter_filter, plan, max_attempts=max_attempts
                    ):
                        if isinstance(judged, Skip):
                            skipped[judged] += 1
                        else:
                            doubtful += judged.doubtful
                            if sender is None:
                                sent[judged.topic, letter.reason] += 1
                            else:
                                await sender.send(letter, judged)
                        progress.advance(sending)
            done = True
        finally:
            verb = "would send" if dry_run else "sent"
            say(console, f"{'' if done else 'stopped: '}{verb} {sent.total():,} of {_letters(selected)}")
            for name in sorted({name for name, _ in sent}):
                reasons = {reason: count for (to, reason), count in sent.items() if to == name}
                say(console, f"  {sum(reasons.values()):,} to {name}: {counts(reasons)}")
            if doubtful:
                say(
                    console,
                    f"  {doubtful:,} of these may have been sent before: an earlier run was killed while it sent them",
                )
            for skip in [skip for skip in Skip if skip in skipped]:
                say(console, f"  {skipped[skip]:,} not sent: {skip}")


async def _planned(topic: DeadLetterReader, letter_filter: LetterFilter, progress: Progress) -> Plan:
    reading = progress.add_task(f"reading {topic.name}", total=len(topic))
    return await make_plan(topic, letter_filter, lambda: progress.advance(reading))


def _letters(count: int) -> str:
    return f"{count:,} dead letter{'' if count == 1 else 's'}"
