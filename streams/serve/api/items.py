"""Items that look like another item, or like a picture."""

from aiohttp import web
from msgspec import Struct

from model.bundle import Bundle
from streams.serve.api.context import Api, Call, replica
from streams.serve.api.item_answers import check_embedder, similar, wanted_of
from streams.serve.api.parameters import PictureForm, PictureUrl, SimilarQuery
from streams.serve.api.pictures import pictures_of
from streams.serve.api.problems import Problem
from streams.serve.api.replies import known_or_reply, reply
from streams.serve.api.routes import Route
from streams.serve.api.types.items import RecommendedItem, SimilarItems
from streams.text import visible


class OnePicture(Struct, frozen=True, forbid_unknown_fields=True):
    """A picture on the web."""

    picture: PictureUrl


async def similar_to_item(call: Call[SimilarQuery, None]) -> web.StreamResponse:
    """Items that look like one of the catalogue."""
    catalogue, item_id = call.api.catalogue, call.item_id
    with replica():
        place = catalogue.place(item_id)
        if place is None:
            raise Problem("unknown_item", f"{visible(item_id)} has no picture that is known", field="item_id")
        [code] = catalogue.codes([place])
    items = await _like(call.api, code, call.api.serving.scorer().recommender.bundle, call.query, item_id)
    return known_or_reply(call.request, SimilarItems(items=items))


async def similar_to_picture(call: Call[SimilarQuery, None]) -> web.StreamResponse:
    """Items that look like a picture of the caller."""
    bundle = call.api.serving.scorer().recommender.bundle
    async with pictures_of(call, OnePicture, most=1) as pictures:
        [tasted] = await call.api.serving.taster.taste([one.picture for one in pictures])
    if not tasted.code:
        raise Problem("unusable_picture", f"{tasted.reason}: {visible(tasted.detail)}", field="picture")
    return reply(SimilarItems(items=await _like(call.api, tasted.code, bundle, call.query)))


async def _like(api: Api, code: bytes, bundle: Bundle, query: SimilarQuery, *without: str) -> list[RecommendedItem]:
    """The items that look like what a bundle made a code of. Raises Problem if another one was loaded since."""
    catalogue = api.catalogue
    check_embedder(catalogue, bundle)
    with replica():
        return await api.in_thread(similar, catalogue, code, bundle.embedding_size, wanted_of(query, without), query.n)


ROUTES = [
    Route(
        method="GET",
        path="/v1/items/{item_id}/similar",
        name="similar_to_item",
        summary="Items that look like an item.",
        scope="read",
        handler=similar_to_item,
        query=SimilarQuery,
        answer=SimilarItems,
        also={304: "The client has this answer: `If-None-Match` names its `ETag`."},
        problems=("unknown_item", "state_unreadable", "not_ready", "catalogue_not_ready", "busy"),
    ),
    Route(
        method="POST",
        path="/v1/items/similar",
        name="similar_to_picture",
        summary="Items that look like a picture. The picture is not stored.",
        scope="read",
        handler=similar_to_picture,
        query=SimilarQuery,
        body=OnePicture,
        reads="itself",
        form=PictureForm,
        answer=SimilarItems,
        problems=(
            "unusable_picture",
            "too_many_pictures",
            "invalid_form",
            "state_unreadable",
            "not_ready",
            "catalogue_not_ready",
        ),
    ),
]
