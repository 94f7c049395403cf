"""The embeddings of the pictures of a run, computed here. Pictures at URLs are fetched as the embed worker fetches them."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from model.bundle import Bundle
from model.embedder import Embedder
from model.quantization import quantize
from offline_training.datasets.picture_folders import PictureFolders
from offline_training.datasets.picture_ref import PictureRef
from offline_training.progress import Advance, Step
from offline_training.tasks.catalogue import embed_files
from streams.settings import Settings
from streams.warm.embed_urls import embed_urls


def embedded_pictures(
    settings: Settings, embedder: Embedder, pictures: Sequence[PictureRef], folders: PictureFolders, advance: Advance
) -> dict[PictureRef, bytes]:
    """Embed distinct pictures.

    Args:
        settings: the settings of the workers, for fetching and for the maximum size of a picture.
        embedder: makes the embeddings.
        pictures: local pictures and URLs.
        folders: where the local pictures may be.
        advance: told of every picture that is done.

    Returns:
        The embeddings, quantized as the workers store them, by picture. Pictures that cannot be read are missing.
    """
    files = [picture for picture in pictures if not picture.is_url]
    urls = [picture.text for picture in pictures if picture.is_url]
    outcomes: Iterable[tuple[PictureRef, NDArray[np.float32] | tuple[str, str]]] = embed_files(
        embedder, files, folders, settings.fetch_max_bytes
    )
    if urls:
        outcomes = chain(outcomes, ((PictureRef(url), found) for url, found in embed_urls(settings, embedder, urls)))
    embedded: dict[PictureRef, bytes] = {}
    for picture, outcome in outcomes:
        advance(1)
        if not isinstance(outcome, tuple):
            embedded[picture] = quantize(outcome)
    return embedded


class PictureEmbeddings:
    """Embeddings by picture. Each is computed once per embedder; memory holds those of the last embedder that was asked for."""

    def __init__(self, settings: Settings, folders: PictureFolders, step: Step) -> None:
        self._settings = settings
        self._folders = folders
        self._step = step
        self._version = ""
        self._tried: set[PictureRef] = set()
        self._found: dict[PictureRef, bytes] = {}

    def of(self, bundle: Bundle, pictures: Iterable[PictureRef]) -> Mapping[PictureRef, bytes]:
        """Embed pictures with the embedder of a bundle.

        Returns:
            The embeddings of `pictures`, and perhaps more, quantized as the workers store them. Pictures that cannot be read are
            missing.
        """
        if bundle.embedder_version != self._version:
            self._version, self._tried, self._found = bundle.embedder_version, set(), {}
        if missing := list(dict.fromkeys(picture for picture in pictures if picture not in self._tried)):
            embedder = bundle.embedder(self._settings.model_threads)
            with self._step(f"pictures of {bundle.name}", len(missing)) as advance:
                self._found |= embedded_pictures(self._settings, embedder, missing, self._folders, advance)
            self._tried.update(missing)
        return self._found
