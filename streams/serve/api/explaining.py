"""Why a category or an item is recommended: how much each item of the bag raises its score."""

from aiohttp import web
from msgspec import UNSET

from streams.serve.api.context import Call, replica
from streams.serve.api.item_answers import check_codes
from streams.serve.api.parameters import ExplanationQuery
from streams.serve.api.problems import Problem
from streams.serve.api.replies import reply
from streams.serve.api.routes import Route
from streams.serve.api.types import ExplanationAnswer
from streams.serve.api.users import known_user, model_of
from streams.serve.explanation import Target, explain
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
            place = api.serving.catalogue.place(item)
            if place is None:
                raise Problem("unknown_item", f"{visible(item)} has no picture that is known", field="item")
            [code] = check_codes(api.serving.catalogue, [place], recommender.bundle)
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
            "unknown_item", "busy",
        ),
    )
]  # fmt: skip
