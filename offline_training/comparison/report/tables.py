"""The tables of a comparison, as text cells."""

from collections.abc import Sequence

from offline_training.comparison.results import Comparison, MethodRun, best, by_method, spread
from offline_training.report.parts import Table

KS = (5, 10, 15, 20)
"""The k of the paper's tables."""

COLUMNS: dict[str, str] = {
    "recall@5": "Share of a user's labels that are among the best 5. A user with more than 5 labels cannot reach 1: see the ceiling.",
    "precision@5": "Share of the best 5 labels that the user has (the textbook's precision).",
    "recall@20": "Share of a user's labels that are among the best 20.",
    "micro F1": "Harmonic mean of precision and recall over all pairs of user and label. A label counts as predicted when its score "
    "reaches the threshold that is best on validation users.",
    "best micro F1": "Micro F1 with the threshold that is best for the held-out users themselves: an upper bound, not a result.",
    "macro F1": "Mean of the F1 of each label: rare labels weigh as much as frequent ones.",
    "MAP": "Mean average precision: the quality of the whole ranking. It is 1 when all labels of each user come first.",
    "calibration error": "Mean distance between a score and the share of right pairs at that score; 0 at best.",
}
"""The columns of the table of all methods, with their descriptions."""

MORE_COLUMNS: dict[str, str] = {
    "95 % interval": "Interval of micro F1 over the choice of users (bootstrap; both ends are means over seeds). ± shows the effect of "
    "the seed.",
    "lead of the best": "How much higher the micro F1 of the best method is. Both methods are measured on the same users, so the 95 % "
    "interval of the lead is much narrower than the methods' own intervals suggest. Use it to decide which method is better.",
    "rounded precision": "Hits among the best k, divided by the scores among the best k that round to 1. The public code of the "
    "paper's authors calls this precision. It can exceed 1, and it rises when a method becomes less certain: compare it only with "
    "the paper's own figures.",
}
"""The columns of the other tables, with their descriptions."""


def columns(comparison: Comparison) -> list[str]:
    """Return the figures that the tables show. With fewer than 20 labels there is no recall@20."""
    return [figure for figure in COLUMNS if figure in comparison.runs[0].figures]


def figures_table(comparison: Comparison) -> Table:
    """Build a table with one row per method: means over seeds, and their spread if there are several."""
    shown = columns(comparison)
    rows = [[name, *(_shown(runs, figure) for figure in shown)] for name, runs in by_method(comparison).items()]
    return Table(["method", *shown], rows, best(comparison))


def intervals_table(comparison: Comparison) -> Table:
    """Build a table with one row per method: micro F1, its interval, and the lead of the best method."""
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
    header = ["method", "micro F1", "95 % interval", "lead of the best", "95 % interval of the lead"]
    return Table(header, rows, best(comparison))


def paper_table(comparison: Comparison, precision: str) -> Table:
    """Build a table in the paper's form: one row per k, one column per method, recall / precision in each cell.

    Args:
        comparison: the comparison.
        precision: `precision` or `rounded precision`.
    """
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
    """Build a table with one row per network: time of its calls, bytes of state, and mean training time."""
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
    header = ["method", "64 users, ms", "one user, ms", "bytes per item", "training, s"]
    return Table(header, rows, best(comparison))


def verdict(comparison: Comparison) -> list[str]:
    """Summarize the comparison in a few sentences."""
    name, methods = best(comparison), by_method(comparison)
    if name is None:
        return ["This comparison has no trained method, only baselines."]
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
        f"(95 % interval {low:.3f} to {high:.3f}), and its {first} is {spread(found, first)[0]:.3f} of at most {ceiling:.3f}.",
        *([f"Lead in micro F1 over the baselines, with its 95 % interval: {', '.join(ahead)}."] if ahead else []),
    ]


def _shown(runs: Sequence[MethodRun], figure: str) -> str:
    """Format a mean over seeds, with ± half the distance between the lowest and the highest if there are several."""
    mean, half = spread(runs, figure)
    return f"{mean:.4f}" + (f" ± {half:.4f}" if len(runs) > 1 else "")
