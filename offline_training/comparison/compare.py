"""Runs methods side by side on one task: the paper's table, and methods that beat it.

Each method is trained once per seed, on the same bags. Thresholds are chosen on validation bags; figures come from held-out bags.
"""

from collections.abc import Sequence
from dataclasses import replace
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
from offline_training.aggregators import AGGREGATORS
from offline_training.aggregators.fitting import Curve, fit, inputs_of, predict, recipe_for
from offline_training.aggregators.interface import Config
from offline_training.aggregators.item_model import Fitted, ItemModel
from offline_training.aggregators.paper import Unmasked
from offline_training.aggregators.served import Served
from offline_training.comparison import examples
from offline_training.comparison.cost import ITEMS, cost_of
from offline_training.comparison.methods import METHODS, WIDE, Method, describe
from offline_training.comparison.results import Bin, Comparison, Cost, Lead, MethodRun, Prediction, ScoredLabel, best
from offline_training.comparison.true_labels import GRADES, TrueLabels
from offline_training.exporting import export
from offline_training.item_network.network import ITEM_RECIPES, ItemRecipe
from offline_training.progress import Step
from offline_training.tasks.catalogue import Catalogue
from offline_training.tasks.evaluation import KS, figures
from offline_training.tasks.split import TASK_TEXTS, Split, TaskName

CURVE = 30
"""Largest k of the recall and precision curves."""
LABELS_SHOWN = 10
"""Number of best labels kept for each example."""


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
    """Run each method with each seed.

    Args:
        task: the task.
        catalogue: its items.
        split: its bags.
        methods: names of `METHODS`.
        seeds: random seeds. Costs are measured with the first one.
        step: opens progress bars.
        recipe: how to train the item network. None for the task's own recipe.
    """
    shown, chosen_examples, pictures = examples.choose(catalogue, split)
    runs: list[MethodRun] = []
    costs: dict[str, Cost] = {}
    counts = {name: np.zeros((len(split.test.rows), 3), np.int64) for name in methods}
    for seed in seeds:
        runner = MethodRunner(catalogue, split, recipe or ITEM_RECIPES[task], seed=seed, step=step, shown=shown)
        runs += [runner.run(name, cost=seed == seeds[0]) for name in methods]
        costs |= runner.costs
        counts = {name: counts[name] + runner.counts[name] for name in methods}
    ceilings = [float(np.minimum(1, k / split.test.targets.sum(1)).mean()) for k in range(1, _last_k(split) + 1)]
    comparison = Comparison(
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
        examples=chosen_examples,
        pictures=pictures,
    )
    winner = best(comparison)
    leads = {name: _lead(counts[winner], counts[name]) for name in methods if name != winner} if winner else {}
    return structs.replace(comparison, leads=leads)


class MethodRunner:
    """Trains and measures methods on one task with one seed.

    The item network is trained when the first method needs its codes.

    Attributes:
        costs: by method, the cost of its exported network.
        counts: by method, `metrics.decision_counts` of the test bags, int64 [N, 3].
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
        """Prepare the item networks.

        Args:
            catalogue: the items.
            split: the bags.
            recipe: how to train the item network.
            seed: random seed.
            step: opens progress bars.
            shown: int64 [n], rows of the test bags that are the examples.
        """
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

    def run(self, name: str, *, cost: bool) -> MethodRun:
        """Train a method of `METHODS` and measure it.

        Args:
            name: name of the method.
            cost: whether to measure the cost of its exported network as well, into `costs`.
        """
        method, split = METHODS[name], self._split
        if not method.network:
            return self._measured(name, self._scores_without_network(method), Curve(), 0.0, [])
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

    def _scores_without_network(self, method: Method) -> list[NDArray[np.float32]]:
        """Return the scores of the validation and of the test bags, float32 [N, D] each."""
        asked, train = (self._split.validation, self._split.test), self._split.train
        if method.tags:
            baseline = TrueLabels(self._catalogue.matrix, train, GRADES[method.tags])
            return [baseline.predict(bags.rows) for bags in asked]
        return [np.tile(train.targets.mean(0, dtype=np.float32), (len(bags.rows), 1)) for bags in asked]

    def _fitted(self, name: str) -> Fitted:
        """Train a network over the embeddings."""
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
        """Return the attention on each item of the examples' bags."""
        if not len(self._shown):
            return []
        bags = self._split.test.of(self._shown)
        attention: Tensor = network(*inputs_of(vectors, bags))[1]
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
    ) -> MethodRun:
        """Measure the scores of the validation and of the test bags, and note the test bags' decision counts."""
        (validation, test), split = scores, self._split
        threshold = metrics.best_threshold(validation, split.validation.targets)
        measured = figures(test, split.test, threshold)
        self.counts[name] = metrics.decision_counts(threshold, test, split.test.targets)
        measured["validation micro F1"] = metrics.micro_f1(threshold, validation, split.validation.targets)
        ranked, bins = metrics.rank(test, split.test.targets), metrics.reliability(test, split.test.targets)
        ks = range(1, _last_k(split) + 1)
        return MethodRun(
            method=name,
            seed=self._seed,
            figures=measured,
            seconds=round(seconds, 1),
            train_loss=curve.train,
            validation_loss=curve.validation,
            recall_at=[metrics.mean(ranked.recall_at(k)) for k in ks],
            precision_at=[metrics.mean(ranked.precision_at(k)) for k in ks],
            reliability=[
                Bin(float(mean), float(share), int(count))
                for mean, share, count in zip(bins.mean_score, bins.share_relevant, bins.count, strict=True)
                if count
            ],
            predictions=[
                Prediction(
                    attention[number] if attention else [], self._best_labels(test[row], split.test.targets[row])
                )
                for number, row in enumerate(self._shown)
            ],
        )

    def _best_labels(self, scores: NDArray[np.float32], targets: NDArray[np.bool_]) -> list[ScoredLabel]:
        ranked = np.argsort(-scores, kind="stable")[:LABELS_SHOWN]
        return [ScoredLabel(self._catalogue.labels[n], round(float(scores[n]), 4), bool(targets[n])) for n in ranked]


def _lead(ours: NDArray[np.int64], theirs: NDArray[np.int64]) -> Lead:
    """Compute a lead in micro F1 from decision counts [N, 3] of the same users, summed over seeds."""

    def difference(rows: NDArray[np.int64]) -> float:
        return metrics.f1(rows[:, :3]) - metrics.f1(rows[:, 3:])

    both = np.concatenate([ours, theirs], axis=1)
    return Lead(difference(both), *metrics.bootstrap(both, difference))


def _last_k(split: Split) -> int:
    return min(CURVE, split.test.targets.shape[1])


def _cost(network: nn.Module, embedding_size: int, labels: int) -> Cost:
    """Measure a network as it would be served. The export changes the network: do not use it afterwards."""
    if isinstance(network, Unmasked):  # it pads every bag to one size, so its size must be that of the measured bags
        network = Unmasked(network.network, ITEMS)
    with TemporaryDirectory() as folder:
        path = Path(folder) / AGGREGATOR
        export.export_aggregator(Served(network).eval(), embedding_size, path)
        return cost_of(path, embedding_size, labels)
