"""Only the blocks that should learn do; training stops, goes on and repeats itself; rare categories weigh more."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra `train`")

from torch import Tensor  # noqa: E402

from model.exceptions import TastestreamError  # noqa: E402
from offline_training.embedders.finetuning import (  # noqa: E402
    Course,
    Epoch,
    Part,
    Recipe,
    Tuned,
    class_weights,
    embed_views,
    fine_tune,
    smoothed_loss,
)
from offline_training.embedders.probe import Accuracy, Linear, Scale  # noqa: E402
from offline_training.embedders.views import Kept  # noqa: E402
from tests.offline_training.embedders import small  # noqa: E402

RECIPE = Recipe(epochs=4, batch=8, block_rate=1e-2, layer_rate=1e-2)
CATEGORIES = 3
PLAIN = Scale(torch.zeros(16), torch.ones(16))


def part(cut: int, count: int, seed: int) -> Part:
    """Random activations in two views, brighter in another channel for each category."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CATEGORIES, count)
    shape = small.backbone().before(torch.zeros((1, small.SIZE, small.SIZE, 3), dtype=torch.uint8), cut).shape[1:]
    activations = rng.random((count, 2, *shape))
    activations[np.arange(count), :, labels] += 1
    return Part(Kept(activations.astype(np.float16)), labels.astype(np.int64))


def tuned(cut: int) -> Tuned:
    return Tuned(small.backbone(), cut, Linear(torch.zeros(CATEGORIES, 16), torch.zeros(CATEGORIES)), PLAIN)


def train(
    network: Tuned, checkpoint: Path, recipe: Recipe = RECIPE, *, stop_after: int = 100, resume: bool = False
) -> Course:
    finished = 0

    def after_epoch(_: Epoch) -> None:
        nonlocal finished
        finished += 1
        if finished == stop_after:
            raise KeyboardInterrupt

    cut = network.cut
    return fine_tune(
        network,
        part(cut, 40, 0),
        part(cut, 12, 1),
        recipe,
        seed=5,
        checkpoint=checkpoint,
        identity=("test",),
        resume=resume,
        after_epoch=after_epoch,
    )


def learned(network: Tuned) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_only_the_blocks_from_the_cut_on_and_the_layer_change_and_no_statistic_does(cut: int, tmp_path: Path) -> None:
    network = tuned(cut)
    before = learned(network)
    train(network, tmp_path / "checkpoint.pt")
    changed = {name for name, tensor in learned(network).items() if not torch.equal(tensor, before[name])}
    blocks = {name for name, _ in network.backbone.named_parameters() if int(name.split(".")[1]) >= cut}
    assert changed == {f"backbone.{name}" for name in blocks} | {"layer.weight", "layer.bias"}


def test_training_learns_the_categories(tmp_path: Path) -> None:
    network = tuned(1)
    course = train(network, tmp_path / "checkpoint.pt", replace(RECIPE, epochs=12, patience=0))
    assert course.epochs[-1].train_loss < course.epochs[0].train_loss
    assert course.epochs[course.best].validation.accuracy > 0.8


@pytest.mark.parametrize("stop_after", [1, 3])
def test_a_resumed_training_ends_as_one_that_was_not_interrupted(stop_after: int, tmp_path: Path) -> None:
    whole = tuned(1)
    expected = train(whole, tmp_path / "whole.pt")
    with pytest.raises(KeyboardInterrupt):
        train(tuned(1), tmp_path / "checkpoint.pt", stop_after=stop_after)
    resumed = tuned(1)
    found = train(resumed, tmp_path / "checkpoint.pt", resume=True)
    assert (found.epochs, found.best) == (expected.epochs, expected.best)
    states = learned(resumed)
    assert all(torch.equal(tensor, states[name]) for name, tensor in learned(whole).items())


def test_without_resume_a_checkpoint_is_replaced(tmp_path: Path) -> None:
    first = train(tuned(1), tmp_path / "checkpoint.pt", stop_after=100)
    assert train(tuned(1), tmp_path / "checkpoint.pt").epochs == first.epochs


@pytest.mark.parametrize("recipe", [replace(RECIPE, epochs=9), replace(RECIPE, balanced=True)])
def test_a_checkpoint_of_another_training_is_refused(recipe: Recipe, tmp_path: Path) -> None:
    train(tuned(1), tmp_path / "checkpoint.pt")
    with pytest.raises(TastestreamError, match="other pictures, weights or options"):
        train(tuned(1), tmp_path / "checkpoint.pt", recipe, resume=True)


def test_a_damaged_checkpoint_is_said(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(b"cut off")
    with pytest.raises(TastestreamError, match="this is no checkpoint"):
        train(tuned(1), tmp_path / "checkpoint.pt", resume=True)


def test_training_stops_when_validation_gets_no_better_and_keeps_the_best_epoch(tmp_path: Path) -> None:
    network = tuned(1)
    recipe = replace(RECIPE, epochs=40, patience=2)
    course = train(network, tmp_path / "checkpoint.pt", recipe)
    best = course.epochs[course.best]
    assert len(course.epochs) == course.best + 1 + recipe.patience < recipe.epochs
    assert all(epoch.validation.accuracy <= best.validation.accuracy for epoch in course.epochs)
    held_out = part(1, 12, 1)
    with torch.inference_mode():
        logits = network.classifier().logits(embed_views(network.backbone, network.cut, held_out.views))
    assert float((logits.argmax(1).numpy() == held_out.labels).mean()) == best.validation.accuracy


def test_patience_counts_epochs_without_a_better_one() -> None:
    epochs = [Epoch(number, 0.0, 0.0, Accuracy(0.0, 0.0)) for number in range(1, 4)]
    recipe = Recipe(epochs=10, patience=2)
    assert Course(epochs, best=0).is_over(recipe) and not Course(epochs, best=1).is_over(recipe)
    assert not Course(epochs, best=0).is_over(replace(recipe, patience=0))
    assert Course(epochs, best=2).is_over(replace(recipe, epochs=3))


def test_class_weights_make_each_category_count_the_same() -> None:
    labels = np.array([0] * 6 + [1] * 3 + [2] * 1)
    weights = class_weights(labels, 3)
    assert torch.allclose(weights * torch.tensor([6.0, 3.0, 1.0]), torch.full((3,), 10 / 3))


def test_the_layer_starts_as_the_classifier_it_is_given_and_gives_it_back() -> None:
    generator = torch.Generator().manual_seed(0)
    start = Linear(torch.randn(CATEGORIES, 16, generator=generator), torch.randn(CATEGORIES, generator=generator))
    scale = Scale(torch.rand(16, generator=generator), 0.1 + torch.rand(16, generator=generator))
    network = Tuned(small.backbone(), 1, start, scale)
    rows = part(1, 10, 0).views.rows(np.arange(10), np.zeros(10, np.int64))
    expected = start.logits(network.backbone.after(rows, 1))
    assert torch.allclose(network(rows), expected, atol=1e-4)
    assert torch.allclose(network.classifier().weight, start.weight, atol=1e-5)
    assert torch.allclose(network.classifier().bias, start.bias, atol=1e-4)


def test_smoothing_prefers_no_category_however_rare() -> None:
    """Wrong logits cost the same whichever of the other categories they are for."""
    weights, labels = torch.tensor([1.0, 1.0, 50.0]), torch.tensor([0])
    losses = [smoothed_loss(torch.eye(3)[[wrong]], labels, weights, 0.1) for wrong in (1, 2)]
    assert torch.isclose(losses[0], losses[1])


def test_a_picture_counts_as_much_as_its_category_weighs() -> None:
    logits, labels, weights = torch.eye(3)[[0, 0]], torch.tensor([0, 2]), torch.tensor([1.0, 1.0, 3.0])
    alone = [smoothed_loss(logits[[number]], labels[[number]], None, 0.1) for number in (0, 1)]
    assert torch.isclose(smoothed_loss(logits, labels, weights, 0.1), (alone[0] + 3 * alone[1]) / 4)
    assert torch.isclose(smoothed_loss(logits, labels, None, 0.1), (alone[0] + alone[1]) / 2)


def test_balancing_favours_the_rare_category(tmp_path: Path) -> None:
    """Activations that say nothing: what is left is how much each category counts."""
    rare = Part(Kept(np.ones((20, 1, 16, 1, 1), np.float16)), np.array([0] * 18 + [1] * 2))
    share = {}
    for balanced in (True, False):
        network = Tuned(small.backbone(), 3, Linear(torch.zeros(2, 16), torch.zeros(2)), PLAIN)
        recipe = replace(RECIPE, balanced=balanced, epochs=20, patience=0, batch=20)
        fine_tune(
            network,
            rare,
            rare,
            recipe,
            seed=0,
            checkpoint=tmp_path / "checkpoint.pt",
            identity=(),
            resume=False,
            after_epoch=lambda _: None,
        )
        share[balanced] = float(network(torch.ones(1, 16, 1, 1)).softmax(1)[0, 1].detach())
    assert share[True] > 0.4 and share[False] < 0.3
