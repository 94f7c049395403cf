"""What is held on a user, and its erasure."""

import secrets
from datetime import UTC, datetime
from urllib.parse import quote

import msgspec
from aiohttp import hdrs, web
from msgspec import UNSET

from streams.messages import as_datetime
from streams.profile.bag import Moment
from streams.serve.api.context import Call
from streams.serve.api.interactions import send
from streams.serve.api.parameters import ErasureQuery, NoQuery
from streams.serve.api.replies import reply
from streams.serve.api.routes import Route
from streams.serve.api.types.privacy import (
    ErasureAnswer,
    ErasureStarted,
    ExportAnswer,
    ExportedEvent,
    ExportedItem,
    ExportedPicture,
)
from streams.serve.api.users import known_user, model_of

_USER = "/v1/users/{user_id}"


async def erase(call: Call[NoQuery, None]) -> web.StreamResponse:
    """Write an `erase` event. It covers everything up to now."""
    user_id, until = call.user_id, call.api.now
    event_id = f"erase-{secrets.token_hex(16)}"
    event = {"event_id": event_id, "user_id": user_id, "type": "erase", "timestamp": until}
    [sent] = await send(call.api, [(user_id, msgspec.json.encode(event))])
    status = f"/v1/users/{quote(user_id, safe='')}/erasure?until={until}"
    answer = ErasureStarted(
        event_id=event_id,
        until=until,
        topic=sent.topic,
        partition=sent.partition,
        offset=sent.offset,
        status=status,
    )
    return reply(answer, status=202, headers={hdrs.LOCATION: status})


async def erasure(call: Call[ErasureQuery, None]) -> web.StreamResponse:
    """Whether an erasure is done here: the floor of the bag is above its time."""
    held = call.api.held(call.user_id)
    floor = held.bag.floor
    done = floor is not None and floor >= Moment(call.query.until + 1, "", "", "")
    return reply(ErasureAnswer(done=done, state=held.state), headers={hdrs.CACHE_CONTROL: "no-store"})


async def export(call: Call[NoQuery, None]) -> web.StreamResponse:
    """Everything that the bag holds."""
    held, scorer = known_user(call.api, call.user_id), call.api.serving.scorer()
    full = await call.api.scoring.score(scorer, held.bag, call.api.now, UNSET)
    floor = held.bag.floor
    answer = ExportAnswer(
        user_id=call.user_id,
        exported_at=datetime.now(UTC),
        forgotten_until=as_datetime(floor.timestamp) if floor else None,
        items=[
            ExportedItem(
                item_id=slot.item_id,
                events=[
                    ExportedEvent(type=kind, event_id=moment.event_id, timestamp=as_datetime(moment.timestamp))
                    for kind, moment in sorted(slot.newest.items())
                ],
                pictures=[
                    ExportedPicture(
                        image_url=picture.image_url,
                        embedder=picture.embedder_version,
                        embedding=picture.embedding,
                        adapted=picture.adapted,
                        event_id=picture.moment.event_id,
                    )
                    for picture in slot.pictures
                ],
            )
            for slot in sorted(held.bag.slots.values(), key=lambda slot: slot.last, reverse=True)
        ],
        categories=full.answer.categories,
        model=model_of(scorer.recommender),
        state=held.state,
    )
    return reply(answer, headers={hdrs.CACHE_CONTROL: "no-store", hdrs.CONTENT_DISPOSITION: "attachment"})


_HELD = ("not_served", "not_ready", "state_unreadable")
ROUTES = [
    Route(
        method="DELETE",
        path=_USER,
        name="erase",
        summary="Erases everything up to now. `Location` says whether it is done.",
        scope="admin",
        handler=erase,
        answer=ErasureStarted,
        status=202,
        problems=("broker_unreachable",),
    ),
    Route(
        method="GET",
        path=f"{_USER}/erasure",
        name="erasure",
        summary="Whether an erasure is done.",
        scope="admin",
        handler=erasure,
        query=ErasureQuery,
        answer=ErasureAnswer,
        problems=(*_HELD, "missing_field"),
    ),
    Route(
        method="GET",
        path=f"{_USER}/export",
        name="export",
        summary="Everything that is held on a user. Topics keep events for their retention beside that.",
        scope="admin",
        handler=export,
        answer=ExportAnswer,
        problems=(*_HELD, "unknown_user", "invalid_scores"),
    ),
]
