"""The tables of kinds: each class once, under its own name, and nothing that a shop would be ashamed of."""

import re
from pathlib import Path

import numpy as np
import pytest

from model.bundle import Bundle
from offline_training.bundles.kinds.graphs import FIELD
from offline_training.bundles.kinds.table import KINDS, SOFTNESS, KindHead, kind_head, read_categories, read_kinds
from offline_training.datasets.records import DatasetError
from tests.data import DATA, needs

ASHAMED = """rifle|revolver|cannon|missile|projectile|guillotine|holster|scabbard|cleaver|hatchet|letter opener|bow|tank|warplane
|syringe|mousetrap|cockroach|fly|spider|tarantula|tick|leech|abaya|vestment|prayer rug|altar|mosque|church|stupa|cassock
|military uniform|pickelhaube|bulletproof vest|cuirass|breastplate|gasmask|ski mask|muzzle|nipple
|slot|prison|bearskin|chain saw""".replace("\n", "").split("|")  # fmt: skip


def test_a_class_belongs_to_one_kind() -> None:
    classes = [number for members in read_kinds().values() for number in members]
    assert len(set(classes)) == len(classes) > 300
    assert min(classes) >= 1, "0 is the background"
    assert max(classes) <= 1000
    assert 30 <= len(read_kinds()) <= 40


@needs("mobilenet")
def test_the_names_are_those_of_the_outputs() -> None:
    labels = (DATA / "mobilenet" / "imagenet_labels.txt").read_text().splitlines()
    for members in read_kinds().values():
        assert members == {number: labels[number].split(",")[0] for number in members}


@pytest.mark.parametrize("name", ASHAMED)
def test_no_kind_has_a_class_that_embarrasses(name: str) -> None:
    assert name not in {name for members in read_kinds().values() for name in members.values()}


def test_no_living_thing_is_a_kind() -> None:
    """The first 398 classes are animals; fungi, geology and people come last."""
    classes = {number for members in read_kinds().values() for number in members}
    assert min(classes) > 398
    assert classes.isdisjoint({*range(971, 986), *range(989, 1000)})


def test_the_table_says_its_source_and_licence() -> None:
    head = [line for line in KINDS.read_text().splitlines() if line.startswith("#")]
    assert re.search(r"ImageNet.*Apache-2\.0", " ".join(head))


def test_every_own_category_of_the_shipped_bundle_has_kinds() -> None:
    shipped, table = Bundle.load(), read_categories()
    [field] = [field for field in shipped.manifest.fields if field.name == FIELD]
    kinds = [shipped.categories[place] for place in field.categories]
    assert kinds == list(read_kinds())
    assert list(table) == list(shipped.categories[: len(shipped.categories) - len(kinds)])
    for category, known in table.items():
        assert known.right, category
        assert known.plausible <= set(kinds), category
        assert not known.right & known.near, category


def test_features_that_say_nothing_make_all_kinds_equally_probable(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(1, 1, 8, 1001)).astype(np.float32)
    arrays = {"Logits/Conv2d_1c_1x1/weights": weights, "Logits/Conv2d_1c_1x1/biases": np.zeros(1001, np.float32)}
    np.savez(tmp_path / "mobilenet.npz", **arrays)  # pyright: ignore[reportArgumentType] -- its second argument is another
    head = kind_head(tmp_path / "mobilenet.npz")
    assert np.allclose(head.probabilities(np.zeros((2, 8), np.float32)), 1 / len(head.kinds), atol=1e-6)
    features = np.zeros((1, 8), np.float32)
    longest = int(np.linalg.norm(head.weight, axis=1).argmax())
    features[0] = 9 * head.weight[longest]
    assert head.probabilities(features).argmax() == head.kind[longest], "an output belongs to the kind of its class"


def test_a_kind_gets_the_soft_mean_of_the_outputs_of_its_classes() -> None:
    outputs, kind = np.array([3.0, 1.0, 2.5, -20.0], np.float32), np.array([0, 0, 1, 1])
    biases = (outputs - SOFTNESS * np.log(2)).astype(np.float32)  # of two classes each
    head = KindHead(["a", "b"], np.zeros((4, 1), np.float32), biases, kind)
    means = [SOFTNESS * np.log(np.exp(outputs[kind == one] / SOFTNESS).mean()) for one in (0, 1)]
    expected = np.exp(means) / np.exp(means).sum()
    assert head.probabilities(np.zeros((1, 1), np.float32))[0] == pytest.approx(expected, abs=1e-6)
    assert expected[0] > 3 * expected[1], "a second class that is likely, too, counts"


def test_a_file_that_is_no_mobilenet_is_refused(tmp_path: Path) -> None:
    layer = {"Logits/Conv2d_1c_1x1/weights": np.zeros((1, 1, 8, 10)), "Logits/Conv2d_1c_1x1/biases": np.zeros(10)}
    for arrays in ({"ids": np.zeros(3)}, layer):
        np.savez(tmp_path / "other.npz", **arrays)  # pyright: ignore[reportArgumentType]
        with pytest.raises(DatasetError, match=r"other\.npz: expected the arrays of MobileNet v1"):
            kind_head(tmp_path / "other.npz")
    (tmp_path / "text.npz").write_text("no arrays")
    with pytest.raises(DatasetError, match=r"text\.npz: not a file of arrays"):
        kind_head(tmp_path / "text.npz")
    with pytest.raises(DatasetError, match=r"gone\.npz"):
        kind_head(tmp_path / "gone.npz")
