"""Methods side by side on one task: the paper's table, and what is ahead of it.

Each is trained once for each seed, on the same bags; thresholds are chosen on validation bags, figures come from held-out ones.
"""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from time import perf_counter

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from model import metrics
from model.quantization import as_stored
from offline_training.aggregators import AGGREGATORS
from offline_training.aggregators.interface import Config
from offline_training.aggregators.paper import Unmasked
from offline_training.bundle_evaluation import KS, figures
from offline_training.catalogue import Catalogue
from offline_training.fitting import Curve, FitRecipe, fit, predict, recipe_for
from offline_training.items import ITEM_RECIPES, ItemNetwork, ItemRecipe, codes, train_on_catalogue
from offline_training.progress import Step
from offline_training.tasks import Split, TaskName

EMBEDDING_SCALE = 1 / 32  # see `aggregators.interface.Config`


@dataclass(frozen=True)
class Method:
    """What is compared.

    network: of `aggregators.AGGREGATORS`; "" answers everybody with the labels' frequencies. codes: works on the item network's
    codes, rounded as they are stored, instead of the embeddings. unmasked: padding counts as items of zeros. input_scale: what
    embeddings are multiplied by. recipe: instead of the one that trains the network well.
    """

    network: str
    codes: bool = False
    unmasked: bool = False
    tanh_gate: bool = False
    input_scale: float = EMBEDDING_SCALE
    recipe: FitRecipe | None = None


ONE_RATE = FitRecipe(epochs=6, rate=2e-3, weight_decay=0.01)
"""What one would try first: the same rate for all parts."""

METHODS: dict[str, Method] = {
    "popularity": Method(""),
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
}
"""By the name that tables show."""


class Run(msgspec.Struct, frozen=True):
    """One method, trained with one seed."""

    method: str
    seed: int
    figures: dict[str, float]
    seconds: float
    train_loss: list[float]
    validation_loss: list[float]


class Comparison(msgspec.Struct, frozen=True):
    """All runs on a task, and what it is."""

    task: str
    labels: int
    items: int
    users: dict[str, int]  # by part of the split
    max_bag: int
    ceilings: dict[str, float]
    runs: list[Run]


class Bench:
    """One task and one seed; the item network is trained when the first method asks for codes."""

    def __init__(self, catalogue: Catalogue, split: Split, recipe: ItemRecipe, seed: int, step: Step) -> None:
        self._catalogue = catalogue
        self._split = split
        self._recipe = recipe
        self._seed = seed
        self._step = step
        self._embeddings = torch.from_numpy(catalogue.embeddings)

    @cached_property
    def _items(self) -> ItemNetwork:
        title = f"item network, seed {self._seed}"
        return train_on_catalogue(
            self._catalogue, ~self._split.new, self._recipe, seed=self._seed, step=self._step, title=title
        )

    @cached_property
    def _codes(self) -> Tensor:
        return torch.from_numpy(as_stored(codes(self._items, self._catalogue.embeddings)))

    def run(self, name: str) -> Run:
        """Train a method of `METHODS` and measure it."""
        method, split = METHODS[name], self._split
        if not method.network:
            prior = split.train.targets.mean(0, dtype=np.float32)
            scores = [np.tile(prior, (len(bags.rows), 1)) for bags in (split.validation, split.test)]
            return self._measured(name, scores, Curve(), 0.0)
        network, vectors = self._network(method)
        recipe = method.recipe or recipe_for(network)
        started = perf_counter()
        with self._step(f"{name}, seed {self._seed}", recipe.length(split)) as advance:
            curve = fit(network, vectors, split, recipe, seed=self._seed, advance=advance)
        seconds = perf_counter() - started
        scores = [predict(network, vectors, bags) for bags in (split.validation, split.test)]
        return self._measured(name, scores, curve, seconds)

    def _network(self, method: Method) -> tuple[nn.Module, Tensor]:
        vectors = self._codes if method.codes else self._embeddings
        config = Config(
            vectors.shape[1],
            len(self._catalogue.labels),
            tanh_gate=method.tanh_gate,
            input_scale=1.0 if method.codes else method.input_scale,
        )
        head = self._items.head if method.codes else None
        torch.manual_seed(self._seed)
        network = AGGREGATORS[method.network](config, head)
        return (Unmasked(network, self._split.test.rows.shape[1]) if method.unmasked else network), vectors

    def _measured(self, name: str, scores: list[NDArray[np.float32]], curve: Curve, seconds: float) -> Run:
        validation, test = scores
        threshold = metrics.best_threshold(validation, self._split.validation.targets)
        found = figures(test, self._split.test, threshold)
        return Run(name, self._seed, found, round(seconds, 1), curve.train, curve.validation)


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
    runs: list[Run] = []
    for seed in seeds:
        bench = Bench(catalogue, split, recipe or ITEM_RECIPES[task], seed, step)
        runs += [bench.run(name) for name in methods]
    counts = split.test.targets.sum(1)
    return Comparison(
        task=task,
        labels=len(catalogue.labels),
        items=len(catalogue.items),
        users={"train": len(split.train.rows), "validation": len(split.validation.rows), "test": len(split.test.rows)},
        max_bag=split.test.rows.shape[1],
        ceilings={f"recall@{k}": float(np.minimum(1, k / counts).mean()) for k in KS if k <= len(catalogue.labels)},
        runs=runs,
    )


def by_method(comparison: Comparison) -> dict[str, list[Run]]:
    """The runs of each method, in the order of the first."""
    found: dict[str, list[Run]] = {}
    for run in comparison.runs:
        found.setdefault(run.method, []).append(run)
    return found


def spread(runs: Sequence[Run], figure: str) -> tuple[float, float]:
    """Mean over seeds, and half the distance between the lowest and the highest."""
    values = [run.figures[figure] for run in runs]
    return statistics.fmean(values), (max(values) - min(values)) / 2


COLUMNS = ("recall@5", "precision@5", "recall@20", "micro F1", "best micro F1", "macro F1", "MAP", "calibration error")


def columns(comparison: Comparison) -> list[str]:
    """The figures that tables show; with few labels there is no recall at 10."""
    return [figure for figure in COLUMNS if figure in comparison.runs[0].figures]


def markdown(comparison: Comparison) -> str:
    """The comparison as a page: one table of all methods, and one in the paper's form."""
    one = comparison
    ceilings = ", ".join(f"{name} {value:.3f}" for name, value in one.ceilings.items())
    methods, shown = by_method(one), columns(one)
    return "\n".join(
        [
            f"# {one.task}: {one.items:,} items, {one.labels} labels, bags of at most {one.max_bag}",
            "",
            f"Users: {', '.join(f'{part} {count:,}' for part, count in one.users.items())}. Ceilings: {ceilings}.",
            "Means over seeds, +- half the distance between the lowest and the highest where there are several.",
            "",
            *_table(
                ("method", *shown), ((name, *(_shown(runs, of) for of in shown)) for name, runs in methods.items())
            ),
            "",
            "In the paper's form, recall / precision at k by the textbook:",
            "",
            *_table(("k", *methods), ((str(k), *_at(k, "precision", methods)) for k in KS if k <= one.labels)),
            "",
            "The same with what the authors' public code calls precision, hits / scores of the best k that round to 1:",
            "",
            *_table(("k", *methods), ((str(k), *_at(k, "rounded precision", methods)) for k in KS if k <= one.labels)),
            "",
        ]
    )


def _at(k: int, precision: str, methods: Mapping[str, Sequence[Run]]) -> list[str]:
    return [
        f"{spread(runs, f'recall@{k}')[0]:.4f} / {spread(runs, f'{precision}@{k}')[0]:.4f}" for runs in methods.values()
    ]


def _shown(runs: Sequence[Run], figure: str) -> str:
    mean, half = spread(runs, figure)
    return f"{mean:.4f}" + (f" +- {half:.4f}" if len(runs) > 1 else "")


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [" | ".join(header), " | ".join("---" for _ in header), *(" | ".join(row) for row in rows)]
    return [f"| {line} |" for line in lines]


def write(comparison: Comparison, folder: Path) -> None:
    """`TASK.json` and `TASK.md` in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    data = msgspec.json.format(msgspec.json.encode(comparison), indent=2)
    (folder / f"{comparison.task}.json").write_bytes(data + b"\n")
    (folder / f"{comparison.task}.md").write_text(markdown(comparison), encoding="utf-8")
