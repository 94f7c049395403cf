"""Category paths to a vocabulary of labels: which levels of the paths count, and how often a label has to occur."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

SEPARATOR = " > "


@dataclass(frozen=True)
class LabelRule:
    """first, last: levels of a path that become labels, from 1; a label is the path down to its level.

    min_items: how many items a label needs. max_labels: at most so many, the most frequent.
    """

    first: int = 1
    last: int = 4
    min_items: int = 5
    max_labels: int = 1000


def labels_of(paths: Iterable[Sequence[str]], rule: LabelRule) -> tuple[str, ...]:
    """The labels of an item, each once: `a > b > c` for the third level."""
    found = (
        SEPARATOR.join(path[:level]) for path in paths for level in range(rule.first, min(rule.last, len(path)) + 1)
    )
    return tuple(dict.fromkeys(found))


def vocabulary(counts: Counter[str], items: int, rule: LabelRule) -> list[str]:
    """The labels that are kept, sorted. One that every item has says nothing, and goes."""
    frequent = [
        (-count, label) for label, count in counts.items() if count >= rule.min_items and (count < items or items == 1)
    ]
    return sorted(label for _, label in sorted(frequent)[: rule.max_labels])
