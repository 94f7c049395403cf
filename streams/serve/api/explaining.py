"""Why a category or an item is recommended: how much each item of the bag raises its score, and what would be without an item."""

from functools import partial

from aiohttp import web
from msgspec import UNSET

from streams.serve.api.context import Call, replica
from streams.serve.api.item_answers import check_embedder
from streams.serve.api.parameters import ExplanationQuery, WithoutQuery
from streams.serve.api.problems import Problem
from streams.serve.api.replies import reply
from streams.serve.api.routes import Route
from streams.serve.api.types.users import ExplanationAnswer, WithoutAnswer
from streams.serve.api.users import known_user, model_of
from streams.serve.explanation import Target, explain, without_item
from streams.text import visible


async def explanation(call: Call[ExplanationQuery, None]) -> web.StreamResponse:
    """Why a category or an item is recommended to the user."""
    api, query, user_id = call.api, call.query, call.user_id
    category = None if query.category is UNSET else query.category
    item = None if query.item is UNSET else query.item
    if (category is None) == (item is None):
        raise Problem("missing_field", "send either category or item", field="category")
    held, scorer = known_user(api, user_id), api.serving.scorer()
    recommender = scorer.recommender
    if category is not None and category not in recommender.bundle.categories:
        raise Problem("unknown_category", f"{visible(category)} is no category of the bundle", field="category")
    code = None
    if item is not None:
        with replica():
            check_embedder(api.catalogue, recommender.bundle)
            place = api.catalogue.place(item)
            if place is None:
                raise Problem("unknown_item", f"{visible(item)} has no picture that is known", field="item")
            [code] = api.catalogue.codes([place])
    target = Target(category, code)
    found = await api.in_thread(explain, recommender, held.bag, api.now, scorer.trend, target)
    answer = ExplanationAnswer(
        user_id=user_id,
        category=category,
        item=item,
        score=found.score,
        items=found.items,
        smallest_set=found.smallest_set,
        exact=found.exact,
        model=model_of(recommender),
        state=held.state,
    )
    return reply(answer)


async def without(call: Call[WithoutQuery, None]) -> web.StreamResponse:
    """The categories if an item were not in the bag of the user."""
    api, query, user_id = call.api, call.query, call.user_id
    held, scorer = known_user(api, user_id), api.serving.scorer()
    if query.item not in held.bag.slots:
        raise Problem("unknown_item", f"{visible(query.item)} is not in the bag", field="item")
    recommender = scorer.recommender
    most = recommender.options.top_k if query.k is UNSET else query.k
    found = await api.in_thread(
        partial(without_item, recommender, held.bag, api.now, scorer.trend, query.item, most=most)
    )
    answer = WithoutAnswer(
        user_id=user_id,
        item=query.item,
        scored=found.scored,
        categories=found.categories,
        model=model_of(recommender),
        state=held.state,
    )
    return reply(answer)


ROUTES = [
    Route(
        method="GET",
        path="/v1/users/{user_id}/explanation",
        name="explanation",
        summary="Why a category or an item is recommended: how much each item of the bag raises its score.",
        scope="read",
        handler=explanation,
        query=ExplanationQuery,
        answer=ExplanationAnswer,
        problems=(
            "not_served", "not_ready", "state_unreadable", "missing_field", "unknown_user", "unknown_category",
            "unknown_item", "catalogue_not_ready", "busy",
        ),
    ),
    Route(
        method="GET",
        path="/v1/users/{user_id}/without",
        name="without",
        summary="What would be recommended if an item were not in the bag.",
        scope="read",
        handler=without,
        query=WithoutQuery,
        answer=WithoutAnswer,
        problems=("not_served", "not_ready", "state_unreadable", "missing_field", "unknown_user", "unknown_item", "busy"),
    ),
]  # fmt: skip
