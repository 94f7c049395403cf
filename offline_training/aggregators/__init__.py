"""Aggregators by name: networks that turn a bag of embeddings into category scores."""

from collections.abc import Callable

from torch import nn

from offline_training.aggregators.interface import Config
from offline_training.aggregators.paper import GatedAverage, MaskedAverage, NeuralAggregationNetwork, SqueezedAttention
from offline_training.aggregators.sets import LabelStack, LabelUnion, MeanMax, Queries, SetTransformer
from offline_training.item_network.network import LabelHead

MakeNetwork = Callable[[Config, LabelHead | None], nn.Module]
"""Makes an untrained network from its sizes and, if there is an item network, its label head."""

AGGREGATORS: dict[str, MakeNetwork] = {
    "average": lambda config, _: MaskedAverage(config),
    "average+cg": lambda config, _: GatedAverage(config),
    "nan": lambda config, _: NeuralAggregationNetwork(config.without_gate()),
    "nan+cg": lambda config, _: NeuralAggregationNetwork(config),
    "attention+squeeze": lambda config, _: SqueezedAttention(config),
    "mean+max": lambda config, _: MeanMax(config),
    "queries": lambda config, head: Queries(config, head=head),
    "transformer": lambda config, _: SetTransformer(config),
    "union": lambda config, head: LabelUnion(config, head=_required(head)),
    "stack": lambda config, head: LabelStack(config, head=_required(head)),
}
NEED_HEAD = frozenset({"union", "stack"})
"""The aggregators that cannot be made without a label head."""
TEXTS: dict[str, str] = {
    "average": "average of the bag, then a linear layer",
    "average+cg": "average of the bag, context gating, then a linear layer",
    "nan": "the paper's neural aggregation network: two attention blocks, then a linear layer",
    "nan+cg": "the paper's network: two attention blocks, context gating, then a linear layer",
    "attention+squeeze": "the authors' follow-up: items squeezed by a linear layer, one attention block, then a linear layer",
    "mean+max": "a layer per item, then mean and maximum over the bag",
    "queries": "a layer per item, then mean, maximum and attention by several learned queries",
    "transformer": "set transformer: items attend to each other, then mean and maximum",
    "union": "label probabilities of the items, combined by noisy-or",
    "stack": "label probabilities of the items, combined by noisy-or and corrected by a network over all labels",
}
"""One line about each aggregator, for reports."""


def _required(head: LabelHead | None) -> LabelHead:
    if head is None:
        raise ValueError("the aggregators union and stack need the label head of an item network")
    return head
