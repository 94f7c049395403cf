"""The embeddings of the pictures of a run, computed here. Pictures at URLs are fetched as the embed worker fetches them."""

from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import closing
from typing import Protocol

from model.bundle import Bundle
from model.embedder import Embedder
from model.quantization import quantize
from offline_training.datasets.picture_folders import PictureFolders
from offline_training.datasets.picture_ref import PictureRef
from offline_training.progress import Advance, Step
from offline_training.tasks.catalogue import Embedded, embed_files
from streams.settings import Settings
from streams.warm.embed_urls import embed_urls


class Embeddings(Protocol):
    """Embeddings of pictures, by any bundle."""

    def of(self, bundle: Bundle, pictures: Iterable[PictureRef]) -> Mapping[PictureRef, bytes]:
        """Embed pictures with the embedder of a bundle.

        Returns:
            The embeddings of `pictures`, and perhaps more, quantized as the workers store them. Pictures that cannot be read are
            missing.
        """
        ...


def embed_pictures(
    settings: Settings, embedder: Embedder, pictures: Sequence[PictureRef], folders: PictureFolders
) -> Generator[tuple[PictureRef, Embedded]]:
    """Embed distinct pictures. The outcomes come in any order.

    Args:
        settings: the settings of the workers, for fetching and for the maximum size of a picture.
        embedder: makes the embeddings.
        pictures: local pictures and URLs.
        folders: where the local pictures may be.
    """
    files = [picture for picture in pictures if not picture.is_url]
    urls = [picture.text for picture in pictures if picture.is_url]
    yield from embed_files(embedder, files, folders, settings.fetch_max_bytes)
    if urls:
        with closing(embed_urls(settings, embedder, urls)) as outcomes:
            for url, found in outcomes:
                yield PictureRef(url), found


def embedded_pictures(
    settings: Settings, embedder: Embedder, pictures: Sequence[PictureRef], folders: PictureFolders, advance: Advance
) -> dict[PictureRef, bytes]:
    """Embed distinct pictures, with the arguments of `embed_pictures`, and tell `advance` of every picture that is done.

    Returns:
        The embeddings, quantized as the workers store them, by picture. Pictures that cannot be read are missing.
    """
    embedded: dict[PictureRef, bytes] = {}
    for picture, outcome in embed_pictures(settings, embedder, pictures, folders):
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
        """As `Embeddings.of`."""
        if bundle.embedder_version != self._version:
            self._version, self._tried, self._found = bundle.embedder_version, set(), {}
        if missing := list(dict.fromkeys(picture for picture in pictures if picture not in self._tried)):
            embedder = bundle.embedder(self._settings.model_threads)
            with self._step(f"pictures of {bundle.name}", len(missing)) as advance:
                self._found |= embedded_pictures(self._settings, embedder, missing, self._folders, advance)
            self._tried.update(missing)
        return self._found
