"""Methods side by side on one task: the paper's table, and what is ahead of it.

Each is trained once for each seed, on the same bags; thresholds are chosen on validation bags, figures come from held-out ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import numpy as np
import torch
from msgspec import structs
from numpy.typing import NDArray
from torch import Tensor, nn

from model import metrics
from model.bundle import AGGREGATOR
from offline_training.aggregators import AGGREGATORS, TEXTS
from offline_training.aggregators.fitting import Curve, FitRecipe, fit, predict, recipe_for, taken
from offline_training.aggregators.interface import Config
from offline_training.aggregators.item_model import Fitted, ItemModel
from offline_training.aggregators.paper import Unmasked
from offline_training.aggregators.served import Served
from offline_training.comparison import examples
from offline_training.comparison.cost import ITEMS, cost_of
from offline_training.comparison.results import Answer, Bin, Comparison, Cost, Guess, Lead, Run, best
from offline_training.comparison.true_labels import GRADES, TrueLabels
from offline_training.exporting import export
from offline_training.item_network.network import ITEM_RECIPES, ItemRecipe
from offline_training.progress import Step
from offline_training.tasks.catalogue import Catalogue
from offline_training.tasks.evaluation import KS, figures
from offline_training.tasks.tasks import TASK_TEXTS, Split, TaskName

CURVE = 30
"""Recall and precision are told at each k up to this."""
GUESSES = 10
"""Labels that are told of an example."""
WIDE = 1024
"""Numbers of a code that is not made short."""
EMBEDDING_SCALE = 1 / 32  # see `aggregators.interface.Config`


@dataclass(frozen=True)
class Method:
    """What is compared.

    network: of `aggregators.AGGREGATORS`; "" answers everybody with the labels' frequencies. tags: of `true_labels.GRADES`, in place
    of a network. codes: works on the item network's codes, rounded as they are stored, instead of the embeddings. wide: codes of
    `WIDE` floats. unmasked: padding counts as items of zeros. input_scale: what embeddings are multiplied by. recipe: instead of the
    one that trains the network well.
    """

    network: str
    codes: bool = False
    wide: bool = False
    tags: str = ""
    unmasked: bool = False
    tanh_gate: bool = False
    input_scale: float = EMBEDDING_SCALE
    recipe: FitRecipe | None = None


ONE_RATE = FitRecipe(epochs=6, rate=2e-3, weight_decay=0.01)
"""What one would try first: the same rate for all parts."""

METHODS: dict[str, Method] = {
    "popularity": Method(""),
    "recency of true labels": Method("", tags="recency"),
    "frequency of true labels": Method("", tags="frequency"),
    "average": Method("average"),
    "nan": Method("nan"),
    "nan+cg": Method("nan+cg"),
    "average+cg": Method("average+cg"),
    "average unmasked": Method("average", unmasked=True),
    "nan unmasked": Method("nan", unmasked=True),
    "nan+cg unmasked": Method("nan+cg", unmasked=True),
    "nan+cg unmasked tanh": Method("nan+cg", unmasked=True, tanh_gate=True),
    "nan+cg tanh": Method("nan+cg", tanh_gate=True),
    "nan+cg unscaled": Method("nan+cg", input_scale=1.0),
    "nan+cg one rate": Method("nan+cg", input_scale=1.0, recipe=ONE_RATE),
    "average one rate": Method("average", input_scale=1.0, recipe=ONE_RATE),
    "mean+max": Method("mean+max"),
    "codes average": Method("average", codes=True),
    "codes nan+cg": Method("nan+cg", codes=True),
    "codes mean+max": Method("mean+max", codes=True),
    "codes queries": Method("queries", codes=True),
    "codes transformer": Method("transformer", codes=True),
    "codes union": Method("union", codes=True),
    "codes stack": Method("stack", codes=True),
    "wide codes mean+max": Method("mean+max", codes=True, wide=True),
    "wide codes stack": Method("stack", codes=True, wide=True),
}
"""By the name that tables show."""


def describe(name: str) -> str:
    """What a method of `METHODS` is, in a line."""
    method = METHODS[name]
    if method.tags:
        return (
            f"no picture: {method.tags} of the true labels of the bag's items, what a shop with perfect tags would have; "
            "where the question is which categories are in the bag, that is the answer itself, and no baseline"
        )
    if not method.network:
        return "everybody gets the share of training users that each label has"
    notes = (
        (
            method.codes and not method.wide,
            "over codes of an item network, rounded as they are stored, instead of embeddings",
        ),
        (method.wide, f"over codes of {WIDE:,} floats instead of short ones, to see what these cost"),
        (method.unmasked, "padding counts as items of zeros, as in the authors' code"),
        (method.tanh_gate, "tanh in the gate, as in the authors' code"),
        (not method.codes and method.input_scale == 1, "embeddings are not scaled"),
        (method.recipe is not None, "trained by a recipe of its own"),
    )
    return "; ".join([TEXTS[method.network], *(text for holds, text in notes if holds)])


class Bench:
    """One task and one seed; the item network is trained when the first method asks for codes.

    shown: rows of the test bags that are told of one by one.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        split: Split,
        recipe: ItemRecipe,
        *,
        seed: int,
        step: Step,
        shown: NDArray[np.int64],
    ) -> None:
        self._catalogue = catalogue
        self._split = split
        self._seed = seed
        self._step = step
        self._shown = shown
        self._embeddings = torch.from_numpy(catalogue.embeddings)
        self._items = ItemModel(catalogue, split, recipe=recipe, seed=seed, step=step)
        self._wide_items = ItemModel(
            catalogue, split, recipe=replace(recipe, code_size=WIDE), seed=seed, step=step, rounded=False
        )
        self.costs: dict[str, Cost] = {}
        self.counts: dict[str, NDArray[np.int64]] = {}
        """Of each method, `metrics.decision_counts` of the test bags [N, 3]."""

    def run(self, name: str, *, cost: bool) -> Run:
        """Train a method of `METHODS` and measure it. cost: of its exported network, too, in `costs`."""
        method, split = METHODS[name], self._split
        if not method.network:
            return self._measured(name, self._counted(method), Curve(), 0.0, [])
        items = self._wide_items if method.wide else self._items
        vectors = torch.from_numpy(items.codes) if method.codes else self._embeddings
        started = perf_counter()
        if method.codes:
            network, curve, validation = items.aggregator(method.network, method.recipe)
        else:
            network, curve, validation = self._fitted(name)
        seconds = perf_counter() - started
        scores = [validation, predict(network, vectors, split.test)]
        run = self._measured(name, scores, curve, seconds, self._attention(network, vectors))
        if cost:
            self.costs[name] = _cost(network, vectors.shape[1], len(self._catalogue.labels))
        return run

    def _counted(self, method: Method) -> list[NDArray[np.float32]]:
        """Scores of validation and test without a network."""
        asked, train = (self._split.validation, self._split.test), self._split.train
        if method.tags:
            counted = TrueLabels(self._catalogue.matrix, train, GRADES[method.tags])
            return [counted.predict(bags.rows) for bags in asked]
        return [np.tile(train.targets.mean(0, dtype=np.float32), (len(bags.rows), 1)) for bags in asked]

    def _fitted(self, name: str) -> Fitted:
        """A network over the embeddings."""
        method, split = METHODS[name], self._split
        config = Config(
            self._embeddings.shape[1],
            len(self._catalogue.labels),
            tanh_gate=method.tanh_gate,
            input_scale=method.input_scale,
        )
        torch.manual_seed(self._seed)
        network = AGGREGATORS[method.network](config, None)
        if method.unmasked:
            network = Unmasked(network, split.test.rows.shape[1])
        recipe = method.recipe or recipe_for(network)
        with self._step(f"{name}, seed {self._seed}", recipe.length(split)) as advance:
            curve = fit(network, self._embeddings, split, recipe, seed=self._seed, advance=advance)
        return Fitted(network, curve, predict(network, self._embeddings, split.validation))

    @torch.inference_mode()
    def _attention(self, network: nn.Module, vectors: Tensor) -> list[list[float]]:
        """Of each item of the bags that are shown."""
        if not len(self._shown):
            return []
        bags = self._split.test.of(self._shown)
        attention: Tensor = network(*taken(vectors, bags))[1]
        return [
            [round(float(weight), 4) for weight in one[:size]] for one, size in zip(attention, bags.sizes, strict=True)
        ]

    def _measured(
        self,
        name: str,
        scores: list[NDArray[np.float32]],
        curve: Curve,
        seconds: float,
        attention: list[list[float]],
    ) -> Run:
        (validation, test), split = scores, self._split
        threshold = metrics.best_threshold(validation, split.validation.targets)
        found = figures(test, split.test, threshold)
        self.counts[name] = metrics.decision_counts(threshold, test, split.test.targets)
        found["validation micro F1"] = metrics.micro_f1(threshold, validation, split.validation.targets)
        ranked, bins = metrics.rank(test, split.test.targets), metrics.reliability(test, split.test.targets)
        upto = range(1, _last_k(split) + 1)
        return Run(
            method=name,
            seed=self._seed,
            figures=found,
            seconds=round(seconds, 1),
            train_loss=curve.train,
            validation_loss=curve.validation,
            recall_at=[metrics.mean(ranked.recall_at(k)) for k in upto],
            precision_at=[metrics.mean(ranked.precision_at(k)) for k in upto],
            reliability=[
                Bin(float(mean), float(share), int(count))
                for mean, share, count in zip(bins.mean_score, bins.share_relevant, bins.count, strict=True)
                if count
            ],
            answers=[
                Answer(attention[number] if attention else [], self._guesses(test[row], split.test.targets[row]))
                for number, row in enumerate(self._shown)
            ],
        )

    def _guesses(self, scores: NDArray[np.float32], targets: NDArray[np.bool_]) -> list[Guess]:
        ranked = np.argsort(-scores, kind="stable")[:GUESSES]
        return [Guess(self._catalogue.labels[n], round(float(scores[n]), 4), bool(targets[n])) for n in ranked]


def compare(
    task: TaskName,
    catalogue: Catalogue,
    split: Split,
    *,
    methods: Sequence[str],
    seeds: Sequence[int],
    step: Step,
    recipe: ItemRecipe | None = None,
) -> Comparison:
    """Run each method with each seed. recipe: of the item network, the task's own by default."""
    shown, told, pictures = examples.choose(catalogue, split)
    runs: list[Run] = []
    costs: dict[str, Cost] = {}
    counts = {name: np.zeros((len(split.test.rows), 3), np.int64) for name in methods}
    for seed in seeds:
        bench = Bench(catalogue, split, recipe or ITEM_RECIPES[task], seed=seed, step=step, shown=shown)
        runs += [bench.run(name, cost=seed == seeds[0]) for name in methods]
        costs |= bench.costs
        counts = {name: counts[name] + bench.counts[name] for name in methods}
    ceilings = [float(np.minimum(1, k / split.test.targets.sum(1)).mean()) for k in range(1, _last_k(split) + 1)]
    found = Comparison(
        task=task,
        question=TASK_TEXTS[task],
        labels=len(catalogue.labels),
        items=len(catalogue.items),
        users={"train": len(split.train.rows), "validation": len(split.validation.rows), "test": len(split.test.rows)},
        max_bag=split.test.rows.shape[1],
        ceilings={f"recall@{k}": ceilings[k - 1] for k in KS if k <= len(ceilings)},
        recall_ceiling_at=ceilings,
        methods={name: describe(name) for name in methods},
        runs=runs,
        costs=costs,
        leads={},
        examples=told,
        pictures=pictures,
    )
    chosen = best(found)
    leads = {name: _lead(counts[chosen], counts[name]) for name in methods if name != chosen} if chosen else {}
    return structs.replace(found, leads=leads)


def _lead(ours: NDArray[np.int64], theirs: NDArray[np.int64]) -> Lead:
    """Of micro F1, from decision counts [N, 3] of the same users, summed over seeds."""

    def difference(rows: NDArray[np.int64]) -> float:
        return metrics.f1(rows[:, :3]) - metrics.f1(rows[:, 3:])

    both = np.concatenate([ours, theirs], axis=1)
    return Lead(difference(both), *metrics.bootstrap(both, difference))


def _last_k(split: Split) -> int:
    return min(CURVE, split.test.targets.shape[1])


def _cost(network: nn.Module, embedding_size: int, labels: int) -> Cost:
    """Of the network as it would be served, which it is no more itself afterwards."""
    if isinstance(network, Unmasked):  # its bags have so many places
        network = Unmasked(network.network, ITEMS)
    with TemporaryDirectory() as folder:
        path = Path(folder) / AGGREGATOR
        export.export_aggregator(Served(network).eval(), embedding_size, path)
        return cost_of(path, embedding_size, labels)
