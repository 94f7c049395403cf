"""A bundle that uses the trend follows another one: trained on purchases, and compared by the fields of the next purchase."""

from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra `train`")
pytest.importorskip("pyarrow", reason="needs the extra `parquet`")

from model.bundle import Bundle  # noqa: E402
from offline_training.bundles import purchases  # noqa: E402
from offline_training.datasets.labels import LabelRule  # noqa: E402
from offline_training.datasets.picture_ref import PictureRef  # noqa: E402
from offline_training.datasets.prepare import prepare  # noqa: E402
from offline_training.datasets.records import DatasetError, DatasetEvent, DatasetItem  # noqa: E402
from offline_training.replay.evaluation.fields import MACRO3  # noqa: E402
from offline_training.replay.play.events import PreparedDataset  # noqa: E402
from offline_training.retrain.replaying import HeldOut, replay, rules_of, stream_of  # noqa: E402
from offline_training.retrain.report import RetrainReport, markdown  # noqa: E402
from offline_training.retrain.run import compared  # noqa: E402
from offline_training.retrain.training import TrainingData, read_training_data, task_for, train, write_features  # noqa: E402
from streams.settings import read_settings  # noqa: E402
from tests.offline_training.datasets.sources import Given, no_step  # noqa: E402
from tests.offline_training.retrain.simulated import DAY, DAYS, FEATURES, START, Shop, shop  # noqa: E402
from tests.offline_training.silent import step  # noqa: E402

pytestmark = pytest.mark.training

CUT = START + (DAYS - 7) * DAY
USERS = 120


def dataset_of(simulated: Shop, folder: Path) -> PreparedDataset:
    """A data set whose categories are values of one field."""
    events = [
        DatasetEvent(row["user_id"], row["item_id"], row["type"], row["timestamp"]) for row in simulated.events(USERS)
    ]
    items = [
        DatasetItem(item, PictureRef(simulated.url(item)), (("kind", kind.removeprefix("kind ")),))
        for item, kind in simulated.items.items()
    ]
    prepare(Given(events, items), "made", folder, rule=LabelRule(2, 2), pictures=None, step=no_step, uncategorized=True)
    return PreparedDataset(folder)


class Loop:
    """A simulated shop, and its current bundle, which uses the trend."""

    def __init__(self, folder: Path) -> None:
        simulated = shop()
        self.folder = folder
        self.dataset = dataset_of(simulated, folder / "set")
        self.stream = stream_of(self.dataset)
        self.features = {PictureRef(simulated.url(item)): row for item, row in simulated.features.items()}
        write_features(self.dataset, self.features, FEATURES)
        self.data: TrainingData = read_training_data(self.dataset.folder, None, CUT, "purchases")
        self.current = self.trained(Bundle.load(), "current")

    def trained(self, base: Bundle, name: str, *, keep_items: bool = False, seed: int = 0) -> Bundle:
        return train(
            base, self.data, name="shop", version=name, command="", aggregator=None, keep_items=keep_items, seed=seed,
            date="", out=self.folder / name, step=step, adapts=True,
        )  # fmt: skip

    def replayed(self, following: Bundle, current: Bundle) -> HeldOut:
        settings = read_settings()
        rules = rules_of(frozenset({"purchase"}), CUT, len(self.data.catalogue.labels), settings.top_k)
        return replay(
            settings,
            self.stream,
            self.features,
            self.data,
            following=following,
            current=current,
            rules=rules,
            step=step,
        )


@pytest.fixture(scope="module")
def loop(tmp_path_factory: pytest.TempPathFactory) -> Generator[Loop]:
    with pytest.MonkeyPatch.context() as patch:
        short = purchases.BlendRecipe(blend_steps=60, network_steps=20, hidden=8)
        patch.setattr(purchases, "BlendRecipe", lambda: short)
        small = replace(purchases.ITEM_RECIPES["purchases"], width=64, epochs=8, min_steps=1)
        patch.setitem(purchases.ITEM_RECIPES, "purchases", small)
        yield Loop(tmp_path_factory.mktemp("loop"))


def test_nothing_of_the_held_out_time_is_learnt(loop: Loop) -> None:
    taken = loop.data.taken
    assert taken is not None
    assert int(taken.day.max()) * DAY < CUT
    before = {(event.user, event.item) for event in loop.stream.events() if event.time < CUT}
    items = loop.data.catalogue.items
    assert {(taken.users[user], items[row]) for user, row in zip(taken.user, taken.row, strict=True)} <= before


def test_the_next_bundle_is_for_purchases_as_the_current_one_is(loop: Loop) -> None:
    assert task_for(loop.current) == "purchases"
    assert task_for(Bundle.load()) == "next"
    assert loop.current.aggregator().uses_trend


def test_bundles_are_compared_by_the_fields_of_each_purchase(loop: Loop) -> None:
    same = loop.replayed(loop.current, loop.current)
    assert set(same.figures) == {"hit@5", MACRO3}
    figure = same.figures[MACRO3]
    assert figure.next == figure.current
    assert (figure.over_current.value, figure.over_current.low, figure.over_current.high) == (0, 0, 0)
    assert figure.over_trend.low > 0, "users stay with their taste, which the trend does not know"
    report = RetrainReport(compared(same, loop.current, loop.current, 0.02), same, {})
    assert report.comparison.passed
    assert "above -0.02 in hit@5 and in macro hit@3" in markdown(report)


def test_the_item_network_can_stay_and_embeddings_stay_valid(loop: Loop) -> None:
    made = loop.trained(loop.current, "kept", keep_items=True, seed=1)
    assert (made.embedder_version, made.labels_version) == (loop.current.embedder_version, loop.current.labels_version)
    assert made.manifest.files["aggregator.onnx"] != loop.current.manifest.files["aggregator.onnx"]
    assert made.manifest.embedding == loop.current.manifest.embedding
    assert abs(loop.replayed(made, loop.current).figures[MACRO3].over_current.value) < 0.1


def test_an_item_network_that_tells_no_labels_cannot_stay(loop: Loop) -> None:
    with pytest.raises(DatasetError, match="does not use the trend, so its item network does not tell their labels"):
        loop.trained(Bundle.load(), "refused", keep_items=True)


def test_the_labels_of_new_items_are_not_learnt(loop: Loop, tmp_path: Path) -> None:
    new = np.zeros(len(loop.data.catalogue.items), bool)
    new[::2] = True
    known = loop.data.split.new
    other = replace(loop.data, split=loop.data.split._replace(new=new | known))
    made = train(
        Bundle.load(), other, name="shop", version="1", command="", aggregator=None, keep_items=False, seed=0, date="",
        out=tmp_path / "other", step=step, adapts=False,
    )  # fmt: skip
    assert made.embedder_version != loop.current.embedder_version
