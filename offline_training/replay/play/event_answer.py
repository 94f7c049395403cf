"""What one event caused: a recommendation, or the reason why there is none."""

from collections.abc import Mapping, Sequence

from msgspec import Struct

from offline_training.replay.exceptions import ReplayError
from streams.messages import Recommendation


class EventAnswer(Struct, frozen=True, array_like=True):
    """The answer to one event. It is a line of `answers.jsonl`, so its fields keep their order.

    Attributes:
        place: index of the event among the events that are played.
        bag_size: number of items in the bag.
        cold_start: whether the bag was empty.
        scores: numbers of categories in the bundle, with their scores, best first.
        latency: milliseconds from sending the event to receiving the recommendation.
        reason: why there is no recommendation: the reason of a dead letter, or `erased`.
        at: when the answer came, milliseconds since the epoch.
        values: numbers of categories with their scores: the best values of each field, best first, one field after the other.
        trend_version: of the trend that the scores were made with; None: of none.
    """

    place: int
    bag_size: int = 0
    cold_start: bool = False
    scores: list[tuple[int, float]] = []
    latency: float | None = None
    reason: str = ""
    at: float | None = None
    values: list[tuple[int, float]] = []
    trend_version: int | None = None


def category_numbers(categories: Sequence[str]) -> dict[str, int]:
    """Number the categories of a bundle, from 0."""
    return {category: number for number, category in enumerate(categories)}


def event_answer(
    place: int,
    message: Recommendation,
    numbers: Mapping[str, int],
    latency: float | None = None,
    at: float | None = None,
) -> EventAnswer:
    """Turn a recommendation into an answer.

    Raises:
        ReplayError: the bundle does not have a category of the recommendation.
    """
    try:
        scores = [(numbers[one.category], one.score) for one in message.categories]
        values = [(numbers[one.category], one.score) for field in message.fields for one in field.values]
    except KeyError as error:
        raise ReplayError(
            f"recommendations of {message.model.name} {message.model.version} name the category {error}, which the bundle here "
            "does not have: set TASTESTREAM_BUNDLE to the bundle that the workers serve"
        ) from None
    size, cold, version = message.bag_size, message.cold_start, message.trend_version
    return EventAnswer(place, size, cold, scores, latency, at=at, values=values, trend_version=version)
