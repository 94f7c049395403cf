"""Requests that arrive together are scored in one call, and each is answered as alone."""

import asyncio
from typing import Any

import pytest
from msgspec import UNSET

from streams.exceptions import EventError
from streams.profile.bag import Bag
from streams.serve.api.problems import Problem
from streams.serve.api.scoring import Scoring
from streams.serve.interface import Scorer
from tests.streams.serve.api.conftest import Served
from tests.streams.serve.made import NOW, MadeServing


class Counting:
    """A recommender that notes the sizes of its calls, and cannot score one bag."""

    def __init__(self, serving: MadeServing, bad: Bag | None = None) -> None:
        self._serving = serving
        self._bad = bad
        self.calls: list[int] = []

    def in_full(self, asked: Any, trend: Any, *, top_k: int | None = None) -> Any:
        self.calls.append(len(asked))
        if any(bag is self._bad for bag, _ in asked):
            raise EventError("invalid_scores", "numbers from nan to nan")
        return self._serving.scored_by.recommender.in_full(asked, trend, top_k=top_k)


def scorer_of(counting: Any, serving: MadeServing) -> Scorer:
    return Scorer(counting, serving.scored_by.trend)


async def test_bags_that_are_asked_for_together_are_scored_in_one_call(serving: MadeServing) -> None:
    counting, scoring = Counting(serving), Scoring()
    scorer = scorer_of(counting, serving)
    bags = [serving.bags.bags[name] for name in ("ada", "bob")] + [Bag()]
    found = await asyncio.gather(*(scoring.score(scorer, bag, NOW, UNSET) for bag in bags * 15))
    assert sorted(counting.calls) == [13, 32]
    for number, bag in enumerate(bags * 15):
        alone = await scoring.score(scorer, bag, NOW, UNSET)
        assert [one.category for one in found[number].answer.categories] == [
            one.category for one in alone.answer.categories
        ]
        assert found[number].scores == pytest.approx(alone.scores, abs=1e-6)


async def test_a_bag_that_cannot_be_scored_fails_alone(serving: MadeServing) -> None:
    bad = serving.bags.bags["bob"]
    counting, scoring = Counting(serving, bad), Scoring()
    scorer = scorer_of(counting, serving)
    good, failed = await asyncio.gather(
        scoring.score(scorer, serving.bags.bags["ada"], NOW, UNSET),
        scoring.score(scorer, bad, NOW, UNSET),
        return_exceptions=True,
    )
    assert not isinstance(good, BaseException) and len(good.answer.items) == 5
    assert isinstance(failed, Problem) and failed.reason == "invalid_scores"


async def test_another_bundle_and_another_k_are_other_calls(serving: MadeServing) -> None:
    first, second = Counting(serving), Counting(serving)
    scoring, bag = Scoring(), serving.bags.bags["ada"]
    one, other, few = await asyncio.gather(
        scoring.score(scorer_of(first, serving), bag, NOW, UNSET),
        scoring.score(scorer_of(second, serving), bag, NOW, UNSET),
        scoring.score(scorer_of(first, serving), bag, NOW, 3),
    )
    assert (first.calls, second.calls) == ([1, 1], [1])
    assert [len(full.answer.categories) for full in (one, other, few)] == [10, 10, 3]


async def test_many_requests_at_once_are_each_their_own(served: Served) -> None:
    names = ["ada", "bob", "nobody"] * 20
    answers = await asyncio.gather(*(served.get(f"/v1/users/{name}/recommendations") for name in names))
    sizes = {"ada": 5, "bob": 1, "nobody": 0}
    for name, answer in zip(names, answers, strict=True):
        found = await answer.json()
        assert (found["user_id"], found["bag_size"]) == (name, sizes[name])
