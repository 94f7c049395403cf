"""A linear classifier finds what is linear, and the two accuracies differ where categories are not equally frequent."""

import pytest

torch = pytest.importorskip("torch", reason="needs the extra `train`")

from offline_training.embedders.probe import STRENGTHS, Labelled, fit, measure  # noqa: E402


def examples(count: int, seed: int) -> Labelled:
    """Three categories of 8 features: their directions, shifted and of other scales."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    features = torch.randn((count, 8), generator=generator) + 4 * torch.eye(8)[labels]
    return Labelled(features * torch.logspace(-2, 2, 8) + 50, labels)


def test_it_names_categories_that_lie_apart_whatever_the_scale_of_the_features() -> None:
    found = fit(examples(120, 0), examples(60, 1), 3)
    held_out = examples(300, 2)
    assert measure(found.logits(held_out.embeddings), held_out.labels).accuracy > 0.95


def test_labels_without_relation_to_the_features_are_not_learned_by_heart() -> None:
    train, validation = examples(60, 0), examples(60, 1)
    generator = torch.Generator().manual_seed(3)
    shuffled = Labelled(train.embeddings, train.labels[torch.randperm(60, generator=generator)])
    found = fit(shuffled, validation, 3)
    assert found.logits(validation.embeddings).softmax(1).max() < 0.9


def test_a_stronger_penalty_is_less_sure() -> None:
    train, validation = examples(60, 0), examples(60, 1)
    sure = {
        strength: fit(train, validation, 3, (strength,)).logits(train.embeddings).softmax(1).amax(1).mean()
        for strength in (STRENGTHS[0], STRENGTHS[-1])
    }
    assert sure[STRENGTHS[0]] < sure[STRENGTHS[-1]]


def test_macro_accuracy_counts_a_rare_category_like_a_frequent_one() -> None:
    labels = torch.tensor([0, 0, 0, 1])
    always_the_first = torch.tensor([[1.0, 0.0, 0.0]]).repeat(4, 1)
    measured = measure(always_the_first, labels)
    assert (measured.accuracy, measured.macro) == (0.75, 0.5)
