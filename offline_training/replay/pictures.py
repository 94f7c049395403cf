"""The embeddings of a run's pictures, computed here: from files and archives, or fetched as the embed worker does it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from model.bundle import Bundle
from model.embedder import Embedder
from model.quantization import quantize
from offline_training.datasets.picture_ref import PictureRef
from offline_training.tasks.catalogue import embed_files
from streams.settings import Settings
from streams.warm.collecting import embed_urls

Show = Callable[[str, int], AbstractContextManager[Callable[[], object]]]
"""A title and a number of steps; gives what is called after each, for as long as it is shown."""


def embedded_pictures(
    settings: Settings, embedder: Embedder, pictures: Sequence[PictureRef], advance: Callable[[], object]
) -> dict[PictureRef, bytes]:
    """The embeddings as they are stored, by picture; without those that cannot be had."""
    files = [picture for picture in pictures if not picture.is_url]
    urls = [picture.text for picture in pictures if picture.is_url]
    outcomes: Iterable[tuple[PictureRef, NDArray[np.float32] | tuple[str, str]]] = embed_files(
        embedder, files, settings.fetch_max_bytes
    )
    if urls:
        outcomes = chain(outcomes, ((PictureRef(url), one) for url, one in embed_urls(settings, embedder, urls)))
    found: dict[PictureRef, bytes] = {}
    for picture, outcome in outcomes:
        advance()
        if not isinstance(outcome, tuple):
            found[picture] = quantize(outcome)
    return found


class Embeddings:
    """Embeddings by picture, each made once for each embedder. Holds those of one embedder at a time: the last that was asked for."""

    def __init__(self, settings: Settings, show: Show) -> None:
        self._settings = settings
        self._show = show
        self._version = ""
        self._tried: set[PictureRef] = set()
        self._found: dict[PictureRef, bytes] = {}

    def of(self, bundle: Bundle, pictures: Iterable[PictureRef]) -> Mapping[PictureRef, bytes]:
        """As they are stored, of `pictures` and perhaps more; without those that cannot be had."""
        if bundle.embedder_version != self._version:
            self._version, self._tried, self._found = bundle.embedder_version, set(), {}
        if missing := list(dict.fromkeys(picture for picture in pictures if picture not in self._tried)):
            embedder = bundle.embedder(self._settings.model_threads)
            with self._show(f"pictures of {bundle.name}", len(missing)) as advance:
                self._found |= embedded_pictures(self._settings, embedder, missing, advance)
            self._tried.update(missing)
        return self._found
