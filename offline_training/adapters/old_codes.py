"""The embeddings of a catalogue's pictures by an older bundle."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.bundle import Bundle
from model.embedder import Embedder, SplitEmbedder
from model.quantization import as_stored
from offline_training.datasets.records import DatasetError
from offline_training.tasks.catalogue import Catalogue
from offline_training.tasks.evaluation import codes_of


def filed_by(old: Bundle, threads: int = 1) -> Embedder:
    """Open what makes the vectors that a file holds for `old`: features, or the embeddings of an early bundle.

    For a bundle in the present form it is the file that `tastestream train embed --bundle` writes.
    """
    if not old.backbone_version:
        return old.embedder(threads)
    backbone = old.backbone(threads)
    return SplitEmbedder(backbone, None, backbone.version)


def old_codes(old: Bundle, catalogue: Catalogue, filed: Catalogue, path: Path) -> NDArray[np.float32]:
    """Return the embeddings by `old`, as bags keep them, of the items of a catalogue.

    Args:
        old: the older bundle.
        catalogue: N items.
        filed: items, all or some of them, with the vectors that `filed_by` makes.
        path: where the vectors are from.

    Returns:
        float32 [N, e]. NaN for an item that `filed` does not have.

    Raises:
        DatasetError: the vectors have another size than what `filed_by` makes.
    """
    embedder = old.split_embedder() if old.backbone_version else None
    size, expected = filed.embeddings.shape[1], embedder.backbone.feature_size if embedder else old.embedding_size
    if size != expected:
        raise DatasetError(
            f"{path} has {size} numbers per item, but the network of {old.path} makes {expected}: "
            "embed the pictures with that bundle"
        )
    found = codes_of(embedder, filed.embeddings) if embedder else filed.embeddings
    row_of = {item: row for row, item in enumerate(filed.items)}
    codes = np.full((len(catalogue.items), found.shape[1]), np.nan, np.float32)
    known = [(row, row_of[item]) for row, item in enumerate(catalogue.items) if item in row_of]
    if known:
        rows, places = zip(*known, strict=True)
        codes[list(rows)] = as_stored(found[list(places)])
    return codes
