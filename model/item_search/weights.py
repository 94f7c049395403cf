"""The parameters of the ranking, as a bundle holds them: `ranking.json`. A bundle without it ranks by `DEFAULT`."""

import math
from pathlib import Path

import msgspec

from model.exceptions import BundleError


class RankingWeights(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters of the formula of `model.item_search.ranking`."""

    similarity: float
    """What it counts to be near the bag, s."""
    sharpness: float
    """How fast nearness falls with the cosine, b."""
    floor: float
    """Logarithm of the nearness that every item has."""
    categories: float
    """What the scores of its categories count, c."""
    popularity: float
    """What it counts that others took it, n."""
    smoothing: float
    """Times that every item was taken besides."""


DEFAULT = RankingWeights(similarity=0.45, sharpness=15.0, floor=-7.0, categories=0.35, popularity=0.9, smoothing=0.25)
"""Of a bundle that was not trained on purchases: what H&M's purchases gave, rounded. Other shops' best values differ."""


def read_weights(path: Path, content: bytes) -> RankingWeights:
    """Read `ranking.json`.

    Raises:
        BundleError: it is no such file, or a number is not finite or not in its range.
    """
    try:
        found = msgspec.json.decode(content, type=RankingWeights)
    except msgspec.DecodeError as error:
        raise BundleError(f"{path}: expected the weights of a ranking: {error}") from error
    numbers = msgspec.structs.asdict(found)
    wrong = [name for name, value in numbers.items() if not math.isfinite(value)]
    wrong += [name for name in ("sharpness", "smoothing") if not numbers[name] > 0]
    if wrong:
        raise BundleError(f"{path}: expected finite numbers, sharpness and smoothing above 0, found {numbers}")
    return found
