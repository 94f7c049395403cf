"""POST /v1/interactions: writes events to the input topic. The events are checked as the embed worker checks them.

202 if all were written, 207 if some were, and 400 if none can be: a client that looks at the status alone does not miss a refusal.
"""

from collections.abc import Sequence
from typing import Annotated

import msgspec
from aiohttp import web
from msgspec import Meta

from streams.exceptions import DeliveryError, MessageError
from streams.messages import Interaction, InteractionMessage, parse_interaction
from streams.serve.api.context import Api, Call
from streams.serve.api.parameters import MAX_EVENTS, NoQuery
from streams.serve.api.problems import Problem, RefusedEvent
from streams.serve.api.replies import reply
from streams.serve.api.routes import Route, body_value
from streams.serve.api.types.interactions import InteractionsAnswer, WrittenEvent
from streams.serve.interface import Sent
from streams.text import visible

BODY_BYTES = 4 * 1024**2  # 500 events of 8 kB; most have a few hundred bytes


async def interactions(call: Call[NoQuery, bytes]) -> web.StreamResponse:
    """Write events."""
    raws = split_events(call.body)
    events: list[tuple[int, bytes, Interaction]] = []
    refused: list[RefusedEvent] = []
    for index, raw in enumerate(raws):
        try:
            event = parse_interaction(
                raw,
                now=call.api.clock(),
                max_future=call.api.intake.max_future,
                earliest=call.api.intake.earliest,
            )
        except MessageError as error:
            refused.append(RefusedEvent(index, error.reason, error.field, visible(error)))
            continue
        if event.type == "erase" and "admin" not in call.scopes:
            refused.append(RefusedEvent(index, "not_permitted", "type", "an erase needs the scope admin"))
            continue
        events.append((index, raw, event))
    if not events:
        raise _all_refused(refused)
    written = await send(call.api, [(event.user_id, raw) for _, raw, event in events])
    accepted = [
        WrittenEvent(
            index=index, event_id=event.event_id, topic=sent.topic, partition=sent.partition, offset=sent.offset
        )
        for (index, _, event), sent in zip(events, written, strict=True)
    ]
    return reply(InteractionsAnswer(accepted=accepted, refused=refused), status=207 if refused else 202)


def split_events(content: bytes) -> list[bytes]:
    """The events of a body, each as it was sent. Raises Problem."""
    if not content.lstrip(b" \t\r\n").startswith(b"["):
        body_value(msgspec.Raw, content)  # one event; whatever else it is, it is refused below
        return [content]
    found: list[msgspec.Raw] = body_value(list[msgspec.Raw], content)
    if not 1 <= len(found) <= MAX_EVENTS:
        raise Problem("invalid_field", f"the body has {len(found)} events; expected 1 to {MAX_EVENTS}")
    return [bytes(one) for one in found]


def _all_refused(refused: list[RefusedEvent]) -> Problem:
    first = refused[0]
    more = "" if len(refused) == 1 else f"; and {len(refused) - 1} more"
    return Problem(first.reason, first.detail + more, field=first.field, events=refused)


async def send(api: Api, values: Sequence[tuple[str, bytes]]) -> list[Sent]:
    """Write events to the input topic. Raises Problem if the broker does not take them."""
    try:
        return await api.serving.sender.send(values)
    except DeliveryError as error:
        raise Problem("broker_unreachable", visible(error), retry_after=5) from error


ROUTES = [
    Route(
        method="POST",
        path="/v1/interactions",
        name="interactions",
        summary="Writes one event, or a list of them, to the input topic. An `erase` needs the scope `admin`.",
        scope="write",
        handler=interactions,
        body=InteractionMessage | Annotated[list[InteractionMessage], Meta(min_length=1, max_length=MAX_EVENTS)],
        reads="bytes",
        body_bytes=BODY_BYTES,
        answer=InteractionsAnswer,
        status=202,
        also={207: "Some events were written, and some refused."},
        problems=("message_too_large", "timestamp_too_old", "timestamp_in_future", "broker_unreachable"),
    )
]
