"""Recommended items before each purchase of a stream, beside what every shop can list without them.

The items are ranked as the serve worker ranks them: from the bag and the trend at the time of the purchase, and from what bags
touched lately (`streams.serve.catalogue.recent`). The catalogue is all items that are played, also those that nobody has touched
yet. Events of the time of a purchase do not count for it. The baselines count purchases of strictly earlier days.
"""

from array import array
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from model.bundle import Bundle
from model.item_search.ranking import Taste
from model.quantization import dequantize
from offline_training.replay.answers.bags import Changed, Moment, by_moment
from offline_training.replay.answers.expected import Offline, recommender_of
from offline_training.replay.evaluation.prequential import Rules
from offline_training.replay.play.events import EventStream, PlayedEvent
from offline_training.tasks.item_figures import Measuring
from offline_training.tasks.item_methods import Asking, Catalogued, ItemMethods
from offline_training.tasks.purchases import Taken, make_taken
from streams.profile.bag import Bag
from streams.profile.scoring import InFull
from streams.serve.catalogue.recent import Recent, newest_week, touches
from streams.trend.trend import DAY

WEIGHT = 100  # of a touch; no baseline of items uses it


@dataclass
class ItemResults:
    """The figures of recommended items.

    Attributes:
        figures: as `MeasuredItems.figures` names them: under `GROUP, METHOD`, with intervals and paired leads of the recommended items.
        items: number of items that could be recommended.
        users: number of users with a target.
        owned: purchases of items that are in the bag, which are no targets.
    """

    figures: dict[str, dict[str, float]]
    items: int
    users: int
    owned: int


class Popularity:
    """What bags touched lately, as the catalogue of a serve worker counts it."""

    def __init__(self, places: Mapping[str, int]) -> None:
        """Start without bags. `places`: of the items that count."""
        self._places = places
        self._recent = Recent(len(places))

    def add(self, one: Changed) -> None:
        """Take the change that an event makes to a bag."""
        self._recent.reach(newest_week(one.after))
        for item, week, more in touches(one.before, one.after):
            if item in self._places:
                self._recent.add(self._places[item], week, more)

    @property
    def counts(self) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
        """The counts now, float32 [N]."""
        return self._recent.counts.astype(np.float32)


def measure_items(
    stream: EventStream, offline: Offline, bundle: Bundle, *, rules: Rules, at: Collection[str] | None, title: str
) -> ItemResults | None:
    """Measure the items that a bundle recommends.

    Args:
        stream: the events.
        offline: folds and scores them.
        bundle: the bundle.
        rules: which events are targets, and when an event counts.
        at: the users whose targets are measured; None: all.
        title: of the progress bars.

    Returns:
        None without a target.
    """
    history = offline.history(bundle, title)
    places = {name: place for place, name in enumerate(history.codes)}
    users = {name: number for number, name in enumerate(stream.overview.of_user)}
    items = Catalogued.stored(bundle, list(history.codes.values()))
    methods = ItemMethods(items, _taken(stream, places, users, rules), weights=bundle.ranking())
    recommender, popularity = recommender_of(bundle, offline.settings), Popularity(places)
    measuring, owned = Measuring(), 0
    for moment in by_moment(history.changed, rules.delay):
        for one in moment.news:
            popularity.add(one)
        targets, held = _targets(moment, places, rules, at)
        owned += held
        if not targets:
            continue
        trend = history.trends.at(moment.events[0].place, moment.time - rules.delay)
        bags = [moment.bags.get(user, Bag()) for user in targets]
        scored = recommender.in_full([(bag, moment.time) for bag in bags], trend)
        day, counts = (moment.time - rules.delay) // DAY, popularity.counts
        for (user, wanted), bag, full in zip(targets.items(), bags, scored, strict=True):
            left_out = np.array([places[name] for name in bag.slots if name in places], np.int32)
            newest = [places[item.item_id] for item in full.answer.items if item.item_id in places][:1]
            asking = Asking(
                taste_of(full, bundle), users[user], day, left_out, newest[0] if newest else None, popularity=counts
            )
            measuring.add(methods, asking, np.array(wanted, np.int32))
    measured = measuring.measured(owned)
    if not len(measured.users):
        return None
    return ItemResults(measured.figures(), len(places), len(np.unique(measured.users)), owned)


def taste_of(full: InFull, bundle: Bundle) -> Taste:
    """What the ranking asks with for a bag that was scored."""
    rows = dequantize([item.embedding for item in full.answer.items], bundle.embedding_size)
    return Taste(rows, full.attention, full.scores)


def _targets(
    moment: Moment, places: Mapping[str, int], rules: Rules, at: Collection[str] | None
) -> tuple[dict[str, list[int]], int]:
    """What each user takes at a moment that is not in the bag, and how many targets are in it."""
    found: dict[str, list[int]] = {}
    owned = 0
    for event in moment.events:
        if not rules.measures(event) or event.item not in places or (at is not None and event.user not in at):
            continue
        bag = moment.bags.get(event.user)
        if bag is not None and event.item in bag.slots:
            owned += 1
        else:
            found.setdefault(event.user, []).append(places[event.item])
    return found, owned


def _taken(stream: EventStream, places: Mapping[str, int], users: Mapping[str, int], rules: Rules) -> Taken:
    """What all users took, for the baselines."""
    columns = array("q")  # four numbers for each event

    def counts(event: PlayedEvent) -> bool:
        return event.item in places and event.type != "return"

    for event in filter(counts, stream.events()):
        columns.extend((users[event.user], event.time // DAY, places[event.item], event.type in rules.targets))
    user, day, row, bought = np.array(columns, np.int64).reshape(-1, 4).T
    return make_taken(
        list(users),
        user=user,
        day=day,
        row=row,
        weight=np.full(len(user), WEIGHT),
        bought=bought.astype(bool),
        apart=np.zeros(len(users), bool),
    )
