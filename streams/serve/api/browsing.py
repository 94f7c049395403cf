"""The catalogue itself: its newest items, those that bags hold, those without a picture, duplicates; and one item."""

from collections.abc import Sequence
from functools import partial

import numpy as np
from aiohttp import web
from msgspec.structs import asdict

from model.item_search.twins import Groups
from model.quantization import dequantize
from streams.messages import as_datetime
from streams.serve.api.context import Api, Call, replica
from streams.serve.api.duplicates import ALIKE, DuplicateSearch
from streams.serve.api.item_answers import check_embedder, described
from streams.serve.api.parameters import ArrivalsQuery, DuplicatesQuery, ListingQuery, NoQuery
from streams.serve.api.problems import Problem
from streams.serve.api.replies import known_or_reply, reply
from streams.serve.api.routes import Route
from streams.serve.api.tastes import RECOMMENDED
from streams.serve.api.types.catalogue import (
    Arrival,
    Arrivals,
    CatalogueItem,
    CatalogueItems,
    DuplicateGroup,
    Duplicates,
    Neighbour,
    TasteSample,
)
from streams.serve.interface import Catalogue, Item, Wanted
from streams.text import visible

NAMED = 8  # items of a group in an answer


async def items(call: Call[ListingQuery, None]) -> web.StreamResponse:
    """Some items of the catalogue."""
    catalogue, query = call.api.catalogue, call.query
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
    catalogue, item_id = call.api.catalogue, call.item_id
    with replica():
        found, place = catalogue.get(item_id), catalogue.place(item_id)
        if found is None:
            raise Problem("unknown_item", f"{visible(item_id)} is not in the catalogue", field="item_id")
        neighbours = await _neighbours(call.api, [] if place is None else [place])
        return reply(_answer(catalogue, found, place, neighbours))


async def arrivals(call: Call[ArrivalsQuery, None]) -> web.StreamResponse:
    """The newest items, and to how many bags of a sample they would be recommended."""
    api, catalogue = call.api, call.api.catalogue
    tally = api.tastes.ask()
    with replica():
        places = catalogue.listing("new", call.query.n)
        neighbours = await _neighbours(api, places)
        items = [
            Arrival(**asdict(_answer(catalogue, item, place, neighbours)), tastes=tally.of(place))
            for item, place in zip(catalogue.at(places), places, strict=True)
        ]
    sample = TasteSample(
        bags=tally.bags,
        recommended=RECOMMENDED,
        complete=tally.complete,
        at=as_datetime(tally.moment) if tally.moment else None,
    )
    return known_or_reply(call.request, Arrivals(items=items, sample=sample))


async def duplicates(call: Call[DuplicatesQuery, None]) -> web.StreamResponse:
    """Groups of items whose pictures are the same, or nearly."""
    api, catalogue, search = call.api, call.api.catalogue, call.api.duplicates
    search.survey.ask()
    left = search.left  # before the groups: none left means that they are complete
    groups = await api.in_thread(search.twins.groups)
    chosen = range(len(groups))[call.query.start :][: call.query.n]
    with replica():
        shown = [_group(catalogue, search, groups, number) for number in chosen]
    answer = Duplicates(
        groups=[group for group in shown if group is not None],
        found=len(groups),
        items=len(groups.places),
        least=ALIKE,
        left=left,
    )
    return known_or_reply(call.request, answer)


def _group(catalogue: Catalogue, search: DuplicateSearch, groups: Groups, number: int) -> DuplicateGroup | None:
    """A group as an answer has it; None if its items are gone."""
    where = groups.of(number)
    pairs = list(zip(groups.places[where].tolist(), groups.cosines[where].tolist(), strict=True))
    some = pairs[: 2 * NAMED]
    there = search.still(catalogue, [place for place, _ in some])
    found = [(place, cosine, None) for (place, cosine), still in zip(some, there, strict=True) if still]
    count = len(pairs) - len(some) + len(found)
    return DuplicateGroup(count=count, items=described(catalogue, found[:NAMED])) if len(found) > 1 else None


async def _neighbours(api: Api, places: Sequence[int]) -> dict[int, Neighbour]:
    """The item that is most like each of those at some places, which have codes. Raises Problem."""
    if not places:
        return {}
    catalogue, bundle = api.serving.catalogue, api.serving.scorer().recommender.bundle
    check_embedder(catalogue, bundle)
    codes = catalogue.codes(places)
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
        problems=("state_unreadable", "not_ready", "catalogue_not_ready", "busy"),
    ),
    Route(
        method="GET",
        path="/v1/items:arrivals",
        name="arrivals",
        summary="The newest items, and to how many bags of a sample each would be recommended. No user is named.",
        scope="read",
        handler=arrivals,
        query=ArrivalsQuery,
        answer=Arrivals,
        also={304: "The client has this answer: `If-None-Match` names its `ETag`."},
        problems=("state_unreadable", "not_ready", "catalogue_not_ready", "busy"),
    ),
    Route(
        method="GET",
        path="/v1/items:duplicates",
        name="duplicates",
        summary="Items whose pictures are the same, or nearly, in groups. The first request begins the search.",
        scope="read",
        handler=duplicates,
        query=DuplicatesQuery,
        answer=Duplicates,
        also={304: "The client has this answer: `If-None-Match` names its `ETag`."},
        problems=("state_unreadable", "catalogue_not_ready", "busy"),
    ),
    Route(
        method="GET",
        path="/v1/items/{item_id}",
        name="item",
        summary="An item of the catalogue.",
        scope="read",
        handler=item,
        answer=CatalogueItem,
        problems=("unknown_item", "state_unreadable", "not_ready", "catalogue_not_ready", "busy"),
    ),
]
