"""Networks that turn a bag of embeddings into category scores, by name."""

from collections.abc import Callable

from torch import nn

from offline_training.aggregators.interface import Config
from offline_training.aggregators.paper import GatedAverage, MaskedAverage, NeuralAggregationNetwork
from offline_training.aggregators.sets import LabelUnion, MeanMax, Queries, SetTransformer
from offline_training.items import LabelHead

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
}
"""By name: from the sizes, and the label head of the item network where there is one, to an untrained network."""


def _needed(head: LabelHead | None) -> LabelHead:
    if head is None:
        raise ValueError("a union of the items' labels needs an item network")
    return head
