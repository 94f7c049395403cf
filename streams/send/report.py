"""What an event caused, for people and as a line of JSON. Pure."""

from collections.abc import Mapping
from typing import Any

import msgspec
from rich.text import Text

from streams.dead_letter import Letter
from streams.messages import Recommendation
from streams.send.answers import Answer, Erased, Sent
from streams.text import visible, visible_json

TOP = 3  # categories and items of the answer that people see; the JSON has all of them


def heading(sent: Sent, answer: Answer | None, seconds: float) -> Text:
    """The event and what it caused, on one line."""
    name = Text(visible(sent.event.name), "bold")
    if answer is None:
        return Text.assemble(name, ": ", ("no answer", "red"), f" within {seconds:.0f} s ({sent.place})")
    after = f" after {seconds:.2f} s"
    match answer:
        case Letter():
            return Text.assemble(name, ": ", (f"dead letter, {visible(answer.reason) or 'unknown'}", "red"), after)
        case Erased():
            return Text.assemble(name, ": ", ("erased", "green"), after)
        case Recommendation():
            return Text.assemble(name, ": ", ("recommendation", "green"), after)


def details(answer: Answer | None) -> list[str]:
    """The lines below the heading."""
    match answer:
        case Letter():
            place = f"dead letter {answer.partition}/{answer.offset}, by the {answer.worker or 'unknown'} worker"
            error = f"{answer.field}: {answer.error}" if answer.field else answer.error
            return [visible(error), visible(place)]
        case Recommendation():
            scores = ", ".join(f"{one.category} {one.score:.2f}" for one in answer.categories[:TOP])
            items = ", ".join(f"{one.item_id} {one.weight:.2f}" for one in answer.attention[:TOP])
            count = f"{answer.bag_size} item{'' if answer.bag_size == 1 else 's'}"
            return [visible(scores), visible(f"from {count} in the bag{': ' if items else ''}{items}")]
        case _:
            return []


def json_line(sent: Sent, answer: Answer | None, seconds: float) -> str:
    """The same as one line of JSON, with its line end. `outcome` says which other fields there are."""
    fields: dict[str, Any] = {"outcome": "no_answer"}
    match answer:
        case Letter():
            fields = {
                "outcome": "dead_letter",
                "reason": answer.reason,
                "field": answer.field,
                "error": answer.error,
                "worker": answer.worker,
            }
        case Erased():
            fields = {"outcome": "erased"}
        case Recommendation():
            fields = {"outcome": "recommendation", "recommendation": answer}
        case None:
            pass
    return _json(sent, **fields, seconds=round(seconds, 3))


def sent_json(sent: Sent) -> str:
    """An event whose answer is not awaited, as one line of JSON with its line end."""
    return _json(sent, outcome="sent")


def _json(sent: Sent, *, outcome: str, **fields: Any) -> str:
    event = {"outcome": outcome, "user_id": sent.event.user_id, "event_id": sent.event.event_id}
    return visible_json(msgspec.json.encode(event | sent.place._asdict() | fields).decode()) + "\n"


def summary(counts: Mapping[str, int]) -> str:
    """How many events came to what, those that are not 0."""
    total = sum(counts.values())
    parts = ", ".join(f"{count:,} {what}" for what, count in counts.items() if count)
    return f"{total:,} event{'' if total == 1 else 's'}: {parts}"
