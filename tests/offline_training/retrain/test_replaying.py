"""What is measured of the held-out time, and of which events the recommendations are computed."""

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from model.bundle import Bundle
from offline_training.replay.evaluation.prequential import Rules
from offline_training.replay.play.events import PlayedEvent
from offline_training.retrain.replaying import places_that_count, rules_of, spread
from streams.messages import InteractionType

RULES = Rules(since=100)


def events(*rows: tuple[str, int]) -> list[PlayedEvent]:
    kind: InteractionType = "purchase"
    return [PlayedEvent(place, place, user, "hat", kind, time) for place, (user, time) in enumerate(rows)]


def test_the_last_event_before_the_held_out_time_counts_and_all_in_it() -> None:
    played = events(("ann", 1), ("bob", 2), ("ann", 99), ("ann", 100), ("bob", 101), ("ann", 101))
    assert places_that_count(played, RULES, lambda _: True) == {1, 2, 3, 4, 5}


def test_an_event_without_an_answer_does_not_stand_for_an_earlier_one() -> None:
    played = events(("ann", 1), ("ann", 2), ("ann", 100))
    assert places_that_count(played, RULES, lambda event: event.time != 2) == {0, 2}


@pytest.mark.parametrize(
    ("categories", "top", "k", "ks"),
    [(70, 10, 5, (1, 5, 10)), (70, 3, 3, (1, 3)), (3, 10, 2, (1, 2)), (2, 10, 1, (1,))],
)
def test_the_middle_k_says_something_however_few_categories_there_are(
    categories: int, top: int, k: int, ks: Sequence[int]
) -> None:
    rules = rules_of(frozenset({"purchase"}), 100, categories, top)
    assert (rules.k, rules.ks) == (k, ks)


def test_values_are_put_in_the_order_of_all_categories() -> None:
    bundle = Bundle.load()
    values: NDArray[np.float32] = np.arange(1, len(bundle.categories) + 1, dtype=np.float32)
    categories = ["new", *reversed(bundle.categories)]
    assert spread(values, bundle, categories).tolist() == [0, *reversed(values.tolist())]
    assert spread(np.stack([values, values]), bundle, categories).shape == (2, len(categories))
