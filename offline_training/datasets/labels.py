"""Turns category paths into labels: which levels count, and how many items a label needs."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

SEPARATOR = " > "


@dataclass(frozen=True)
class LabelRule:
    """Which labels a data set gets.

    Attributes:
        first: first level of a path that becomes a label; 1 is the broadest. A label is the path down to its level.
        last: last level that becomes a label.
        min_items: minimum number of items with a label.
        max_labels: maximum number of labels; the most frequent are kept.
        only: the labels of an existing bundle: these are kept, however many items have them, and no others. None: no such limit.
    """

    first: int = 1
    last: int = 4
    min_items: int = 5
    max_labels: int = 1000
    only: frozenset[str] | None = None


def labels_of(paths: Iterable[Sequence[str]], rule: LabelRule) -> tuple[str, ...]:
    """List the labels of an item without duplicates, such as `a > b > c` for the third level."""
    found = (
        SEPARATOR.join(path[:level]) for path in paths for level in range(rule.first, min(rule.last, len(path)) + 1)
    )
    return tuple(dict.fromkeys(found))


def vocabulary(counts: Counter[str], items: int, rule: LabelRule) -> list[str]:
    """Choose the labels to keep, sorted. A label of every item carries no information and is left out."""
    if rule.only is not None:
        return sorted(rule.only & counts.keys())
    frequent = [
        (-count, label) for label, count in counts.items() if count >= rule.min_items and (count < items or items == 1)
    ]
    return sorted(label for _, label in sorted(frequent)[: rule.max_labels])
