"""Networks that turn a bag of embeddings into category scores, by name."""

from collections.abc import Callable

from torch import nn

from offline_training.aggregators.interface import Config
from offline_training.aggregators.paper import GatedAverage, MaskedAverage, NeuralAggregationNetwork
from offline_training.aggregators.sets import LabelStack, LabelUnion, MeanMax, Queries, SetTransformer
from offline_training.item_network.network import LabelHead

Network = Callable[[Config, LabelHead | None], nn.Module]

AGGREGATORS: dict[str, Network] = {
    "average": lambda config, _: MaskedAverage(config),
    "average+cg": lambda config, _: GatedAverage(config),
    "nan": lambda config, _: NeuralAggregationNetwork(config.without_gate()),
    "nan+cg": lambda config, _: NeuralAggregationNetwork(config),
    "mean+max": lambda config, _: MeanMax(config),
    "queries": lambda config, head: Queries(config, head=head),
    "transformer": lambda config, _: SetTransformer(config),
    "union": lambda config, head: LabelUnion(config, head=_needed(head)),
    "stack": lambda config, head: LabelStack(config, head=_needed(head)),
}
"""By name: from the sizes, and the label head of the item network where there is one, to an untrained network."""

TEXTS: dict[str, str] = {
    "average": "the average of the bag, and a layer",
    "average+cg": "the average of the bag, context gating, and a layer",
    "nan": "the paper's neural aggregation network: two attention blocks, and a layer",
    "nan+cg": "the paper's neural aggregation network with context gating: two attention blocks, a gate, and a layer",
    "mean+max": "a network for each item, then mean and maximum over the bag",
    "queries": "a network for each item, then mean, maximum and attention by several learned queries",
    "transformer": "a set transformer: items attend to each other, then mean and maximum",
    "union": "the items' own label probabilities, joined by noisy-or",
    "stack": "the items' own label probabilities: their union, corrected by a network that knows what goes together",
}
"""What each is, in a line."""


def _needed(head: LabelHead | None) -> LabelHead:
    if head is None:
        raise ValueError("a union of the items' labels needs an item network")
    return head
