"""Trains a network of `offline_training.aggregators` on simulated users, drawn afresh for every step.

What keeps NAN and context gating from ending below a plain average, measured on this task: queries that start at zero
(attention begins as the log prior, not on one item), inputs scaled down so that a step moves the energies of attention a
little and not past softmax's saturation, a learning rate of its own for each part (that of the layer fifty times that of
the queries), and a one-cycle schedule whose warm-up lets the category layer settle first.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from offline_training.aggregators.paper import MaskedAverage, NeuralAggregationNetwork
from offline_training.users import MAX_BAG, Pool, pad, simulate


@dataclass(frozen=True)
class Recipe:
    """Numbers of the training; they end in the manifest."""

    steps: int = 700
    batch: int = 128
    layer_rate: float = 0.1
    gate_rate: float = 0.03
    first_query_rate: float = 0.01
    second_query_rate: float = 0.001
    weight_decay: float = 0.002
    warm_up: float = 0.2
    """Share of the steps."""


def train(
    network: NeuralAggregationNetwork | MaskedAverage,
    pool: Pool,
    recipe: Recipe,
    seed: int,
    advance: Callable[[float], None],
) -> None:
    """Minimize the binary cross-entropy of all categories, in place.

    Args:
        network: fresh.
        pool: of training pictures.
        recipe: the numbers.
        seed: of the users; the network's own chance was its initialization.
        advance: told the loss after each step.
    """
    rng = np.random.default_rng(seed)
    optimizer = torch.optim.AdamW(_groups(network, recipe), weight_decay=recipe.weight_decay, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=[group["lr"] for group in optimizer.param_groups],
        total_steps=recipe.steps,
        pct_start=recipe.warm_up,
    )
    categories = network.layer.out_features
    network.train()
    for _ in range(recipe.steps):
        largest = int(2 ** rng.uniform(2, np.log2(MAX_BAG) + 0.1))  # one bound for the step, so that little is padding
        users = simulate(pool, recipe.batch, rng, max_bag=min(largest, MAX_BAG))
        embeddings, log_prior, labels = (torch.from_numpy(array) for array in pad(pool, users, categories))
        logits, _ = network(embeddings, log_prior)
        loss = functional.binary_cross_entropy_with_logits(logits, labels, reduction="none").sum(dim=1).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        advance(float(loss.detach()))
    network.eval()


def _groups(network: nn.Module, recipe: Recipe) -> list[dict[str, object]]:
    """Every parameter with the rate of its part."""
    rates = {
        "layer": recipe.layer_rate,
        "gate": recipe.gate_rate,
        "first_query": recipe.first_query_rate,
        "second_query": recipe.second_query_rate,
    }
    return [{"params": [parameter], "lr": rates[name.split(".")[0]]} for name, parameter in network.named_parameters()]
