"""Runs methods side by side on one task: the paper's table, and methods that beat it.

Each method is trained once per seed and fold, on the same bags. Thresholds are chosen on validation bags; figures come from
held-out bags. Of several folds, figures are over the held-out bags of all of them, with one threshold.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import NamedTuple, cast

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
from offline_training.comparison.purchase_task import PurchaseTask
from offline_training.comparison.results import Bin, Comparison, Cost, Lead, MethodRun, Prediction, ScoredLabel, best
from offline_training.comparison.true_labels import GRADES, TrueLabels
from offline_training.exporting import export
from offline_training.item_network.network import ITEM_RECIPES, ItemRecipe
from offline_training.progress import Step
from offline_training.tasks.bags import Bags, joined
from offline_training.tasks.catalogue import Catalogue
from offline_training.tasks.evaluation import ceilings, f1_lead, figures
from offline_training.tasks.purchase_figures import measure
from offline_training.tasks.split import TASK_TEXTS, Split, TaskName

CURVE = 30
"""Largest k of the recall and precision curves."""
LABELS_SHOWN = 10
"""Number of best labels kept for each example."""


def compare(
    task: TaskName,
    catalogue: Catalogue,
    folds: Sequence[Split],
    *,
    methods: Sequence[str],
    seeds: Sequence[int],
    step: Step,
    recipe: ItemRecipe | None = None,
    asked: PurchaseTask | None = None,
) -> Comparison:
    """Run each method with each seed.

    Args:
        task: the task.
        catalogue: its items.
        folds: its bags, `make_folds`.
        methods: names of `METHODS`.
        seeds: random seeds. Costs are measured with the first one.
        step: opens progress bars.
        recipe: how to train the item network. None for the task's own recipe.
        asked: of the task purchases: what its one fold is made of.
    """
    shown, chosen_examples, pictures = examples.choose(catalogue, folds[0])
    test = joined([split.test for split in folds])
    runs: list[MethodRun] = []
    costs: dict[str, Cost] = {}
    counts = {name: np.zeros((len(test.rows), 3), np.int64) for name in methods}
    hits: dict[str, list[NDArray[np.float64]]] = {name: [] for name in methods}
    for seed in seeds:
        runners: list[MethodRunner] = []
        for split in folds:
            like = runners[0] if runners else None
            rows = shown[:0] if runners else shown
            runners.append(
                MethodRunner(
                    catalogue,
                    split,
                    recipe or ITEM_RECIPES[task],
                    seed=seed,
                    step=step,
                    shown=rows,
                    like=like,
                    asked=asked,
                )
            )
        for name in methods:
            answers = [runner.run(name, cost=seed == seeds[0] and runner is runners[0]) for runner in runners]
            found = measured(name, folds, answers, seed=seed, shown=shown, labels=catalogue.labels, asked=asked)
            runs.append(found.run)
            counts[name] += found.counts
            hits[name].append(found.hits)
        costs |= runners[0].costs
    recall_ceilings = [float(np.minimum(1, k / test.targets.sum(1)).mean()) for k in range(1, _last_k(test) + 1)]
    comparison = Comparison(
        task=task,
        question=TASK_TEXTS[task],
        labels=len(catalogue.labels),
        items=len(catalogue.items),
        users={
            "train": len(folds[0].train.rows),
            "validation": len(folds[0].validation.rows),
            "test": len(test.rows),
        },
        folds=len(folds),
        max_bag=test.rows.shape[1],
        ceilings=ceilings(test) | (asked.ceilings() if asked else {}),
        recall_ceiling_at=recall_ceilings,
        methods={name: describe(name) for name in methods},
        runs=runs,
        costs=costs,
        leads={},
        examples=chosen_examples,
        pictures=pictures,
        trend_leads=asked.trend_leads({name: np.mean(each, axis=0) for name, each in hits.items()}) if asked else {},
    )
    winner = best(comparison)
    leads = {name: Lead(*f1_lead(counts[winner], counts[name])) for name in methods if name != winner} if winner else {}
    return structs.replace(comparison, leads=leads)


class Answer(NamedTuple):
    """What a trained method answers on one split.

    Attributes:
        validation: scores of the validation bags, float [N, D].
        test: scores of the test bags, float [N, D].
        curve: the course of the training.
        seconds: that the training took.
        attention: on the items of the examples.
    """

    validation: metrics.Scores
    test: metrics.Scores
    curve: Curve
    seconds: float
    attention: list[list[float]]


class MethodRunner:
    """Trains methods on one split with one seed.

    The item network is trained when the first method needs its codes.

    Attributes:
        costs: by method, the cost of its exported network.
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
        asked: PurchaseTask | None = None,
        like: "MethodRunner | None" = None,
    ) -> None:
        """Prepare the item networks.

        Args:
            catalogue: the items.
            split: the bags.
            recipe: how to train the item network.
            seed: random seed.
            step: opens progress bars.
            shown: int64 [n], rows of the test bags that are the examples.
            asked: of the task purchases: what the bags are made of.
            like: a runner of another fold, whose item networks are used if they may see the same items.
        """
        self._asked = asked
        self._catalogue = catalogue
        self._split = split
        self._seed = seed
        self._step = step
        self._shown = shown
        self._embeddings = torch.from_numpy(catalogue.embeddings)
        if like is not None and np.array_equal(like._split.new, split.new):
            self._items, self._wide_items = like._items, like._wide_items
        else:
            self._items = ItemModel(catalogue, split, recipe=recipe, seed=seed, step=step)
            wide = replace(recipe, code_size=WIDE)
            self._wide_items = ItemModel(catalogue, split, recipe=wide, seed=seed, step=step, rounded=False)
        self.costs: dict[str, Cost] = {}

    def run(self, name: str, *, cost: bool) -> Answer:
        """Train a method of `METHODS` and score the bags with it.

        Args:
            name: name of the method.
            cost: whether to measure the cost of its exported network as well, into `costs`.
        """
        method, split = METHODS[name], self._split
        if not method.network:
            validation, test = self._scores_without_network(method)
            return Answer(validation, test, Curve(), 0.0, [])
        items = self._wide_items if method.wide else self._items
        vectors = torch.from_numpy(items.codes) if method.codes else self._embeddings
        started = perf_counter()
        if method.codes:
            network, curve, validation = items.aggregator(method.network, method.recipe, split=split)
        else:
            network, curve, validation = self._fitted(name)
        seconds = perf_counter() - started
        answer = Answer(
            validation, predict(network, vectors, split.test), curve, seconds, self._attention(network, vectors)
        )
        if cost:
            self.costs[name] = _cost(network, vectors.shape[1], len(self._catalogue.labels))
        return answer

    def _scores_without_network(self, method: Method) -> Sequence[metrics.Scores]:
        """Return the scores of the validation and of the test bags, float [N, D] each."""
        parts, train = (self._split.validation, self._split.test), self._split.train
        if method.trend and self._asked:
            return self._asked.trend(method.trend)
        if method.tags:
            baseline = TrueLabels(self._catalogue.matrix, train, GRADES[method.tags])
            return [baseline.predict(bags.rows) for bags in parts]
        return [np.tile(train.targets.mean(0, dtype=np.float32), (len(bags.rows), 1)) for bags in parts]

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


class Measured(NamedTuple):
    """A method that is measured.

    Attributes:
        run: the figures.
        counts: `metrics.decision_counts` of the test bags, int64 [N, 3].
        hits: of the task purchases: macro hit@3 of each target of the test contexts, float64 [T]. Empty in other tasks.
    """

    run: MethodRun
    counts: NDArray[np.int64]
    hits: NDArray[np.float64]


def measured(
    name: str,
    folds: Sequence[Split],
    answers: Sequence[Answer],
    *,
    seed: int,
    shown: NDArray[np.int64],
    labels: Sequence[str],
    asked: PurchaseTask | None = None,
) -> Measured:
    """Measure a method on the held-out bags of all folds, with the threshold that is best for all their validation bags.

    Args:
        name: name of the method.
        folds: the splits.
        answers: what the method answers on each of them.
        seed: its random seed.
        shown: int64 [n], rows of the test bags of the first fold that are the examples.
        labels: names of the D labels.
        asked: of the task purchases: what its one fold is made of.
    """
    validation = cast("metrics.Scores", np.concatenate([answer.validation for answer in answers]))
    test = cast("metrics.Scores", np.concatenate([answer.test for answer in answers]))
    wanted = np.concatenate([split.validation.targets for split in folds])
    bags = joined([split.test for split in folds])
    threshold = metrics.best_threshold(validation, wanted)
    found = figures(test, bags, threshold)
    found["validation micro F1"] = metrics.micro_f1(threshold, validation, wanted)
    hits = np.zeros(0)
    if asked:
        of_purchases = measure(test, asked.test, asked.matrix, asked.fields)
        validated = measure(validation, asked.validation, asked.matrix, asked.fields)
        found |= of_purchases.figures | {"validation macro hit@3": validated.figures["macro hit@3"]}
        hits = of_purchases.hits
    ranked, bins = metrics.rank(test, bags.targets), metrics.reliability(test, bags.targets)
    ks = range(1, _last_k(bags) + 1)
    first = answers[0]
    run = MethodRun(
        method=name,
        seed=seed,
        figures=found,
        seconds=round(sum(answer.seconds for answer in answers), 1),
        train_loss=first.curve.train,
        validation_loss=first.curve.validation,
        recall_at=[metrics.mean(ranked.recall_at(k)) for k in ks],
        precision_at=[metrics.mean(ranked.precision_at(k)) for k in ks],
        reliability=[
            Bin(float(mean), float(share), int(count))
            for mean, share, count in zip(bins.mean_score, bins.share_relevant, bins.count, strict=True)
            if count
        ],
        predictions=[
            Prediction(
                first.attention[number] if first.attention else [],
                _best_labels(first.test[row], folds[0].test.targets[row], labels),
            )
            for number, row in enumerate(shown)
        ],
        steps=[answer.curve.steps for answer in answers],
        converged=all(answer.curve.converged for answer in answers),
    )
    return Measured(run, metrics.decision_counts(threshold, test, bags.targets), hits)


def _best_labels(scores: metrics.Scores, targets: NDArray[np.bool_], labels: Sequence[str]) -> list[ScoredLabel]:
    ranked = np.argsort(-scores, kind="stable")[:LABELS_SHOWN]
    return [ScoredLabel(labels[int(n)], round(float(scores[n]), 4), bool(targets[n])) for n in ranked]


def _last_k(bags: Bags) -> int:
    return min(CURVE, bags.targets.shape[1])


def _cost(network: nn.Module, embedding_size: int, labels: int) -> Cost:
    """Measure a network as it would be served. The export changes the network: do not use it afterwards."""
    if isinstance(network, Unmasked):  # it pads every bag to one size, so its size must be that of the measured bags
        network = Unmasked(network.network, ITEMS)
    with TemporaryDirectory() as folder:
        path = Path(folder) / AGGREGATOR
        export.export_aggregator(Served(network).eval(), embedding_size, path)
        return cost_of(path, embedding_size, labels)
