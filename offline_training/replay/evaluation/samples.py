"""A few users to look at: their bags when they bought something, the attention on the items, and what they bought. Pure."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from offline_training.replay.evaluation.prequential import MeasuredTargets
from offline_training.replay.play.events import PlayedEvent, PlayedItem
from streams.messages import Recommendation

USERS = 4  # users that are shown
STEPS = 5  # points of a user that are shown, spread over the history
ENOUGH = 3  # points that a user needs to be preferred
GUESSES = 5  # recommended categories that are shown


@dataclass
class SampleGuess:
    """A recommended category, and whether something that was bought then has it."""

    category: str
    score: float
    right: bool


@dataclass
class SamplePoint:
    """A time at which the user bought something, and the recommendation that counted then.

    Attributes:
        time: milliseconds since the epoch.
        age: event time since the event that caused the recommendation, milliseconds.
        bag_size: number of items in the bag.
        attention: items of the bag with their weights, heaviest first, as the recommendation lists them.
        guesses: the best categories of the recommendation.
        bought: items that were bought.
        missed: their categories that the bundle knows and that are not among the guesses.
    """

    time: int
    age: int
    bag_size: int
    attention: list[tuple[str, float]]
    guesses: list[SampleGuess]
    bought: list[str]
    missed: list[str]

    @property
    def alike(self) -> bool:
        """Whether all listed items have the same weight."""
        weights = [weight for _, weight in self.attention]
        return len(weights) > 1 and max(weights) - min(weights) < 0.001


@dataclass
class SampleUser:
    """A user who is shown.

    Attributes:
        user: the user's name in the data set.
        events: number of the user's events in the whole stream.
        targets: number of the user's targets.
        moments: some of the times at which the user bought something.
    """

    user: str
    events: int
    targets: int
    moments: list[SamplePoint]


ChosenUsers = list[tuple[int, list[NDArray[np.intp]]]]
"""Numbers of users, with the rows of the targets of each of their times."""


def choose(measured: MeasuredTargets, seed: int = 0) -> ChosenUsers:
    """Draw users at random who bought something with a bag. Users with fewer than `ENOUGH` such times come last."""
    warm = np.flatnonzero(measured.bag_sizes > 0)
    users = np.unique(measured.users[warm])
    moments = np.unique(np.stack([measured.users[warm], measured.times[warm]], axis=1), axis=0)[:, 0]
    counts = np.bincount(moments, minlength=len(measured.names))[users]
    drawn = np.random.default_rng(seed).permutation(len(users))
    first = drawn[np.argsort(counts[drawn] < ENOUGH, kind="stable")][:USERS]
    chosen: ChosenUsers = []
    for user in users[first].tolist():
        rows = warm[measured.users[warm] == user]
        times = np.unique(measured.times[rows])
        shown = times[np.unique(np.linspace(0, len(times) - 1, STEPS).round().astype(int))]
        chosen.append((user, [rows[measured.times[rows] == time] for time in shown]))
    return chosen


def sample(
    measured: MeasuredTargets,
    chosen: ChosenUsers,
    events: Mapping[int, PlayedEvent],
    messages: Mapping[int, Recommendation],
    *,
    items: Mapping[str, PlayedItem],
    known: Collection[str],
) -> list[SampleUser]:
    """Describe the chosen users.

    A user whose bags differ from those of the run is left out: a picture can no longer be read.

    Args:
        measured: the targets.
        chosen: the users and the rows of their targets.
        events: the events of these users, by place.
        messages: recommendations, by the place of the event that caused them.
        items: the items, by id.
        known: the categories of the bundle; others of an item are ignored.
    """
    found: list[SampleUser] = []
    for user, moments in chosen:
        whole = True
        points: list[SamplePoint] = []
        for rows in moments:
            message = messages.get(int(measured.origins[rows[0]]))
            whole &= message is not None and message.bag_size == measured.bag_sizes[rows[0]]
            if message is None:
                break
            bought = list(dict.fromkeys(events[place].item for place in measured.places[rows].tolist()))
            time, age = int(measured.times[rows[0]]), int(measured.ages[rows[0]])
            points.append(_point(message, bought, time=time, age=age, items=items, known=known))
        if whole:
            targets = measured.users == user
            activity = int(measured.activity[targets][0])
            found.append(SampleUser(measured.names[user], activity, int(targets.sum()), points))
    return found


def _point(
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
    guesses = [SampleGuess(one.category, one.score, one.category in wanted) for one in message.categories[:GUESSES]]
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
