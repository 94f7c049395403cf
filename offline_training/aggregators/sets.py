"""Networks over sets that are more expressive than those of the paper.

Sources: Lee et al., "Set Transformer", ICML 2019 (pooling by attention of learned queries, PMA); Zaheer et al., "Deep Sets",
NeurIPS 2017 (a network per item, then a pool over items).
"""

import torch
from torch import Tensor, nn

from offline_training.aggregators.interface import (
    Config,
    blank_padding,
    drop_some_items,
    log_odds,
    noisy_or,
    relative_weights,
    start_layer_at,
    weighted_maximum,
    weighted_sum,
)
from offline_training.item_network.network import LabelHead

LOG_ODDS_SCALE = 0.25  # of log odds as inputs of a layer, so that they have about the size of the other inputs


class MeanMax(nn.Module):
    """A layer per item, mean and maximum over the bag, then a network with one hidden layer plus a linear shortcut."""

    def __init__(
        self, config: Config, *, width: int = 768, hidden: int = 1024, dropout: float = 0.4, drop_items: float = 0.15
    ) -> None:
        super().__init__()
        self.drop_items = drop_items
        self.item = nn.Sequential(
            nn.LayerNorm(config.embedding_size), nn.Linear(config.embedding_size, width), nn.GELU()
        )
        self.drop = nn.Dropout(dropout)
        self.hidden = nn.Sequential(nn.Linear(2 * width, hidden), nn.GELU(), nn.Dropout(dropout))
        self.layer = nn.Linear(hidden, config.categories)
        self.beside = nn.Linear(2 * width, config.categories, bias=False)
        nn.init.zeros_(self.layer.weight)

    def start_at(self, prior: Tensor) -> None:  # [D]
        start_layer_at(self.layer, prior)

    def forward(self, embeddings: Tensor, log_weight: Tensor) -> tuple[Tensor, Tensor]:
        if self.training:
            log_weight = drop_some_items(log_weight, self.drop_items)
        items = self.item(blank_padding(embeddings, log_weight))  # [B,M,h]
        mean, attention = weighted_sum(items, log_weight)  # [B,h], [B,M]
        pooled = self.drop(torch.cat([mean, weighted_maximum(items, log_weight)], 1))  # [B,2h]
        return self.layer(self.hidden(pooled)) + self.beside(pooled), attention


class Queries(nn.Module):
    """A layer per item, pooling by mean, maximum and several learned queries, then two layers.

    With a label head, the label probabilities of the items are added, pooled over the bag by mean and by noisy-or.
    """

    def __init__(
        self,
        config: Config,
        *,
        head: LabelHead | None = None,
        width: int = 256,
        queries: int = 8,
        hidden: int = 512,
        dropout: float = 0.3,
        drop_items: float = 0.15,
    ) -> None:
        super().__init__()
        self.drop_items = drop_items
        self.item = nn.Sequential(nn.Linear(config.embedding_size, width), nn.GELU())
        self.queries = nn.Linear(width, queries)
        self.drop = nn.Dropout(dropout)
        self.hidden = nn.Sequential(nn.Linear(width * (2 + queries), hidden), nn.GELU(), nn.Dropout(dropout))
        self.layer = nn.Linear(hidden, config.categories)
        self.head = head
        if head is not None:
            head.requires_grad_(requires_grad=False)
            self.of_mean = nn.Parameter(torch.full((config.categories,), 0.5))
            self.of_any = nn.Parameter(torch.zeros(config.categories))
            self.between = nn.Linear(config.categories, config.categories, bias=False)
            nn.init.zeros_(self.between.weight)

    def start_at(self, prior: Tensor) -> None:  # [D]
        start_layer_at(self.layer, prior)
        if self.head is not None:
            with torch.no_grad():
                self.layer.bias.mul_(0.5)  # the other half comes from the labels of the items

    def forward(self, embeddings: Tensor, log_weight: Tensor) -> tuple[Tensor, Tensor]:
        if self.training:
            log_weight = drop_some_items(log_weight, self.drop_items)
        clean = blank_padding(embeddings, log_weight)
        items = self.item(clean)  # [B,M,h]
        mean, _ = weighted_sum(items, log_weight)  # [B,h]
        attention = torch.softmax(self.queries(items) + log_weight.unsqueeze(2), dim=1)  # [B,M,q]
        attended = torch.matmul(attention.transpose(1, 2), items).flatten(1)  # [B,q*h]
        pooled = torch.cat([mean, weighted_maximum(items, log_weight), attended], 1)
        logits = self.layer(self.hidden(self.drop(pooled)))
        if self.head is not None:
            probabilities = self.head(clean)  # [B,M,D]
            average, _ = weighted_sum(probabilities, log_weight)  # [B,D]
            logits = logits + self.of_mean * log_odds(average) + self.between(average)
            logits = logits + self.of_any * log_odds(noisy_or(probabilities, log_weight)[0])
        return logits, attention.mean(2)


class LabelUnion(nn.Module):
    """Noisy-or of the label probabilities of the items: the probability that any item has the label.

    Only a slope and an offset, shared by all labels, are trained on bags.
    """

    def __init__(self, config: Config, *, head: LabelHead) -> None:
        super().__init__()
        del config
        self.head = head.requires_grad_(requires_grad=False)
        self.slope = nn.Parameter(torch.ones(()))
        self.offset = nn.Parameter(torch.zeros(()))

    def start_at(self, prior: Tensor) -> None:  # [D]
        """Do nothing: the label head already gives a good start."""

    def forward(self, embeddings: Tensor, log_weight: Tensor) -> tuple[Tensor, Tensor]:
        union, shares = noisy_or(self.head(blank_padding(embeddings, log_weight)), log_weight)  # [B,D], [B,M]
        return self.slope * log_odds(union) + self.offset, shares


class JoinedLabels(nn.Module):
    """Combines the label probabilities of the items to those of the bag: noisy-or plus a correction from all labels.

    It has the interface of all aggregators, with probabilities [B, M, D] in place of embeddings.
    """

    def __init__(self, labels: int, *, hidden: int = 1024, dropout: float = 0.5) -> None:
        super().__init__()
        self.of_union = nn.Parameter(torch.ones(labels))
        self.of_largest = nn.Parameter(torch.zeros(labels))
        self.offset = nn.Parameter(torch.zeros(labels))
        self.hidden = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(3 * labels + 2, hidden), nn.GELU(), nn.Dropout(dropout)
        )
        self.layer = nn.Linear(hidden, labels)
        nn.init.zeros_(self.layer.weight)
        nn.init.zeros_(self.layer.bias)

    def start_at(self, prior: Tensor) -> None:  # [D]
        """Do nothing: the label head already gives a good start."""

    def forward(self, probabilities: Tensor, log_weight: Tensor) -> tuple[Tensor, Tensor]:
        clean = blank_padding(probabilities, log_weight)
        mean, _ = weighted_sum(clean, log_weight)  # [B,D]
        any_item, shares = noisy_or(clean, log_weight)  # [B,D], [B,M]
        union, largest = log_odds(any_item), log_odds((clean * relative_weights(log_weight)).amax(1))  # [B,D]
        size = torch.exp(torch.logsumexp(log_weight, 1, keepdim=True) - log_weight.amax(1, keepdim=True))  # [B,1]
        seen = torch.cat([union * LOG_ODDS_SCALE, mean, largest * LOG_ODDS_SCALE, torch.log(size), 1 / size], 1)
        corrected = self.layer(self.hidden(seen))
        return self.of_union * union + self.of_largest * largest + self.offset + corrected, shares


class LabelStack(nn.Module):
    """`JoinedLabels` on top of the label probabilities of an item network.

    The item network is more confident about items of its training set than about other items. Trained on those, `joined`
    would trust it too much. So `joined` is trained on out-of-fold probabilities, `ItemModel.out_of_fold`.

    Source: Wolpert, "Stacked generalization", Neural Networks 5 (1992).
    """

    def __init__(self, config: Config, *, head: LabelHead) -> None:
        super().__init__()
        self.head = head.requires_grad_(requires_grad=False)
        self.joined = JoinedLabels(config.categories)

    def start_at(self, prior: Tensor) -> None:  # [D]
        """Do nothing, as `joined`."""

    def forward(self, embeddings: Tensor, log_weight: Tensor) -> tuple[Tensor, Tensor]:
        return self.joined(self.head(blank_padding(embeddings, log_weight)), log_weight)


class SetTransformer(nn.Module):
    """Items attend to each other in two blocks, then mean and maximum over the bag, and a linear layer."""

    def __init__(
        self, config: Config, *, width: int = 128, heads: int = 4, layers: int = 2, dropout: float = 0.2
    ) -> None:
        super().__init__()
        self.item = nn.Sequential(nn.LayerNorm(config.embedding_size), nn.Linear(config.embedding_size, width))
        self.blocks = nn.ModuleList(_Block(width, heads, dropout) for _ in range(layers))
        self.drop = nn.Dropout(dropout)
        self.layer = nn.Linear(2 * width, config.categories)

    def start_at(self, prior: Tensor) -> None:  # [D]
        start_layer_at(self.layer, prior)

    def forward(self, embeddings: Tensor, log_weight: Tensor) -> tuple[Tensor, Tensor]:
        items = self.item(blank_padding(embeddings, log_weight))  # [B,M,h]
        for block in self.blocks:
            items = block(items, log_weight)
        mean, attention = weighted_sum(items, log_weight)
        return self.layer(self.drop(torch.cat([mean, weighted_maximum(items, log_weight)], 1))), attention


class _Block(nn.Module):
    """Pre-norm transformer block: self-attention with the log weight added to its logits, then a network per item."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.projections = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.network = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Dropout(dropout), nn.Linear(2 * width, width)
        )

    def forward(self, items: Tensor, log_weight: Tensor) -> Tensor:  # [B,M,h], [B,M] -> [B,M,h]
        query, key, value = self.projections(self.first(items)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        energy = torch.matmul(query, key.transpose(2, 3)) / query.shape[3] ** 0.5  # [B,heads,M,M]
        weights = torch.softmax(energy + log_weight[:, None, None, :], dim=3)
        items = items + self.out(torch.matmul(weights, value).transpose(1, 2).flatten(2))
        return items + self.network(self.second(items))
