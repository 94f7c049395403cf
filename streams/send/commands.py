"""What `tastestream send` does: send, wait, and print what each event caused."""

import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from typing import BinaryIO

from rich.text import Text

from streams.console import PlainConsole, print_error
from streams.dead_letter import Letter
from streams.exceptions import MessageError
from streams.send.answers import Answer
from streams.send.events import Event, checked_event, unchecked_event
from streams.send.lines import line_groups
from streams.send.report import details, heading, json_line, sent_json, summary
from streams.send.sending import EventSender
from streams.settings import Settings
from streams.text import visible


class Sending:
    """Sends groups of events, and prints and counts what they caused."""

    def __init__(self, sender: EventSender, console: PlainConsole, *, timeout: float | None, as_json: bool) -> None:
        """Nothing is sent yet. `timeout`: seconds without an answer; None to wait for none."""
        self.counts: Counter[str] = Counter()
        self._sender = sender
        self._console = console
        self._timeout = timeout
        self._as_json = as_json

    async def send(self, events: Sequence[Event]) -> None:
        """Send events and print what they caused. Raises TastestreamError."""
        for sent in await self._sender.send(events):
            if self._timeout is not None:
                continue
            self.counts["sent"] += 1
            if self._as_json:
                sys.stdout.write(sent_json(sent))
            else:
                self._line(Text.assemble((visible(sent.event.name), "bold"), f": sent, {sent.place}"))
        if self._timeout is None:
            return
        hidden = self._as_json or not self._console.is_terminal
        with nullcontext() if hidden else self._console.status("waiting for answers"):
            async for sent, answer, seconds in self._sender.answers(self._timeout):
                self.counts[_outcome(answer)] += 1
                if self._as_json:
                    sys.stdout.write(json_line(sent, answer, seconds))
                    sys.stdout.flush()
                    continue
                self._line(heading(sent, answer, seconds))
                for line in details(answer):
                    self._line(Text(f"  {line}"))

    def _line(self, line: Text) -> None:
        self._console.print(line, soft_wrap=True)


def _outcome(answer: Answer | None) -> str:
    if answer is None:
        return "without an answer"
    return "dead letters" if isinstance(answer, Letter) else "answered"


async def send_one(
    settings: Settings, event: Event, console: PlainConsole, *, timeout: float | None, as_json: bool
) -> bool:
    """Send an event and print what it caused. Returns whether it was answered. Raises TastestreamError."""
    async with EventSender(settings, wait=timeout is not None) as sender:
        sending = Sending(sender, console, timeout=timeout, as_json=as_json)
        await sending.send([event])
    return _good(sending.counts)


async def send_lines(
    settings: Settings,
    stream: BinaryIO,
    console: PlainConsole,
    *,
    timeout: float | None,
    as_json: bool,
    check: bool,
) -> bool:
    """Send each line of JSON, and print what it caused. Raises TastestreamError.

    Args:
        settings: Where the topics are.
        stream: The lines. Blank ones are skipped.
        console: Where the result is printed.
        timeout: Seconds without an answer; None to wait for none.
        as_json: Print JSON lines.
        check: Refuse what the embed worker would refuse, with one line on standard error, and send the others.

    Returns:
        Whether each line was an event and was answered.
    """
    number = 0
    async with EventSender(settings, wait=timeout is not None) as sender:
        sending = Sending(sender, console, timeout=timeout, as_json=as_json)
        async for lines in line_groups(stream):
            events: list[Event] = []
            for line in lines:
                number += 1
                if not line:
                    continue
                try:
                    events.append(_event(settings, line, check=check))
                except MessageError as error:
                    sending.counts["refused"] += 1
                    print_error(f"line {number}: {error}")
            await sending.send(events)
        if not as_json:
            console.print(summary(sending.counts))
    return _good(sending.counts)


def _event(settings: Settings, line: bytes, *, check: bool) -> Event:
    if not check:
        return unchecked_event(line)
    return checked_event(line, now=time.time(), max_future=settings.max_future, earliest=settings.earliest)


def _good(counts: Counter[str]) -> bool:
    return not any(counts[bad] for bad in ("dead letters", "without an answer", "refused"))
