"""The options of `tastestream send`."""

import sys
import time
from enum import StrEnum
from typing import Annotated

import typer

from streams.console import USAGE, fail, on_kafka, read, stdout

app = typer.Typer(rich_markup_mode="rich", add_completion=False)


class TypeChoice(StrEnum):
    view = "view"
    cart = "cart"
    purchase = "purchase"
    return_ = "return"
    erase = "erase"


@app.command(
    epilog="Example: tastestream send --user ada --item B00005N7NQ --type purchase --image https://shop.example/camera.jpg"
)
def send(
    *,
    user: Annotated[str | None, typer.Option(help="The shopper.", metavar="ID", show_default=False)] = None,
    item: Annotated[str | None, typer.Option(help="The item; not for erase.", metavar="ID", show_default=False)] = None,
    kind: Annotated[TypeChoice | None, typer.Option("--type", help="What the shopper did.", show_default=False)] = None,
    image: Annotated[
        str | None,
        typer.Option(help="URL of the item's picture; for view, cart and purchase.", metavar="URL", show_default=False),
    ] = None,
    timestamp: Annotated[
        str | None,
        typer.Option(
            help="When it happened: RFC 3339, or milliseconds since 1970. Default: now.",
            metavar="TIME",
            show_default=False,
        ),
    ] = None,
    event_id: Annotated[
        str | None,
        typer.Option(
            "--event-id", help="Id of the event. Default: made of the other fields.", metavar="ID", show_default=False
        ),
    ] = None,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Do not wait for the answer.")] = False,
    timeout: Annotated[
        float, typer.Option(help="Seconds without an answer until it gives up.", metavar="SECONDS", min=0.1)
    ] = 60.0,
    unchecked: Annotated[
        bool,
        typer.Option("--unchecked", help="Send lines as they are, also those that will become dead letters."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object for each event.")] = False,
) -> None:
    """Send events, wait for the answer to each one, and print it.

    The event comes from the options. Without them, each line of standard input is
    an event as JSON, as it is on the topic: tastestream send < events.jsonl

    The answer is a recommendation, or a dead letter with the reason. An erase is
    answered when the user is erased.

    Exit code 0: each event was answered; 1: there are dead letters, events without
    an answer, or lines that are no events; 69: there is no broker.
    """
    from streams.exceptions import MessageError
    from streams.send.commands import send_lines, send_one
    from streams.send.events import checked_event, event_value

    settings = read()
    wait = None if no_wait else timeout
    fields = {"user_id": user, "item_id": item, "type": kind and kind.value, "image_url": image, "event_id": event_id}
    if timestamp is None and not any(fields.values()):
        if sys.stdin.isatty():
            fail(
                "send needs an event: options such as --user, or JSON lines on standard input. See: tastestream send --help",
                USAGE,
            )
        lines = send_lines(settings, sys.stdin.buffer, stdout(), timeout=wait, as_json=as_json, check=not unchecked)
        good = on_kafka(settings, lines)
    else:
        when = int(timestamp) if timestamp and timestamp.isdecimal() else timestamp
        now = time.time()
        value = event_value(**fields, timestamp=int(now * 1000) if when is None else when)
        try:
            event = checked_event(value, now=now, max_future=settings.max_future, earliest=settings.earliest)
        except MessageError as error:
            fail(f"{error}. See: tastestream send --help", USAGE)
        good = on_kafka(settings, send_one(settings, event, stdout(), timeout=wait, as_json=as_json))
    raise typer.Exit(0 if good else 1)
