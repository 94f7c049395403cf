"""Scores the bags of requests that arrive together in one call: 16 bags in a call take a third of the time that they take alone.

A request alone waits for nothing but the next turn of the event loop.
"""

import asyncio
from collections.abc import Sequence

from msgspec import UNSET, UnsetType

from streams.exceptions import EventError
from streams.profile.bag import Bag
from streams.profile.scoring import BAGS_PER_CALL, InFull
from streams.serve.api.problems import Problem
from streams.serve.interface import Scorer
from streams.text import visible

_Waiting = list[tuple[Bag, int, "asyncio.Future[InFull]"]]


def score_bags(scorer: Scorer, asked: Sequence[tuple[Bag, int]], k: int | UnsetType) -> list[InFull]:
    """Score bags at moments. Raises Problem if the bundle makes no scores."""
    try:
        return scorer.recommender.in_full(asked, scorer.trend, top_k=None if k is UNSET else k)
    except EventError as error:
        raise Problem("invalid_scores", visible(error)) from error


class Scoring:
    """Collects what the requests of one turn of the event loop ask for."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[Scorer, int | UnsetType], _Waiting] = {}

    async def score(self, scorer: Scorer, bag: Bag, moment: int, k: int | UnsetType) -> InFull:
        """Score a bag at a moment. Raises Problem if the bundle makes no scores of it."""
        loop = asyncio.get_running_loop()
        if not self._waiting:
            loop.call_soon(self._score_all)
        future: asyncio.Future[InFull] = loop.create_future()
        self._waiting.setdefault((scorer, k), []).append((bag, moment, future))
        return await future

    def _score_all(self) -> None:
        taken, self._waiting = self._waiting, {}
        for (scorer, k), waiting in taken.items():
            for start in range(0, len(waiting), BAGS_PER_CALL):
                _score(scorer, k, waiting[start : start + BAGS_PER_CALL])


def _score(scorer: Scorer, k: int | UnsetType, waiting: _Waiting) -> None:
    """Score bags in one call; each alone if one of them cannot be scored."""
    try:
        found = score_bags(scorer, [(bag, moment) for bag, moment, _ in waiting], k)
    except Exception as error:  # noqa: BLE001 -- the request that waits raises it
        if len(waiting) > 1:
            for one in waiting:
                _score(scorer, k, [one])
        elif not waiting[0][2].done():
            waiting[0][2].set_exception(error)
        return
    for (_, _, future), full in zip(waiting, found, strict=True):
        if not future.done():  # its client went away
            future.set_result(full)
