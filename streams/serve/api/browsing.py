"""The catalogue itself: its newest items, those that bags hold, those without a picture; and one item."""

from collections.abc import Sequence
from functools import partial

import numpy as np
from aiohttp import web

from model.quantization import dequantize
from streams.messages import as_datetime
from streams.serve.api.context import Api, Call, replica
from streams.serve.api.item_answers import check_codes
from streams.serve.api.parameters import ListingQuery, NoQuery
from streams.serve.api.problems import Problem
from streams.serve.api.replies import reply
from streams.serve.api.routes import Route
from streams.serve.api.types import CatalogueItem, CatalogueItems, Neighbour
from streams.serve.interface import Catalogue, Item, Wanted
from streams.text import visible


async def items(call: Call[ListingQuery, None]) -> web.StreamResponse:
    """Some items of the catalogue."""
    catalogue, query = call.api.serving.catalogue, call.query
    with replica():
        places = catalogue.listing(query.which, query.n)
        coded = [] if query.which == "without_picture" else places
        neighbours = await _neighbours(call.api, coded)
        found = [
            _answer(catalogue, item, place, neighbours)
            for item, place in zip(catalogue.at(places), places, strict=True)
        ]
    return reply(CatalogueItems(items=found))


async def item(call: Call[NoQuery, None]) -> web.StreamResponse:
    """One item."""
    catalogue, item_id = call.api.serving.catalogue, call.item_id
    with replica():
        found, place = catalogue.get(item_id), catalogue.place(item_id)
        if found is None:
            raise Problem("unknown_item", f"{visible(item_id)} is not in the catalogue", field="item_id")
        neighbours = await _neighbours(call.api, [] if place is None else [place])
        return reply(_answer(catalogue, found, place, neighbours))


async def _neighbours(api: Api, places: Sequence[int]) -> dict[int, Neighbour]:
    """The item that is most like each of those at some places, which have codes. Raises Problem."""
    if not places:
        return {}
    catalogue, bundle = api.serving.catalogue, api.serving.scorer().recommender.bundle
    codes = check_codes(catalogue, places, bundle)
    found = await api.in_thread(partial(_nearest, catalogue, codes, places, bundle.embedding_size))
    holders = catalogue.popularity
    others = catalogue.at([other for _, other, _ in found])
    return {
        place: Neighbour(
            item_id=one.item_id, image_url=one.image_url, score=round(cosine, 6), holders=int(holders[other])
        )
        for one, (place, other, cosine) in zip(others, found, strict=True)
    }


def _nearest(
    catalogue: Catalogue, codes: Sequence[bytes], places: Sequence[int], size: int
) -> list[tuple[int, int, float]]:
    """Each place, the place of the item that is most like it, and the cosine."""
    mask = catalogue.mask(Wanted())
    near, cosines = catalogue.nearest(dequantize(codes, size), 2, mask)
    found: list[tuple[int, int, float]] = []
    for place, others, values in zip(places, near.tolist(), cosines.tolist(), strict=True):
        pairs = zip(others, values, strict=True)
        best = next(((other, value) for other, value in pairs if other != place and np.isfinite(value)), None)
        if best is not None:
            found.append((place, *best))
    return found


def _answer(catalogue: Catalogue, item: Item, place: int | None, neighbours: dict[int, Neighbour]) -> CatalogueItem:
    nearest = None if place is None else neighbours.get(place)
    return CatalogueItem(
        item_id=item.item_id,
        image_url=item.image_url,
        title=item.title,
        categories=item.categories,
        price=item.price,
        in_stock=item.in_stock,
        url=item.url,
        listed=item.listed,
        arrived=as_datetime(item.arrived) if item.arrived else None,
        pictured=place is not None and catalogue.place(item.item_id) == place,
        holders=0 if place is None else int(catalogue.popularity[place]),
        nearest=nearest,
    )


ROUTES = [
    Route(
        method="GET",
        path="/v1/items",
        name="items",
        summary="Items of the catalogue: the newest, those that bags hold, or those without a picture.",
        scope="read",
        handler=items,
        query=ListingQuery,
        answer=CatalogueItems,
        problems=("state_unreadable", "not_ready", "busy"),
    ),
    Route(
        method="GET",
        path="/v1/items/{item_id}",
        name="item",
        summary="An item of the catalogue.",
        scope="read",
        handler=item,
        answer=CatalogueItem,
        problems=("unknown_item", "state_unreadable", "not_ready", "busy"),
    ),
]
