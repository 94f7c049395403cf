"""Recommended items before each purchase of a stream: the figures are those of lists that are made anew from the events before."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pyarrow", reason="needs the extra `parquet`")

from model.bundle import Bundle
from model.item_search.item_metrics import FIGURES
from offline_training.datasets.picture_ref import PictureRef
from offline_training.replay.answers.bags import changed_bags
from offline_training.replay.answers.embeddings import Embeddings, embedded_pictures
from offline_training.replay.answers.expected import Offline
from offline_training.replay.evaluation.items import ItemResults, measure_items
from offline_training.replay.evaluation.prequential import Rules
from offline_training.replay.play.events import EventSelection, EventStream, PlayedEvent, PreparedDataset
from offline_training.replay.play.messages import Naming
from offline_training.replay.report.item_tables import item_limits, item_parts, item_verdict
from streams.profile.bag import Bag
from streams.settings import read_settings
from tests.bundles import write_trending
from tests.offline_training.replay.made import DAY, shop
from tests.offline_training.replay.ranked import ranked_anew

LOST = "pink-orchid"
SETTINGS = read_settings()
NAMING = Naming("x")


class Stored(Embeddings):
    """Embeddings that are made once."""

    def __init__(self, stream: EventStream, bundle: Bundle) -> None:
        pictures = sorted({item.picture for item in stream.items.values() if item.picture}, key=str)
        self.found = embedded_pictures(SETTINGS, bundle.embedder(), pictures, stream.dataset.folders, lambda _: None)

    def of(self, bundle: Bundle, pictures: object) -> Mapping[PictureRef, bytes]:
        return self.found  # also of items that were not played


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> EventStream:
    dataset = PreparedDataset(shop(tmp_path_factory.mktemp("shop") / "data", users=8, each=18, lost=LOST))
    selection = EventSelection()
    return EventStream(dataset, selection, dataset.overview(selection))


@pytest.fixture(scope="module")
def embeddings(stream: EventStream) -> Stored:
    return Stored(stream, Bundle.load())


def measured(stream: EventStream, embeddings: Stored, rules: Rules, at: frozenset[str] | None = None) -> ItemResults:
    offline = Offline(SETTINGS, stream, NAMING, (), embeddings)
    found = measure_items(stream, offline, Bundle.load(), rules=rules, at=at, title="items")
    assert found is not None
    return found


def ranks_anew(stream: EventStream, embeddings: Stored, delay: int) -> tuple[list[int], int]:
    """The place of each purchase in a list of everything, and how many purchases were of items in the bag."""
    bundle, events = Bundle.load(), list(stream.events())
    played = {event.item for event in events if event.type != "return"}
    codes = {name: embeddings.found[item.picture] for name, item in stream.items.items()
             if name in played and item.picture in embeddings.found}  # fmt: skip
    ranks: list[int] = []
    owned = 0

    def bags_before(now: PlayedEvent) -> dict[str, Bag]:
        known = [event for event in events if event.time < now.time and event.time <= now.time - delay]
        changed = changed_bags(known, stream.items, embeddings.found, bundle, SETTINGS, naming=NAMING)
        return {one.event.user: one.after for one in changed}

    for event in events:
        if event.type != "purchase" or event.item not in codes:
            continue
        bags = bags_before(event)
        bag = bags.get(event.user, Bag())
        if event.item in bag.slots:
            owned += 1
            continue
        ranked = ranked_anew(bundle, SETTINGS, bags, user=event.user, moment=event.time, codes=codes)
        ranks.append([name for name, *_ in ranked].index(event.item))
    return ranks, owned


@pytest.mark.parametrize("delay", [0, 3 * DAY])
def test_the_figures_are_those_of_lists_of_all_items_by_what_was_known_before(
    stream: EventStream, embeddings: Stored, delay: int
) -> None:
    found = measured(stream, embeddings, Rules(delay=delay))
    ranks, owned = ranks_anew(stream, embeddings, delay)
    own = found.figures["all, recommended"]
    assert (own["purchases"], found.owned) == (len(ranks), owned)
    assert owned > 5
    expected = {
        "hit@12": [rank < 12 for rank in ranks],
        "MAP@12": [1 / (rank + 1) if rank < 12 else 0 for rank in ranks],
        "recall@100": [rank < 100 for rank in ranks],
    }
    assert {name: own[name] for name in FIGURES} == {
        name: round(float(np.mean(of)), 4) for name, of in expected.items()
    }
    assert 0.05 < own["MAP@12"] < 0.95


def test_targets_of_some_users_only_are_measured_and_all_users_make_things_popular(
    stream: EventStream, embeddings: Stored
) -> None:
    some = frozenset({"user-1", "user-2"})
    found = measured(stream, embeddings, Rules(), some)
    assert found.users == 2
    purchases = [
        event for event in stream.events() if event.user in some and event.type == "purchase" and event.item != LOST
    ]
    assert found.figures["all, recommended"]["purchases"] + found.owned == len(purchases)
    assert found.figures["all, popular so far"]["recall@100"] > 0.5


def test_the_tables_have_every_method_with_intervals_and_leads(stream: EventStream, embeddings: Stored) -> None:
    found = measured(stream, embeddings, Rules())
    part, *_ = item_parts(found)
    figures, leads = part.tables
    assert [row[0] for row in figures.rows][:3] == ["recommended", "popular in 7 days", "popular in 28 days"]
    own = found.figures["all, recommended"]
    assert figures.rows[0][1].startswith(f"{own['hit@12']:.4f}".replace("0.", ".", 1) + " [")
    assert [row[0] for row in leads.rows] == [row[0] for row in figures.rows][1:]
    lead = own["hit@12 - popular in 28 days"]
    assert leads.rows[1][1].startswith(f"{lead:+.4f}".replace("0.", ".", 1) + " [")
    first, _ = item_verdict(found)
    assert f"what was popular in 28 days by {abs(lead):.3f} [" in first
    assert f"{found.owned} purchases of items that were in the bag" in item_limits(found)[0]


def test_a_bundle_that_uses_the_trend_ranks_by_the_trend_of_the_days_before(
    stream: EventStream, embeddings: Stored, tmp_path: Path
) -> None:
    bundle = Bundle.load(write_trending(tmp_path / "trending"))
    assert bundle.labels_version
    offline = Offline(SETTINGS, stream, NAMING, (), Stored(stream, bundle))
    found = measure_items(stream, offline, bundle, rules=Rules(), at=None, title="items")
    assert found is not None
    assert 0 < found.figures["first purchase of a user, recommended"]["recall@100"] <= 1
    json.dumps(found.figures)
