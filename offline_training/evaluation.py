"""Figures of a method over held-out users, by the definitions of `model.metrics`. A method is anything that scores bags."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from model import metrics
from model.aggregator import Aggregator
from model.scoring import Bag, score_bags
from offline_training.aggregators.paper import MaskedAverage, NeuralAggregationNetwork
from offline_training.users import Pool, User, pad

BATCH = 128
LARGE_BAG = 8
"""Attention on one item means something from this size on."""

Method = Callable[[Pool, list[User]], NDArray[np.float32]]
"""Pool and users to scores [users, D]."""


def by_network(network: NeuralAggregationNetwork | MaskedAverage) -> Method:
    """Score with a network in torch."""

    @torch.inference_mode()
    def scores(pool: Pool, users: list[User]) -> NDArray[np.float32]:
        embeddings, log_prior, _ = pad(pool, users, network.layer.out_features)
        logits, _ = network(torch.from_numpy(embeddings), torch.from_numpy(log_prior))
        return torch.sigmoid(logits).numpy()

    return scores


def by_aggregator(aggregator: Aggregator) -> Method:
    """Score with an exported network the way the profile worker does."""

    def scores(pool: Pool, users: list[User]) -> NDArray[np.float32]:
        bags = [Bag(pool.embeddings[user.rows], user.log_prior) for user in users]
        return np.stack([scored.scores for scored in score_bags(aggregator, bags)])

    return scores


def by_popularity(prior: NDArray[np.float32]) -> Method:
    """Answer everybody with the prior [D]."""
    return lambda _, users: np.tile(prior, (len(users), 1))


def scores_and_labels(
    method: Method, pool: Pool, users: list[User], categories: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Scores and labels, both [users, categories], users ordered by the size of their bag so that batches hold little padding."""
    ordered = sorted(users, key=lambda user: len(user.rows))
    scores = [method(pool, ordered[start : start + BATCH]) for start in range(0, len(ordered), BATCH)]
    labels = np.zeros((len(ordered), categories), np.float32)
    for row, user in enumerate(ordered):
        labels[row, user.labels] = 1
    return np.concatenate(scores), labels


def figures(scores: NDArray[np.float32], labels: NDArray[np.float32], threshold: float) -> dict[str, float]:
    """The figures that go into the manifest, rounded to four places; `threshold` comes from validation users."""
    ranked = metrics.rank(scores, labels)
    return {
        "users": len(scores),
        "recall@1": round(metrics.mean(ranked.recall_at(1)), 4),
        "recall@3": round(metrics.mean(ranked.recall_at(3)), 4),
        "precision@1": round(metrics.mean(ranked.precision_at(1)), 4),
        "precision@3": round(metrics.mean(ranked.precision_at(3)), 4),
        "map": round(metrics.mean(ranked.average_precision()), 4),
        "micro_f1": round(metrics.micro_f1(threshold, scores, labels), 4),
        "threshold": round(threshold, 2),
    }


def heaviest_share(aggregator: Aggregator, pool: Pool, users: list[User]) -> float:
    """Mean attention on the heaviest item over bags of `LARGE_BAG` items and more: near 1 when attention has collapsed."""
    bags = [Bag(pool.embeddings[user.rows], user.log_prior) for user in users if len(user.rows) >= LARGE_BAG]
    if not bags:
        return 0.0
    return round(float(np.mean([scored.attention.max() for scored in score_bags(aggregator, bags)])), 4)


def pure_taste_figures(aggregator: Aggregator, pool: Pool, size: int) -> dict[str, float]:
    """Bags of `size` pictures of one category, every such category and picture in turn: is it first, and how sure is its score?"""
    bags: list[Bag] = []
    truth: list[int] = []
    for category, rows in pool.rows.items():
        for start in range(len(rows) if len(rows) >= size else 0):
            chosen = np.roll(rows, -start)[:size]
            bags.append(Bag(pool.embeddings[chosen], np.zeros(size, np.float32)))
            truth.append(category)
    if not bags:
        return {"bags": 0}
    scores = np.stack([scored.scores for scored in score_bags(aggregator, bags)])
    rank = (scores > scores[np.arange(len(truth)), truth][:, None]).sum(axis=1)
    return {
        "bags": len(bags),
        "first": round(float((rank == 0).mean()), 4),
        "among_first_3": round(float((rank < 3).mean()), 4),
        "median_score": round(float(np.median(scores[np.arange(len(truth)), truth])), 4),
    }
