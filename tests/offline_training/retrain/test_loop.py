"""From a data set to the next bundle and the figures of both, without Kafka."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra `train`")
pytest.importorskip("pyarrow", reason="needs the extra `parquet`")

from model.bundle import Bundle  # noqa: E402
from offline_training.datasets.labels import LabelRule  # noqa: E402
from offline_training.datasets.picture_ref import PictureRef  # noqa: E402
from offline_training.datasets.prepare import prepare  # noqa: E402
from offline_training.datasets.records import DatasetError, DatasetEvent, DatasetItem  # noqa: E402
from offline_training.replay.play.events import EventStream, PreparedDataset  # noqa: E402
from offline_training.retrain.replaying import replay, rules_of, stream_of, users_with_targets  # noqa: E402
from offline_training.retrain.report import RetrainReport, markdown, page  # noqa: E402
from offline_training.retrain.run import compared  # noqa: E402
from offline_training.retrain.training import TrainingData, adapter_from, read_training_data, train, write_features  # noqa: E402
from streams.settings import read_settings  # noqa: E402
from tests.offline_training.datasets.sources import Given, no_step  # noqa: E402
from tests.offline_training.retrain.simulated import CATEGORIES, DAY, DAYS, FEATURES, START, Shop, bundle_of, shop  # noqa: E402
from tests.offline_training.silent import step  # noqa: E402

pytestmark = [pytest.mark.training, pytest.mark.slow]  # test_purchases.py is the quicker form

CUT = START + (DAYS - 7) * DAY
USERS = 150


class Loop:
    """A simulated shop as a data set with features, and its current bundle."""

    def __init__(self, folder: Path) -> None:
        self.shop: Shop = shop()
        self.dataset = dataset_of(self.shop, folder / "set")
        self.stream: EventStream = stream_of(self.dataset)
        self.features = {PictureRef(self.shop.url(item)): row for item, row in self.shop.features.items()}
        self.current: Bundle = bundle_of(self.shop, folder / "current", users=80)
        write_features(self.dataset, self.features, FEATURES)
        self.data: TrainingData = read_training_data(self.dataset.folder, self.current.categories, CUT, "next")


def dataset_of(simulated: Shop, folder: Path, categories: int = len(CATEGORIES)) -> PreparedDataset:
    rows = simulated.events(USERS)
    events = [DatasetEvent(row["user_id"], row["item_id"], row["type"], row["timestamp"]) for row in rows]
    kept = CATEGORIES[:categories]
    items = [
        DatasetItem(item, PictureRef(simulated.url(item)), ((kind,),) if kind in kept else ())
        for item, kind in simulated.items.items()
    ]
    rule = LabelRule(only=frozenset(CATEGORIES))
    prepare(Given(events, items), "made", folder, rule=rule, pictures=None, step=no_step, uncategorized=True)
    return PreparedDataset(folder)


@pytest.fixture(scope="module")
def loop(tmp_path_factory: pytest.TempPathFactory) -> Loop:
    return Loop(tmp_path_factory.mktemp("loop"))


def test_nothing_of_the_held_out_time_is_learnt(loop: Loop) -> None:
    data = loop.data
    before = {event.item for event in loop.stream.events() if event.time < CUT}
    new = {data.catalogue.items[row] for row in np.flatnonzero(data.split.new)}
    assert new == set(data.catalogue.items) - before
    bags = np.concatenate([part.rows.ravel() for part in (data.split.train, data.split.validation, data.split.test)])
    assert {data.catalogue.items[row] for row in bags[bags >= 0]} <= before


def test_a_bundle_equals_itself_and_its_aggregator_alone_can_be_trained(loop: Loop, tmp_path: Path) -> None:
    settings = read_settings()
    rules = rules_of(frozenset({"purchase"}), CUT, len(CATEGORIES), settings.top_k)
    late = {event.user for event in loop.stream.events() if event.time >= CUT and event.type == "purchase"}
    assert users_with_targets(loop.stream, rules) == len(late)

    same = replay(
        settings,
        loop.stream,
        loop.features,
        loop.data,
        following=loop.current,
        current=loop.current,
        rules=rules,
        step=step,
    )
    assert same.users == len(late)
    for figure in same.figures.values():
        assert figure.next == figure.current
        assert (figure.over_current.value, figure.over_current.low, figure.over_current.high) == (0, 0, 0)
        assert figure.over_trend.low > 0

    made = train(
        loop.current, loop.data, name="shop", version="2", command="", aggregator=None, keep_items=True, seed=0, date="",
        out=tmp_path / "next", step=step, adapts=True,
    )  # fmt: skip
    assert made.embedder_version == loop.current.embedder_version, "stored embeddings stay valid"
    assert made.manifest.files["aggregator.onnx"] != loop.current.manifest.files["aggregator.onnx"]
    assert made.manifest.embedding == loop.current.manifest.embedding
    found = replay(
        settings, loop.stream, loop.features, loop.data, following=made, current=loop.current, rules=rules, step=step
    )
    assert found.figures["hit@5"].over_trend.low > 0
    assert found.figures["hit@5"].current == same.figures["hit@5"].current
    with pytest.raises(DatasetError, match="aggregator union: it needs the labels of a new item network"):
        train(
            loop.current, loop.data, name="shop", version="2", command="", aggregator="union", keep_items=True, seed=0, date="",
            out=tmp_path / "other", step=step, adapts=True,
        )  # fmt: skip

    report = RetrainReport(compared(found, made, loop.current, 0.5), found, {"events": "some <b>"})
    assert report.comparison.passed
    assert "shop 2 is not worse than shop 1, by " in markdown(report)
    assert "The rule: the 95 % interval over users of next minus current begins above -0.5 in " in markdown(report)
    shown = page(report)
    assert "some &lt;b&gt;" in shown
    assert "<h1>Is the next bundle worse than the current one? No</h1>" in shown
    refused = replace(report, comparison=compared(same, made, loop.current, 0))
    assert not refused.comparison.passed, "with a margin of 0 it has to be better"
    assert "may be worse than" in page(refused)
    json.dumps(report.facts)


def test_an_adapter_is_fitted_where_there_is_enough_to_fit_it(loop: Loop) -> None:
    assert adapter_from(loop.current, loop.data, step) is not None
    split = loop.data.split
    nobody = split._replace(validation=split.validation.of(slice(0)))
    assert adapter_from(loop.current, replace(loop.data, split=nobody), step) is None


def test_categories_that_only_one_bundle_has_are_compared_as_well(loop: Loop) -> None:
    settings = read_settings()
    rules = rules_of(frozenset({"purchase"}), CUT, len(CATEGORIES), settings.top_k)
    other = Bundle.load()
    found = replay(
        settings, loop.stream, loop.features, loop.data, following=loop.current, current=other, rules=rules, step=step
    )
    assert found.figures["hit@5"].current < 0.2, (
        "the shipped bundle knows other categories, and starts with what is popular in them"
    )
    assert found.figures["hit@5"].over_current.low > 0


def test_one_category_is_refused(loop: Loop, tmp_path: Path) -> None:
    dataset = dataset_of(loop.shop, tmp_path / "set", categories=1)
    write_features(dataset, loop.features, FEATURES)
    with pytest.raises(DatasetError, match=r"expected items of two or more categories, found 20 items of \['kind A'\]"):
        read_training_data(dataset.folder, loop.current.categories, CUT, "next")
