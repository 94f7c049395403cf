"""The users on whom an adapter is chosen and measured: what they are asked differs from task to task."""

from collections.abc import Mapping
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from model.bundle import Bundle
from model.metrics import Interval

Codes = NDArray[np.float32]
"""Embeddings of the items, float32 [items, d]."""


class Users(Protocol):
    """Users with bags of items: those by whom an adapter is chosen, and those who measure it."""

    @property
    def task(self) -> str:
        """Name of the task, for the figures."""
        ...

    @property
    def new(self) -> NDArray[np.bool_]:
        """bool [items], items that must not train."""
        ...

    @property
    def products(self) -> NDArray[np.int64]:
        """int64 [items]. Items of one product are held out together."""
        ...

    @property
    def counts(self) -> Mapping[str, int]:
        """Number of bags for validation and for test."""
        ...

    def of_known(self, known: NDArray[np.bool_]) -> Self:
        """Keep the bags whose items are all known, bool [items]."""
        ...

    def losses(self, bundle: Bundle, codes: Codes) -> NDArray[np.float64]:
        """The loss of each user for validation [N], with some codes."""
        ...

    def costs(self, bundle: Bundle, by_codes: Mapping[str, Codes]) -> dict[str, dict[str, float]]:
        """Figures of the users for test by each kind of codes, `native` among them, with the differences to native codes."""
        ...


def with_interval(name: str, difference: float, interval: Interval) -> dict[str, float]:
    """The names and values of a difference to native codes in a figure, and its 95 % interval over the same users."""
    return {
        f"{name} - native": difference,
        f"{name} - native low": interval.low,
        f"{name} - native high": interval.high,
    }
