"""Only trainable blocks change. Training stops, resumes and is repeatable. Rare categories can weigh more."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra `train`")

from torch import Tensor  # noqa: E402

from model.exceptions import TastestreamError  # noqa: E402
from offline_training.embedders.finetuning import (  # noqa: E402
    Epoch,
    FinetuningRecipe,
    LabelledViews,
    TrainingHistory,
    Tuned,
    class_weights,
    embed_views,
    fine_tune,
    smoothed_loss,
)
from offline_training.embedders.probe import Accuracy, LinearClassifier, Standardization  # noqa: E402
from offline_training.embedders.training_data.views import CachedActivations  # noqa: E402
from tests.offline_training.embedders import small  # noqa: E402

RECIPE = FinetuningRecipe(epochs=4, batch=8, block_rate=1e-2, layer_rate=1e-2)
CATEGORIES = 3
PLAIN = Standardization(torch.zeros(16), torch.ones(16))


def part(cut: int, count: int, seed: int) -> LabelledViews:
    """Random activations in two views. Each category is brighter in a channel of its own."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CATEGORIES, count)
    shape = small.backbone().before(torch.zeros((1, small.SIZE, small.SIZE, 3), dtype=torch.uint8), cut).shape[1:]
    activations = rng.random((count, 2, *shape))
    activations[np.arange(count), :, labels] += 1
    return LabelledViews(CachedActivations(activations.astype(np.float16)), labels.astype(np.int64))


def tuned(cut: int) -> Tuned:
    return Tuned(small.backbone(), cut, LinearClassifier(torch.zeros(CATEGORIES, 16), torch.zeros(CATEGORIES)), PLAIN)


def train(
    network: Tuned, checkpoint: Path, recipe: FinetuningRecipe = RECIPE, *, stop_after: int = 100, resume: bool = False
) -> TrainingHistory:
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


def state_of(network: Tuned) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_only_trainable_blocks_and_the_layer_change_and_no_batch_norm_statistic(cut: int, tmp_path: Path) -> None:
    network = tuned(cut)
    before = state_of(network)
    train(network, tmp_path / "checkpoint.pt")
    changed = {name for name, tensor in state_of(network).items() if not torch.equal(tensor, before[name])}
    blocks = {name for name, _ in network.backbone.named_parameters() if int(name.split(".")[1]) >= cut}
    assert changed == {f"backbone.{name}" for name in blocks} | {"layer.weight", "layer.bias"}


def test_training_learns_the_categories(tmp_path: Path) -> None:
    network = tuned(1)
    history = train(network, tmp_path / "checkpoint.pt", replace(RECIPE, epochs=12, patience=0))
    assert history.epochs[-1].train_loss < history.epochs[0].train_loss
    assert history.epochs[history.best].validation.accuracy > 0.8


@pytest.mark.parametrize("stop_after", [1, 3])
def test_a_resumed_training_equals_an_uninterrupted_one(stop_after: int, tmp_path: Path) -> None:
    whole = tuned(1)
    expected = train(whole, tmp_path / "whole.pt")
    with pytest.raises(KeyboardInterrupt):
        train(tuned(1), tmp_path / "checkpoint.pt", stop_after=stop_after)
    resumed = tuned(1)
    found = train(resumed, tmp_path / "checkpoint.pt", resume=True)
    assert (found.epochs, found.best) == (expected.epochs, expected.best)
    states = state_of(resumed)
    assert all(torch.equal(tensor, states[name]) for name, tensor in state_of(whole).items())


def test_without_resume_a_checkpoint_is_replaced(tmp_path: Path) -> None:
    first = train(tuned(1), tmp_path / "checkpoint.pt", stop_after=100)
    assert train(tuned(1), tmp_path / "checkpoint.pt").epochs == first.epochs


@pytest.mark.parametrize("recipe", [replace(RECIPE, epochs=9), replace(RECIPE, balanced=True)])
def test_a_checkpoint_of_another_training_is_refused(recipe: FinetuningRecipe, tmp_path: Path) -> None:
    train(tuned(1), tmp_path / "checkpoint.pt")
    with pytest.raises(TastestreamError, match="other pictures, weights or options"):
        train(tuned(1), tmp_path / "checkpoint.pt", recipe, resume=True)


def test_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(b"cut off")
    with pytest.raises(TastestreamError, match="this is not a checkpoint"):
        train(tuned(1), tmp_path / "checkpoint.pt", resume=True)


def test_training_stops_without_better_validation_and_keeps_the_best_epoch(tmp_path: Path) -> None:
    network = tuned(1)
    recipe = replace(RECIPE, epochs=40, patience=2)
    history = train(network, tmp_path / "checkpoint.pt", recipe)
    best = history.epochs[history.best]
    assert len(history.epochs) == history.best + 1 + recipe.patience < recipe.epochs
    assert all(epoch.validation.accuracy <= best.validation.accuracy for epoch in history.epochs)
    held_out = part(1, 12, 1)
    with torch.inference_mode():
        logits = network.classifier().logits(embed_views(network.backbone, network.cut, held_out.views))
    assert float((logits.argmax(1).numpy() == held_out.labels).mean()) == best.validation.accuracy


def test_patience_counts_epochs_since_the_best_one() -> None:
    epochs = [Epoch(number, 0.0, 0.0, Accuracy(0.0, 0.0)) for number in range(1, 4)]
    recipe = FinetuningRecipe(epochs=10, patience=2)
    assert TrainingHistory(epochs, best=0).is_over(recipe) and not TrainingHistory(epochs, best=1).is_over(recipe)
    assert not TrainingHistory(epochs, best=0).is_over(replace(recipe, patience=0))
    assert TrainingHistory(epochs, best=2).is_over(replace(recipe, epochs=3))


def test_class_weights_make_each_category_count_the_same() -> None:
    labels = np.array([0] * 6 + [1] * 3 + [2] * 1)
    weights = class_weights(labels, 3)
    assert torch.allclose(weights * torch.tensor([6.0, 3.0, 1.0]), torch.full((3,), 10 / 3))


def test_the_layer_starts_as_the_given_classifier_and_returns_it() -> None:
    generator = torch.Generator().manual_seed(0)
    start = LinearClassifier(
        torch.randn(CATEGORIES, 16, generator=generator), torch.randn(CATEGORIES, generator=generator)
    )
    scale = Standardization(torch.rand(16, generator=generator), 0.1 + torch.rand(16, generator=generator))
    network = Tuned(small.backbone(), 1, start, scale)
    rows = part(1, 10, 0).views.rows(np.arange(10), np.zeros(10, np.int64))
    expected = start.logits(network.backbone.after(rows, 1))
    assert torch.allclose(network(rows), expected, atol=1e-4)
    assert torch.allclose(network.classifier().weight, start.weight, atol=1e-5)
    assert torch.allclose(network.classifier().bias, start.bias, atol=1e-4)


def test_label_smoothing_does_not_prefer_rare_categories() -> None:
    """A wrong logit costs the same for each of the other categories."""
    weights, labels = torch.tensor([1.0, 1.0, 50.0]), torch.tensor([0])
    losses = [smoothed_loss(torch.eye(3)[[wrong]], labels, weights, 0.1) for wrong in (1, 2)]
    assert torch.isclose(losses[0], losses[1])


def test_a_picture_has_the_weight_of_its_category() -> None:
    logits, labels, weights = torch.eye(3)[[0, 0]], torch.tensor([0, 2]), torch.tensor([1.0, 1.0, 3.0])
    alone = [smoothed_loss(logits[[number]], labels[[number]], None, 0.1) for number in (0, 1)]
    assert torch.isclose(smoothed_loss(logits, labels, weights, 0.1), (alone[0] + 3 * alone[1]) / 4)
    assert torch.isclose(smoothed_loss(logits, labels, None, 0.1), (alone[0] + alone[1]) / 2)


def test_balancing_raises_the_score_of_the_rare_category(tmp_path: Path) -> None:
    """All activations are equal, so the scores only depend on the weights of the categories."""
    rare = LabelledViews(CachedActivations(np.ones((20, 1, 16, 1, 1), np.float16)), np.array([0] * 18 + [1] * 2))
    share = {}
    for balanced in (True, False):
        network = Tuned(small.backbone(), 3, LinearClassifier(torch.zeros(2, 16), torch.zeros(2)), PLAIN)
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
