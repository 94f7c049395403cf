"""The tables of a comparison, as text in cells. Pure."""

from collections.abc import Sequence

from offline_training.comparison.results import Comparison, Run, best, by_method, spread
from offline_training.report.parts import Table

KS = (5, 10, 15, 20)
"""Of the paper's tables."""

COLUMNS: dict[str, str] = {
    "recall@5": "Of the labels that a user has, the share among the best 5. A user with more than 5 labels cannot reach 1: see the "
    "ceiling.",
    "precision@5": "Of the best 5 labels, the share that the user has. The textbook's precision.",
    "recall@20": "The same of the best 20.",
    "micro F1": "The harmonic mean of precision and recall over all pairs of user and label, where a label is given to a user when its "
    "score reaches the threshold that is best on validation users.",
    "best micro F1": "With the threshold that is best for the held-out users themselves: an upper bound, no result.",
    "macro F1": "The mean of the F1 of each label: rare labels weigh as much as frequent ones.",
    "MAP": "Mean average precision: how good the whole order is, 1 where all labels of a user come first.",
    "calibration error": "How far a score is from the share of pairs that come true at it, on average; 0 at best.",
}
"""The figures of the table of all methods, and what each is."""

MORE_COLUMNS: dict[str, str] = {
    "95 % interval": "Of micro F1, over the choice of users (bootstrap; both ends averaged over seeds). What the seed changes is told "
    "by ±.",
    "the best is ahead by": "The difference in micro F1. Both methods are measured on the same users, so that its 95 % interval is far "
    "narrower than their own intervals suggest: read this one to say which is better.",
    "rounded precision": "Hits among the best k / scores among the best k that round to 1: what the public code of the paper's authors "
    "calls precision. It can exceed 1 and grows when a method grows less sure: read it beside the paper's own figures only.",
}
"""What else stands in tables."""


def columns(comparison: Comparison) -> list[str]:
    """The figures that tables show; with few labels there is no recall at 20."""
    return [figure for figure in COLUMNS if figure in comparison.runs[0].figures]


def figures_table(comparison: Comparison) -> Table:
    """A row for each method: means over seeds, and their spread where there are several."""
    shown = columns(comparison)
    rows = [[name, *(_shown(runs, figure) for figure in shown)] for name, runs in by_method(comparison).items()]
    return Table(["method", *shown], rows, best(comparison))


def intervals_table(comparison: Comparison) -> Table:
    """A row for each method: micro F1, its interval, and how far the best is ahead."""
    rows = [
        [
            name,
            _shown(runs, "micro F1"),
            " to ".join(f"{spread(runs, f'micro F1 {end}')[0]:.4f}" for end in ("low", "high")),
            f"{lead.difference:+.4f}" if (lead := comparison.leads.get(name)) else "",
            f"{lead.low:.4f} to {lead.high:.4f}" if lead else "",
        ]
        for name, runs in by_method(comparison).items()
    ]
    header = ["method", "micro F1", "95 % interval", "the best is ahead by", "95 % interval of that"]
    return Table(header, rows, best(comparison))


def paper_table(comparison: Comparison, precision: str) -> Table:
    """The paper's form, k x methods, recall / precision in each cell. precision: `precision` or `rounded precision`."""
    methods = by_method(comparison)
    rows = [
        [
            str(k),
            *(
                f"{spread(runs, f'recall@{k}')[0]:.4f} / {spread(runs, f'{precision}@{k}')[0]:.4f}"
                for runs in methods.values()
            ),
        ]
        for k in KS
        if k <= comparison.labels
    ]
    return Table(["k", *methods], rows)


def cost_table(comparison: Comparison) -> Table:
    """A row for each network: its calls, its state, and how long a training took on average."""
    methods = by_method(comparison)
    rows = [
        [
            name,
            f"{cost.batch_ms:.2f}",
            f"{cost.one_ms:.3f}",
            f"{cost.state_bytes:,}",
            f"{sum(run.seconds for run in methods[name]) / len(methods[name]):.1f}",
        ]
        for name, cost in comparison.costs.items()
    ]
    header = ["method", "64 users, ms", "one user, ms", "bytes for an item", "training, s"]
    return Table(header, rows, best(comparison))


def verdict(comparison: Comparison) -> list[str]:
    """What to take away, in sentences."""
    name, methods = best(comparison), by_method(comparison)
    if name is None:
        return ["No method of this comparison is trained: there are baselines only."]
    found = methods[name]
    reached, low, high = (spread(found, figure)[0] for figure in ("micro F1", "micro F1 low", "micro F1 high"))
    first, ceiling = next(iter(comparison.ceilings.items()))
    ahead = [
        f"{other} {lead.difference:+.3f} ({lead.low:.3f} to {lead.high:.3f})"
        for other, lead in comparison.leads.items()
        if not methods[other][0].train_loss or other == "average"
    ]
    return [
        f"{name} is the best trained method by micro F1 on validation users. On held-out users its micro F1 is {reached:.3f} "
        f"(95 % interval {low:.3f} to {high:.3f}), its {first} {spread(found, first)[0]:.3f} of at most {ceiling:.3f}.",
        *([f"Its lead in micro F1 over baselines, with the 95 % interval: {', '.join(ahead)}."] if ahead else []),
    ]


def _shown(runs: Sequence[Run], figure: str) -> str:
    mean, half = spread(runs, figure)
    return f"{mean:.4f}" + (f" ± {half:.4f}" if len(runs) > 1 else "")
