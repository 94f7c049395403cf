"""Some users to look at: what their bag was when they bought, which of its items spoke, and what they bought then. Pure."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from offline_training.replay.prequential import Measured
from offline_training.replay.source import Event, PlayedItem
from streams.messages import Recommendation

USERS, STEPS = 4, 5  # steps of a user are spread over the history
ENOUGH = 3  # steps that a history has, to be preferred
GUESSES = 5  # categories that are shown


@dataclass
class Guess:
    """A recommended category, and whether something that was bought then has it."""

    category: str
    score: float
    right: bool


@dataclass
class SamplePoint:
    """A time at which the user bought something, and the recommendation that counted then."""

    time: int
    age: int
    """Milliseconds of event time since the event that the recommendation came of."""
    bag_size: int
    attention: list[tuple[str, float]]
    """Items of the bag and their weights as they were published: the heaviest first, and no more than a message names."""
    guesses: list[Guess]
    bought: list[str]
    """Items."""
    missed: list[str]
    """Their categories that the bundle knows, and that are not among the guesses."""

    @property
    def alike(self) -> bool:
        """Whether all items that are listed weigh the same."""
        weights = [weight for _, weight in self.attention]
        return len(weights) > 1 and max(weights) - min(weights) < 0.001


@dataclass
class Sample:
    """A user. events: in the whole stream."""

    user: str
    events: int
    targets: int
    moments: list[SamplePoint]


Chosen = list[tuple[int, list[NDArray[np.intp]]]]
"""Users by number, and for each of their moments the rows of its targets."""


def choose(measured: Measured, seed: int = 0) -> Chosen:
    """Users drawn by chance among those who bought at some moments with a bag; those with one or two come last."""
    warm = np.flatnonzero(measured.bag_sizes > 0)
    users = np.unique(measured.users[warm])
    moments = np.unique(np.stack([measured.users[warm], measured.times[warm]], axis=1), axis=0)[:, 0]
    counts = np.bincount(moments, minlength=len(measured.names))[users]
    drawn = np.random.default_rng(seed).permutation(len(users))
    first = drawn[np.argsort(counts[drawn] < ENOUGH, kind="stable")][:USERS]
    chosen: Chosen = []
    for user in users[first].tolist():
        rows = warm[measured.users[warm] == user]
        times = np.unique(measured.times[rows])
        shown = times[np.unique(np.linspace(0, len(times) - 1, STEPS).round().astype(int))]
        chosen.append((user, [rows[measured.times[rows] == time] for time in shown]))
    return chosen


def sample(
    measured: Measured,
    chosen: Chosen,
    events: Mapping[int, Event],
    messages: Mapping[int, Recommendation],
    *,
    items: Mapping[str, PlayedItem],
    known: Collection[str],
) -> list[Sample]:
    """What there is to tell of the chosen users.

    Args:
        events: by place; all targets of theirs are there.
        messages: by the place of the event that each came of. A user whose bags are not those of the run, since a picture cannot
            be had any more, is left out.
        known: the bundle's categories; items may have others, which nothing is asked of.
    """
    found: list[Sample] = []
    for user, moments in chosen:
        whole = True
        told: list[SamplePoint] = []
        for rows in moments:
            message = messages.get(int(measured.origins[rows[0]]))
            whole &= message is not None and message.bag_size == measured.bag_sizes[rows[0]]
            if message is None:
                break
            bought = list(dict.fromkeys(events[place].item for place in measured.places[rows].tolist()))
            time, age = int(measured.times[rows[0]]), int(measured.ages[rows[0]])
            told.append(_moment(message, bought, time=time, age=age, items=items, known=known))
        if whole:
            targets = measured.users == user
            activity = int(measured.activity[targets][0])
            found.append(Sample(measured.names[user], activity, int(targets.sum()), told))
    return found


def _moment(
    message: Recommendation,
    bought: list[str],
    *,
    time: int,
    age: int,
    items: Mapping[str, PlayedItem],
    known: Collection[str],
) -> SamplePoint:
    all_of_them = dict.fromkeys(category for item in bought for category in items[item].categories)
    wanted = [category for category in all_of_them if category in known]
    guesses = [Guess(one.category, one.score, one.category in wanted) for one in message.categories[:GUESSES]]
    named = {guess.category for guess in guesses}
    return SamplePoint(
        time=time,
        age=age,
        bag_size=message.bag_size,
        attention=[(one.item_id, one.weight) for one in message.attention],
        guesses=guesses,
        bought=bought,
        missed=[category for category in wanted if category not in named],
    )
