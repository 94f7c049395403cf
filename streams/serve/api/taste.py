"""POST /v1/taste: what the pictures of somebody say. Nothing is stored."""

from collections.abc import Sequence

from aiohttp import web

from model.bundle import Bundle
from model.quantization import HEADER_BYTES
from streams.messages import EmbeddedInteraction
from streams.profile.bag import Bag, fold
from streams.serve.api.context import Call
from streams.serve.api.item_answers import another_bundle
from streams.serve.api.parameters import MAX_PICTURES, PictureForm, PictureList, TasteQuery
from streams.serve.api.pictures import Given, pictures_of
from streams.serve.api.replies import reply
from streams.serve.api.routes import Route
from streams.serve.api.types.taste import PictureFate, TasteAnswer
from streams.serve.api.users import items_for, model_of
from streams.serve.interface import Tasted
from streams.text import visible


def bag_of(bundle: Bundle, given: Sequence[Given], tasted: Sequence[Tasted], moment: int) -> Bag:
    """The bag that a user with these pictures would have. The item of the first picture is "1".

    Args:
        bundle: whose codes these are.
        given: the pictures.
        tasted: what became of each.
        moment: when all were touched, milliseconds since the epoch.
    """
    bag = Bag()
    for number, (one, fate) in enumerate(zip(given, tasted, strict=True), start=1):
        if len(fate.code) != HEADER_BYTES + bundle.embedding_size:
            continue
        event = EmbeddedInteraction(
            event_id=f"{number:02}",
            user_id="-",
            item_id=str(number),
            type=one.type,
            timestamp=moment,
            embedder_version=bundle.embedder_version,
            embedding=fate.code,
        )
        bag = fold(bag, event, max_slots=MAX_PICTURES, kept={bundle.embedder_version})
    return bag


async def taste(call: Call[TasteQuery, None]) -> web.StreamResponse:
    """What the pictures of a request say."""
    api, query = call.api, call.query
    scorer = api.serving.scorer()
    async with pictures_of(call, PictureList, most=MAX_PICTURES) as given:
        tasted = await api.serving.taster.taste([one.picture for one in given])
    moment = api.now
    if api.serving.scorer().recommender.bundle.embedder_version != scorer.recommender.bundle.embedder_version:
        raise another_bundle()  # nobody knows which of the two made a code
    bag = bag_of(scorer.recommender.bundle, given, tasted, moment)
    full = await api.scoring.score(scorer, bag, moment, query.k)
    answer = full.answer
    weights = dict(zip((item.item_id for item in answer.items), full.attention.tolist(), strict=True))
    fates = [
        PictureFate(
            item_id=str(number),
            name=visible(one.name),
            type=one.type,
            weight=round(weights[str(number)], 6) if str(number) in weights else None,
            reason=fate.reason,
            detail=visible(fate.detail),
        )
        for number, (one, fate) in enumerate(zip(given, tasted, strict=True), start=1)
    ]
    return reply(
        TasteAnswer(
            model=model_of(scorer.recommender),
            bag_size=len(answer.items),
            cold_start=not answer.items,
            categories=answer.categories,
            attention=answer.attention,
            fields=answer.fields,
            items=await items_for(api, scorer, full, query, ()),
            pictures=fates,
        )
    )


ROUTES = [
    Route(
        method="POST",
        path="/v1/taste",
        name="taste",
        summary="What the pictures of somebody say. Nothing is stored.",
        scope="read",
        handler=taste,
        query=TasteQuery,
        body=PictureList,
        reads="itself",
        form=PictureForm,
        answer=TasteAnswer,
        problems=(
            "too_many_pictures",
            "invalid_form",
            "invalid_scores",
            "state_unreadable",
            "not_ready",
            "catalogue_not_ready",
        ),
    )
]
