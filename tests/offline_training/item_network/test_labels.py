"""The label head as whole numbers: the trend, the aggregator and training read the same labels from an item."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra `train`")

from model.item_labels import ItemLabels, read_item_labels  # noqa: E402
from model.quantization import as_stored, quantize_all  # noqa: E402
from offline_training.item_network.labels import ItemLabelShares, label_arrays  # noqa: E402
from offline_training.item_network.network import LabelGroup, LabelHead  # noqa: E402

SIZE = 16
GROUPS = {
    "one field": [LabelGroup([0, 1, 2], exclusive=True)],
    "two fields, their columns mixed": [LabelGroup([0, 2], exclusive=True), LabelGroup([1, 3, 4], exclusive=True)],
    "no field": [LabelGroup([0, 1, 2], exclusive=False)],
    "a field of one value": [LabelGroup([0], exclusive=True), LabelGroup([1, 2], exclusive=True)],
    "a field and others": [LabelGroup([1, 2], exclusive=True), LabelGroup([0, 3], exclusive=False)],
}


def made(groups: list[LabelGroup]) -> tuple[LabelHead, np.ndarray]:
    torch.manual_seed(0)
    head = LabelHead(SIZE, sum(len(group.columns) for group in groups), groups)
    with torch.no_grad():
        head.layer.weight.normal_()
        head.layer.bias.normal_()
    return head, as_stored(np.random.default_rng(1).normal(size=(40, SIZE)).astype(np.float32))


@pytest.mark.parametrize("groups", GROUPS.values(), ids=GROUPS.keys())
def test_the_labels_are_those_of_the_head_of_training(groups: list[LabelGroup]) -> None:
    head, codes = made(groups)
    shares = ItemLabelShares(label_arrays(head))(torch.from_numpy(codes))
    assert shares.detach().numpy() == pytest.approx(head(torch.from_numpy(codes)).detach().numpy(), abs=0.05), (
        "int8 weights move a probability a little"
    )


@pytest.mark.parametrize("groups", GROUPS.values(), ids=GROUPS.keys())
def test_what_the_trend_counts_is_what_the_aggregator_reads(groups: list[LabelGroup], tmp_path: Path) -> None:
    head, codes = made(groups)
    arrays = label_arrays(head)
    arrays.write(tmp_path / "labels.npz")
    read = read_item_labels(
        tmp_path / "labels.npz", (tmp_path / "labels.npz").read_bytes(), embedding_size=SIZE, categories=head.labels
    )
    shares = ItemLabelShares(arrays)(torch.from_numpy(codes)).detach().numpy()
    assert np.abs(read.of(quantize_all(codes)) / 100 - shares).max() <= 0.0051, (
        "they differ by the rounding to hundredths"
    )


def test_an_item_far_from_everything_still_has_labels() -> None:
    head, codes = made(GROUPS["two fields, their columns mixed"])
    shares = ItemLabelShares(label_arrays(head))(torch.from_numpy(codes * 1000)).detach().numpy()
    assert np.isfinite(shares).all()
    assert (shares[:, [0, 2]].sum(1) <= 1.0001).all()
    assert isinstance(
        ItemLabels(**label_arrays(head)._asdict(), categories=5).of(quantize_all(codes * 1000)), np.ndarray
    )
