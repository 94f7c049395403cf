"""What a user is likely to want, and why: recommendations, the bag, the explanation, the ranking of given items."""

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial

from aiohttp import hdrs, web
from msgspec import UNSET

from model.item_search.ranking import Options
from streams.messages import Model, as_datetime
from streams.profile.bag import Bag, Moment, Slot
from streams.profile.scoring import InFull, Recommender
from streams.serve.api.context import Api, Call, replica
from streams.serve.api.item_answers import best, left_out, wanted_of
from streams.serve.api.parameters import (
    Candidates,
    NoQuery,
    RecommendationQuery,
    TasteQuery,
    UserList,
    UserQuery,
)
from streams.serve.api.problems import Problem
from streams.serve.api.replies import etag_of, is_known, not_modified, reply
from streams.serve.api.routes import Route
from streams.serve.api.scoring import score_bags
from streams.serve.api.types.items import RecommendedItem
from streams.serve.api.types.users import (
    BagEntry,
    NotScored,
    RankedItems,
    RecommendationAnswer,
    RecommendationList,
    UserAnswer,
)
from streams.serve.interface import Held, Scorer, Wanted

MINUTE = 60_000  # milliseconds for which an answer at the clock counts as the same: ages and windows move slowly
_HELD = ("not_served", "not_ready", "state_unreadable", "invalid_scores")


def newest_event(bag: Bag) -> Moment | None:
    """The newest event of a bag."""
    return max((moment for slot in bag.slots.values() for moment in slot.newest.values()), default=None)


def model_of(recommender: Recommender) -> Model:
    """The bundle in use."""
    return Model(recommender.bundle.name, recommender.bundle.version)


def as_answer(
    user_id: str,
    held: Held,
    full: InFull,
    recommender: Recommender,
    *,
    newest: Moment | None,
    now: datetime,
    items: list[RecommendedItem],
    up_to_date: bool | None = None,
) -> RecommendationAnswer:
    """What is said of a user who was scored."""
    answer = full.answer
    return RecommendationAnswer(
        user_id=user_id,
        event_id=newest.event_id if newest else "",
        timestamp=as_datetime(newest.timestamp) if newest else None,
        produced_at=now,
        model=model_of(recommender),
        bag_size=len(answer.items),
        cold_start=not answer.items,
        categories=answer.categories,
        attention=answer.attention,
        fields=answer.fields,
        trend_version=answer.trend_version,
        items=items,
        state=held.state,
        up_to_date=up_to_date,
    )


async def items_for(
    api: Api, scorer: Scorer, full: InFull, query: TasteQuery, without: Sequence[str]
) -> list[RecommendedItem]:
    """The items to recommend to somebody who was scored."""
    if not query.items:
        return []
    options = Options(count=query.items, diversity=query.diversity)
    return await best_items(api, scorer, full, wanted_of(query, without), options)


async def best_items(
    api: Api,
    scorer: Scorer,
    full: InFull,
    wanted: Wanted,
    options: Options,
    *,
    only: Sequence[int] | None = None,
) -> list[RecommendedItem]:
    """The best of the items that are wanted. `only`: places, which are all ranked; None to look for the best."""
    catalogue = api.catalogue
    with replica():
        return await api.in_thread(
            partial(best, scorer.recommender, catalogue, full, wanted=wanted, options=options, only=only)
        )


async def recommendations(call: Call[RecommendationQuery, None]) -> web.StreamResponse:
    """What the user wants next."""
    api, query, user_id = call.api, call.query, call.user_id
    up_to_date = None
    if query.event_id is not UNSET:
        with replica():
            up_to_date = await api.serving.bags.holds(user_id, query.event_id, query.wait_ms / 1000)
    held, scorer = api.held(user_id), api.serving.scorer()
    newest = newest_event(held.bag)
    moment = newest.timestamp if newest is not None and query.at == "event" else api.now
    recommender, state = scorer.recommender, held.state
    bundle = recommender.bundle
    facts = (
        (user_id, state.partition, state.offset, state.source, up_to_date, query),
        (bundle.name, bundle.version, bundle.embedder_version, scorer.trend.version),
        moment // MINUTE if recommender.uses_trend else None,
    )
    etag = etag_of(*facts)
    if not query.items and is_known(call.request, etag):
        return not_modified(etag)
    full = await api.scoring.score(scorer, held.bag, moment, query.k)
    items = await items_for(api, scorer, full, query, left_out(query, held.bag))
    if items:  # the catalogue changes beside the bag
        etag = etag_of(*facts, items)
        if is_known(call.request, etag):
            return not_modified(etag)
    now = datetime.now(UTC)
    answer = as_answer(user_id, held, full, recommender, newest=newest, now=now, items=items, up_to_date=up_to_date)
    return reply(answer, headers={hdrs.ETAG: etag, hdrs.CACHE_CONTROL: "private, no-cache"})


async def many_users(call: Call[NoQuery, UserList]) -> web.StreamResponse:
    """What each of many users wants next. They are scored together, on another thread."""
    api, asked = call.api, call.body
    scorer, moment = api.serving.scorer(), api.now
    held = [api.held(user_id) for user_id in asked.users]
    scored = await api.in_thread(score_bags, scorer, [(one.bag, moment) for one in held], asked.k)
    query, now = TasteQuery(items=asked.items), datetime.now(UTC)
    answers = [
        as_answer(
            user_id,
            one,
            full,
            scorer.recommender,
            newest=newest_event(one.bag),
            now=now,
            items=await items_for(api, scorer, full, query, left_out(query, one.bag)),
        )
        for user_id, one, full in zip(asked.users, held, scored, strict=True)
    ]
    return reply(RecommendationList(answers))


async def rank(call: Call[NoQuery, Candidates]) -> web.StreamResponse:
    """The caller's items, best first for the user."""
    api, user_id = call.api, call.user_id
    held, scorer = api.held(user_id), api.serving.scorer()
    wanted_ids = list(dict.fromkeys(call.body.items))
    with replica():
        places = {item_id: api.catalogue.place(item_id) for item_id in wanted_ids}
    full = await api.scoring.score(scorer, held.bag, api.now, UNSET)
    known = [place for place in places.values() if place is not None]
    items = await best_items(api, scorer, full, Wanted(), Options(), only=known) if known else []
    unknown = [item_id for item_id, place in places.items() if place is None]
    return reply(RankedItems(user_id=user_id, items=items, unknown=unknown, state=held.state))


async def user(call: Call[UserQuery, None]) -> web.StreamResponse:
    """The bag of the user, and what it says."""
    api, user_id = call.api, call.user_id
    held, scorer = known_user(api, user_id), api.serving.scorer()
    full = await api.scoring.score(scorer, held.bag, api.now, call.query.k)
    recommender = scorer.recommender
    weights = dict(zip((item.item_id for item in full.answer.items), full.attention.tolist(), strict=True))
    slots = sorted(held.bag.slots.values(), key=lambda slot: slot.last, reverse=True)
    answer = UserAnswer(
        user_id=user_id,
        items=[entry(slot, recommender, weights.get(slot.item_id)) for slot in slots],
        categories=full.answer.categories,
        attention=full.answer.attention,
        model=model_of(recommender),
        state=held.state,
    )
    return reply(answer)


def known_user(api: Api, user_id: str) -> Held:
    """The bag of a user of whom something is held. Raises Problem."""
    held = api.held(user_id)
    if not held.bag.slots:
        raise Problem("unknown_user", f"nothing is held on this user (replica: {held.state.source})")
    return held


def entry(slot: Slot, recommender: Recommender, weight: float | None) -> BagEntry:
    """An item of a bag. `weight`: its attention; None if it was not scored."""
    picture = slot.picture(recommender.embedder.version) or slot.newest_picture
    return BagEntry(
        item_id=slot.item_id,
        types={kind: as_datetime(moment.timestamp) for kind, moment in sorted(slot.newest.items())},
        image_url=picture.image_url if picture else "",
        scored=weight is not None,
        weight=None if weight is None else round(weight, 6),
        not_scored=None if weight is not None else why_not(slot, recommender),
    )


def why_not(slot: Slot, recommender: Recommender) -> NotScored:
    """Why an item of a bag was not scored."""
    since, picture = slot.since_return, slot.picture(recommender.embedder.version)
    if not since:
        return "returned"
    if picture is None or len(picture.embedding) != recommender.embedder.row_bytes:
        return "no_embedding"
    weights = recommender.options.type_weights
    return "beyond_bag_size" if any(weights.get(kind, 0) for kind in since) else "weight_zero"


_USER = "/v1/users/{user_id}"
ROUTES = [
    Route(
        method="GET",
        path=_USER,
        name="user",
        summary="The bag of a user, and what it says now.",
        scope="read",
        handler=user,
        query=UserQuery,
        answer=UserAnswer,
        problems=(*_HELD, "unknown_user"),
    ),
    Route(
        method="GET",
        path=f"{_USER}/recommendations",
        name="recommendations",
        summary="What a user wants next. A user who is unknown gets the prior, and popular items.",
        scope="read",
        handler=recommendations,
        query=RecommendationQuery,
        answer=RecommendationAnswer,
        also={304: "The client has this answer: `If-None-Match` names its `ETag`."},
        problems=(*_HELD, "catalogue_not_ready", "busy"),
    ),
    Route(
        method="POST",
        path=f"{_USER}/rank",
        name="rank",
        summary="Ranks given items for a user.",
        scope="read",
        handler=rank,
        body=Candidates,
        answer=RankedItems,
        problems=(*_HELD, "catalogue_not_ready", "busy"),
    ),
    Route(
        method="POST",
        path="/v1/users:batch",
        name="many_users",
        summary="What many users want next.",
        scope="read",
        handler=many_users,
        body=UserList,
        answer=RecommendationList,
        problems=(*_HELD, "catalogue_not_ready", "busy"),
    ),
]
