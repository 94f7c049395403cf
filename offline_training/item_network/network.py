"""The item network: from an embedding to a short code, and from the code to the labels of the item.

Labels of an item say more about its picture than purchases do, and every item has labels. So the network is trained on
items, not on bags. Its output, the code of an item, is stored instead of the embedding.

Labels that exclude each other (values of a field, children of a category) share a softmax. All others have a sigmoid.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from offline_training.item_network.int8 import store_in_int8
from offline_training.tasks.fields import by_parent, exclude_each_other
from offline_training.tasks.split import TaskName


class LabelGroup(NamedTuple):
    """Labels with the same parent."""

    columns: list[int]
    """Label numbers."""
    exclusive: bool
    """Whether no item has two of them."""


def label_groups(labels: Sequence[str], matrix: NDArray[np.bool_]) -> list[LabelGroup]:
    """Group labels by their parent, in the order of the first label of each group.

    Args:
        labels: D names. ` > ` separates the levels of a name.
        matrix: Labels of N items, bool [N, D].
    """
    return [LabelGroup(columns, exclude_each_other(columns, matrix)) for columns in by_parent(labels).values()]


class LabelHead(nn.Module):
    """Maps codes to label probabilities."""

    def __init__(self, code_size: int, labels: int, groups: Sequence[LabelGroup]) -> None:
        super().__init__()
        self.groups = list(groups)
        self.layer = nn.Linear(code_size, labels + len(self.groups))
        """One output per label, and one per group for "none of its labels"."""
        order = [column for group in self.groups for column in group.columns]
        self.register_buffer("place", torch.from_numpy(np.argsort(order)), persistent=False)
        self.place: Tensor
        self.labels = labels

    def forward(self, code: Tensor) -> Tensor:  # [..., k] -> probabilities [..., D]
        logits = self.layer(code)
        return torch.cat([self._of(group, number, logits) for number, group in enumerate(self.groups)], -1)[
            ..., self.place
        ]

    def _of(self, group: LabelGroup, number: int, logits: Tensor) -> Tensor:
        if not group.exclusive:
            return torch.sigmoid(logits[..., group.columns])
        return torch.softmax(logits[..., [*group.columns, self.labels + number]], -1)[..., :-1]

    def loss(self, code: Tensor, targets: Tensor, smoothing: float) -> Tensor:
        """Return the cross-entropy, summed over groups and averaged over items.

        Args:
            code: float32 [B, k].
            targets: Label probabilities, float32 [B, D].
            smoothing: Label smoothing of the exclusive groups.
        """
        logits = self.layer(code)
        total = logits.new_zeros(())
        for number, group in enumerate(self.groups):
            wanted = targets[:, group.columns]  # [B,g]
            if group.exclusive:
                wanted = torch.cat([wanted, 1 - wanted.sum(1, keepdim=True)], 1)
                own = logits[:, [*group.columns, self.labels + number]]
                total = total + functional.cross_entropy(own, wanted, label_smoothing=smoothing)
            else:
                own = logits[:, group.columns]
                total = total + functional.binary_cross_entropy_with_logits(own, wanted, reduction="none").sum(1).mean()
        return total


@dataclass(frozen=True)
class ItemRecipe:
    """Hyperparameters of the item network and its training."""

    code_size: int = 128
    width: int = 768
    epochs: int = 20
    batch: int = 256
    rate: float = 2e-3
    weight_decay: float = 0.2
    drop_input: float = 0.2
    dropout: float = 0.4
    mixup: float = 0.3
    smoothing: float = 0.02
    min_steps: int = 160
    """Least steps. The epochs are repeated if a small catalogue has fewer. For 2,000 clothing photos 160 steps are enough."""

    def length(self, items: int) -> int:
        """Return the number of epochs for a number of items."""
        return max(self.epochs, -(-self.min_steps // -(-items // self.batch)))


MEMORIZE = ItemRecipe(width=1024, epochs=25, weight_decay=0.02, drop_input=0.0, dropout=0.1, mixup=0.0, smoothing=0.0)
"""Little regularization, for a fixed catalogue: the network may memorize the labels of its items."""

PURCHASES = ItemRecipe(weight_decay=0.1, drop_input=0.1, mixup=0.0, smoothing=0.0)
"""For the task *purchases*, which counts labels. Without mixing and smoothing, the probabilities of known items are nearer to the
truth, and as many labels of other items are right as with `ItemRecipe()`."""

ITEM_RECIPES: dict[TaskName, ItemRecipe] = {
    "profile": MEMORIZE,
    "unseen": ItemRecipe(),
    "next": MEMORIZE,
    "purchases": PURCHASES,
}
"""In the tasks *profile* and *next* the items of the bags occur in training. Items that come later are told almost as well as by
the network that generalizes: of the product types of H&M .77 are right instead of .79."""


class ItemNetwork(nn.Module):
    """Maps embeddings to codes: two wide layers and a narrow one. `head` maps codes to label probabilities."""

    def __init__(self, embedding_size: int, labels: int, groups: Sequence[LabelGroup], recipe: ItemRecipe) -> None:
        super().__init__()
        width = recipe.width
        self.features = embedding_size
        self.trunk = nn.Sequential(
            nn.LayerNorm(embedding_size),
            nn.Dropout(recipe.drop_input),
            nn.Linear(embedding_size, width),
            nn.GELU(),
            nn.Dropout(recipe.dropout),
            nn.Linear(width, width),
            nn.GELU(),
            nn.Dropout(recipe.dropout),
            nn.Linear(width, recipe.code_size),
        )
        self.head = LabelHead(recipe.code_size, labels, groups)

    def forward(self, embeddings: Tensor) -> Tensor:  # [..., d] -> codes [..., k]
        return self.trunk(embeddings)


def train_items(
    embeddings: NDArray[np.float32],
    matrix: NDArray[np.bool_],
    groups: Sequence[LabelGroup],
    recipe: ItemRecipe,
    *,
    seed: int,
    advance: Callable[[float], None] = lambda _: None,
) -> ItemNetwork:
    """Train an item network with AdamW and a one-cycle schedule, and round its trunk to int8.

    Pairs of items are mixed (Zhang et al., "mixup", ICLR 2018).

    Args:
        embeddings: Embeddings of the training items, float32 [N, d].
        matrix: Labels of the training items, bool [N, D].
        groups: Groups of the labels.
        recipe: Hyperparameters.
        seed: Random seed.
        advance: Called with the loss after each step.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    network = ItemNetwork(embeddings.shape[1], matrix.shape[1], groups, recipe)
    optimizer = torch.optim.AdamW(network.parameters(), lr=recipe.rate, weight_decay=recipe.weight_decay)
    inputs, targets = torch.from_numpy(embeddings), torch.from_numpy(matrix).float()
    starts = range(0, len(inputs), recipe.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.rate, total_steps=recipe.length(len(inputs)) * len(starts), pct_start=0.2
    )
    network.train()
    for _ in range(recipe.length(len(inputs))):
        order = torch.from_numpy(rng.permutation(len(inputs)))
        for start in starts:
            rows = order[start : start + recipe.batch]
            others = rows[torch.from_numpy(rng.permutation(len(rows)))]
            share = float(rng.beta(recipe.mixup, recipe.mixup)) if recipe.mixup else 1.0
            code = network(share * inputs[rows] + (1 - share) * inputs[others])
            loss = network.head.loss(code, share * targets[rows] + (1 - share) * targets[others], recipe.smoothing)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            advance(float(loss.detach()))
    store_in_int8(network.trunk)
    return network.eval()


@torch.inference_mode()
def codes(network: ItemNetwork, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the codes float32 [N, k] of embeddings float32 [N, d]."""
    parts = [
        network(torch.from_numpy(part)).numpy() for part in np.array_split(embeddings, len(embeddings) // 4096 + 1)
    ]
    return np.concatenate(parts)
