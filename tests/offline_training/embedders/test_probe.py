"""A linear probe separates linear categories. Macro accuracy differs if categories are not equally frequent."""

import pytest

torch = pytest.importorskip("torch", reason="needs the extra `train`")

from offline_training.embedders.probe import STRENGTHS, LabelledEmbeddings, fit, measure  # noqa: E402


def examples(count: int, seed: int) -> LabelledEmbeddings:
    """Three categories in 8 features, one direction each, shifted and scaled."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    features = torch.randn((count, 8), generator=generator) + 4 * torch.eye(8)[labels]
    return LabelledEmbeddings(features * torch.logspace(-2, 2, 8) + 50, labels)


def test_the_probe_separates_categories_for_any_scale_of_the_features() -> None:
    found = fit(examples(120, 0), examples(60, 1), 3)
    held_out = examples(300, 2)
    assert measure(found.logits(held_out.embeddings), held_out.labels).accuracy > 0.95


def test_the_probe_does_not_memorize_random_labels() -> None:
    train, validation = examples(60, 0), examples(60, 1)
    generator = torch.Generator().manual_seed(3)
    shuffled = LabelledEmbeddings(train.embeddings, train.labels[torch.randperm(60, generator=generator)])
    found = fit(shuffled, validation, 3)
    assert found.logits(validation.embeddings).softmax(1).max() < 0.9


def test_a_stronger_penalty_gives_less_confident_scores() -> None:
    train, validation = examples(60, 0), examples(60, 1)
    confidence = {
        strength: fit(train, validation, 3, (strength,)).logits(train.embeddings).softmax(1).amax(1).mean()
        for strength in (STRENGTHS[0], STRENGTHS[-1])
    }
    assert confidence[STRENGTHS[0]] < confidence[STRENGTHS[-1]]


def test_macro_accuracy_counts_a_rare_category_like_a_frequent_one() -> None:
    labels = torch.tensor([0, 0, 0, 1])
    always_the_first = torch.tensor([[1.0, 0.0, 0.0]]).repeat(4, 1)
    measured = measure(always_the_first, labels)
    assert (measured.accuracy, measured.macro) == (0.75, 0.5)
