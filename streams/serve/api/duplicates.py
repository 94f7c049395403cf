"""Looks for items whose pictures are the same, or nearly."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor

from model.item_search.twins import Twins
from streams.serve.api.survey import Survey
from streams.serve.interface import Catalogue, Serving, Wanted

ALIKE = 0.997  # cosine; `docs/design/items.md` has what copies of a picture have, and what two products have


class DuplicateSearch:
    """What was found so far.

    Attributes:
        twins: the items that were found.
        left: how many items are still to be compared with all others; None before it is known.
    """

    def __init__(self, serving: Serving, thread: Executor) -> None:
        """`thread`: where it searches."""
        self._serving = serving
        self.twins = Twins(ALIKE)
        self.left: int | None = None
        self.survey = Survey("looking for items with the same picture", self._begin, thread)

    def still(self, catalogue: Catalogue, places: Sequence[int]) -> list[bool]:
        """Whether the items at places are those that were compared: others may be there now."""
        mask = catalogue.mask(Wanted())
        holds = self.twins.holds(places, catalogue.codes(places))
        return [bool(mask[place] and same) for place, same in zip(places, holds, strict=True)]

    async def _begin(self) -> Iterator[None]:
        return self._look()

    def _look(self) -> Iterator[None]:
        catalogue = self._serving.catalogue
        for left in self.twins.look(catalogue.codes, catalogue.nearest, lambda: catalogue.mask(Wanted())):
            self.left = self.left if left is None else left
            yield
