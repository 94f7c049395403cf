"""What a micro-batch comes to: fold its events, score the bags after them, encode the changed rows.

Pure except that it measures its time, and independent of Kafka and the event loop: the profile worker runs `outcome_of` in a
thread.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from time import perf_counter
from typing import NamedTuple

from model.bundle import Bundle
from streams.kafka.records import Outgoing
from streams.messages import EVENT_ID_HEADER, EmbeddedInteraction, Recommendation, encode_recommendation
from streams.profile.bag import Bag, Touched, fold, newest_first
from streams.profile.rows import Changes, changes
from streams.profile.scoring import Recommender
from streams.trend.trend import Trend, no_trend


@dataclass(slots=True)
class Profile:
    """One user within a batch."""

    stored: list[bytes]  # keys of the rows that hold `before`
    before: Bag
    after: Bag  # after the events so far


class Write(NamedTuple):
    """What changes in one partition."""

    rows: Changes
    bags: dict[str, Bag]  # by user: the bags that these rows make
    before: dict[str, Bag]  # by user: those in their place so far


@dataclass(slots=True)
class Outcome:
    """What a batch writes and sends."""

    writes: dict[int, Write] = field(default_factory=dict[int, Write])  # by partition
    recommendations: list[Outgoing] = field(default_factory=list[Outgoing])
    next_recommendations: list[Outgoing] = field(default_factory=list[Outgoing])  # what the next bundle would recommend
    next_failure: Exception | None = None  # why it recommends nothing
    cold_starts: int = 0  # recommendations without an item
    unscored: int = 0  # items within the bag size that were passed over, over all recommendations
    fold_seconds: float = 0.0
    score_seconds: float = 0.0  # by the served bundle


def outcome_of(
    events: Sequence[tuple[EmbeddedInteraction, Profile]],
    profiles: dict[int, dict[str, Profile]],
    recommender: Recommender,
    next_recommender: Recommender | None,
    *,
    max_slots: int,
    kept: Collection[str],
    now: datetime,
    trend: Trend,
) -> Outcome:
    """Fold each event into its user's profile, score the bag after it, and encode the rows that differ in the end.

    Nothing is recommended after a prepared interaction.

    Args:
        events: in the order in which they are folded, each with its user's profile, whose `after` this changes.
        profiles: the same profiles, by partition and user.
        recommender: scores bags and makes messages.
        next_recommender: that of the bundle that is being prepared.
        max_slots: of a bag.
        kept: the versions of the embedders in use.
        now: the time that recommendations carry as `produced_at`.
        trend: what all users took, as the served bundle counts it.
    """
    started = perf_counter()
    caused: list[tuple[EmbeddedInteraction, Bag]] = []
    for interaction, profile in events:
        profile.after = fold(profile.after, interaction, max_slots=max_slots, kept=kept)
        if not interaction.prepared:
            caused.append((interaction, profile.after))
    writes = {partition: write for partition, users in profiles.items() if (write := _write(users)).rows}
    folded = perf_counter()
    orders = [newest_first(bag) for _, bag in caused]
    messages = recommender.recommend(caused, now=now, trend=trend, orders=orders)
    outcome = Outcome(writes, _records(caused, messages))
    outcome.cold_starts, outcome.unscored = _gaps(messages, orders, recommender.options.bag_size)
    outcome.fold_seconds, outcome.score_seconds = folded - started, perf_counter() - folded
    if next_recommender:
        try:
            next_trend = trend_for(next_recommender.bundle, trend, of=recommender.bundle)
            found = next_recommender.recommend(caused, now=now, trend=next_trend, orders=orders)
            outcome.next_recommendations = _records(caused, found)
        except Exception as error:  # noqa: BLE001 -- whatever is wrong with a bundle that is only tried must cost no event
            outcome.next_failure = error
            outcome.next_recommendations = [one for one in outcome.recommendations if one[1] is None]  # erasures count
    return outcome


def trend_for(bundle: Bundle, trend: Trend, *, of: Bundle) -> Trend:
    """Return the trend that a bundle is tried with, while another one is served.

    Args:
        bundle: the one that is tried.
        trend: what all users took, as the served bundle counts it.
        of: the served bundle.

    Returns:
        `trend` if both bundles have the same labels or the same categories; else a trend of nothing, because what the served bundle
        counts are other things.
    """
    if bundle.labels_version == of.labels_version or bundle.categories == of.categories:
        return trend
    return no_trend(len(bundle.categories))


def _records(
    caused: Sequence[tuple[EmbeddedInteraction, Bag]], messages: Sequence[Recommendation | None]
) -> list[Outgoing]:
    return [_record(interaction, message) for (interaction, _), message in zip(caused, messages, strict=True)]


def _gaps(messages: Sequence[Recommendation | None], orders: Sequence[list[Touched]], bag_size: int) -> tuple[int, int]:
    """The number of cold starts, and of items within the bag size that were passed over."""
    cold = passed_over = 0
    for message, order in zip(messages, orders, strict=True):
        if message is not None:
            cold += message.cold_start
            passed_over += min(len(order), bag_size) - message.bag_size
    return cold, passed_over


def _write(users: dict[str, Profile]) -> Write:
    rows: Changes = {}
    bags: dict[str, Bag] = {}
    before: dict[str, Bag] = {}
    for user_id, profile in users.items():
        changed = changes(user_id, profile.stored, profile.before, profile.after)
        if changed:
            rows |= changed
            bags[user_id], before[user_id] = profile.after, profile.before
    return Write(rows, bags, before)


def _record(interaction: EmbeddedInteraction, message: Recommendation | None) -> Outgoing:
    key = interaction.user_id.encode()
    if message is None:  # the event erased the user
        return key, None, [(EVENT_ID_HEADER, interaction.event_id.encode())]
    return key, encode_recommendation(message), ()
