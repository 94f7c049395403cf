"""The items that have to be recommended, from all bags: what is popular is counted anew, and everything is ranked."""

from collections.abc import Mapping

import numpy as np

from model.bundle import Bundle
from model.item_search.ranking import rank_items
from offline_training.replay.answers.expected import recommender_of
from offline_training.replay.evaluation.items import taste_of
from streams.profile.bag import Bag
from streams.settings import Settings
from streams.trend.trend import Trend
from tests.offline_training.replay.made import DAY

WEEK = 7 * DAY
LATELY = 5  # weeks


def ranked_anew(
    bundle: Bundle, settings: Settings, bags: Mapping[str, Bag], *, user: str, moment: int, codes: Mapping[str, bytes]
) -> list[tuple[str, float, str | None]]:
    """Item, score, and the item of the bag that it is there for, of everything that is not in the bag, best first.

    Args:
        bundle: does not use the trend.
        settings: of the workers.
        bags: of all users.
        user: who is asked for.
        moment: milliseconds.
        codes: of the items that may be recommended.
    """
    slots = [slot for bag in bags.values() for slot in bag.slots.values()]
    newest = max((slot.last.timestamp // WEEK for slot in slots), default=0)
    touched = [
        (slot.item_id, max(one.timestamp for one in slot.since_return.values()) // WEEK)
        for slot in slots
        if slot.since_return
    ]
    names = list(codes)
    popular = [sum(item == name and week > newest - LATELY for item, week in touched) for name in names]
    bag, labels = bags.get(user, Bag()), bundle.item_labels()
    [full] = recommender_of(bundle, settings).in_full([(bag, moment)], Trend(None, {}, len(bundle.categories)))
    ranked = rank_items(
        taste_of(full, bundle),
        np.array([place for place, name in enumerate(names) if name not in bag.slots], np.intp),
        codes=lambda places: [codes[names[place]] for place in places],
        shares=None if labels is None else labels.of,
        popularity=np.array(popular, np.float32),
        weights=bundle.ranking(),
    )
    own = [item.item_id for item in full.answer.items]
    return [(names[one.place], one.score, None if one.because is None else own[one.because]) for one in ranked]
