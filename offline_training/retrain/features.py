"""The features of the pictures of a data set, and the embeddings that bundles make of them.

Features come from the topic, else from the work folder, and only then from the picture itself.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing
from dataclasses import dataclass, field

from model.bundle import Bundle
from model.embedder import Backbone, SplitEmbedder
from model.quantization import is_finite, quantize, quantize_all
from offline_training.datasets.picture_folders import PictureFolders
from offline_training.datasets.picture_ref import PictureRef
from offline_training.datasets.records import DatasetError
from offline_training.progress import Advance, Step
from offline_training.replay.answers.embeddings import embed_pictures
from offline_training.retrain.shared import SharedFeatures, read_shared, share
from offline_training.retrain.table import FeatureTable
from streams.exceptions import TopicsError
from streams.settings import Settings

BATCH = 4096  # pictures in one call of the item network


@dataclass
class Origins:
    """Where the features of the pictures came from.

    Attributes:
        shared: number of pictures whose features were on the topic.
        kept: number of pictures whose features were in the work folder.
        made: number of pictures whose features were made.
        failed: pictures without features, by reason.
        note: why the features that were made are not on the topic; "" if they are, or need not be.
    """

    shared: int = 0
    kept: int = 0
    made: int = 0
    failed: Counter[str] = field(default_factory=Counter[str])
    note: str = ""

    def text(self, topic: str) -> str:
        parts = [f"{self.shared:,} from {topic}", f"{self.kept:,} from the work folder", f"{self.made:,} made now"]
        parts += [f"{count:,} without: {reason}" for reason, count in self.failed.most_common()]
        return ", ".join(parts)


def gather_features(
    settings: Settings,
    backbone: Backbone,
    pictures: Sequence[PictureRef],
    folders: PictureFolders,
    table: FeatureTable,
    *,
    fetch: bool,
    now: int,
    step: Step,
) -> tuple[dict[PictureRef, bytes], Origins]:
    """The features of distinct pictures, as rows by picture, and where they are from.

    Args:
        settings: the settings of the workers.
        backbone: makes features.
        pictures: local pictures and URLs.
        folders: where the local pictures may be.
        table: the features that the work folder keeps.
        fetch: whether features are made that are nowhere.
        now: the time now, milliseconds since the epoch.
        step: shows the progress.

    Raises:
        BrokerUnreachable: the broker does not answer.
        TopicsError: the topic may not be read.
        DatasetError: no picture has features, or the disk is full.
    """
    shared = _read(settings, backbone, pictures, step) if settings.share_features else SharedFeatures(topic=False)
    features = {PictureRef(url): row for url, row in shared.rows.items()}
    kept = table.find(picture for picture in pictures if picture not in features)
    features |= kept
    origins = Origins(shared=len(shared.rows), kept=len(kept))
    missing = [picture for picture in pictures if picture not in features]
    if missing and not fetch:
        origins.failed["not fetched"] += len(missing)
    elif missing:
        embedder = SplitEmbedder(backbone, None, backbone.version)
        outcomes = embed_pictures(settings, embedder, missing, folders)
        with step("pictures", len(missing)) as advance, closing(outcomes):
            for picture, found in outcomes:
                advance(1)
                if isinstance(found, tuple):
                    origins.failed[found[0]] += 1
                else:
                    features[picture] = quantize(found)
                    table.add(picture, features[picture])
                    origins.made += 1
    if not features:
        raise DatasetError(
            f"none of the {len(pictures):,} pictures has features: {origins.text(settings.features_topic)}"
        )
    if shared.topic:
        origins.note = _share(settings, backbone.version, table, now)
    return features, origins


def _read(settings: Settings, backbone: Backbone, pictures: Iterable[PictureRef], step: Step) -> SharedFeatures:
    wanted = {picture.text for picture in pictures if picture.is_web_url}
    with ExitStack() as bars:
        opened = opener(bars, step, settings.features_topic)
        return asyncio.run(read_shared(settings, backbone.version, backbone.feature_size, wanted, opened))


def opener(bars: ExitStack, step: Step, title: str) -> Callable[[int], Advance]:
    """Open a progress bar when its total is known. `bars` closes it."""

    def opened(total: int) -> Advance:
        bar: AbstractContextManager[Advance] = step(title, total)
        return bars.enter_context(bar)

    return opened


def _share(settings: Settings, version: str, table: FeatureTable, now: int) -> str:
    """Move what was fetched from the work folder to the topic; why it could not be moved."""
    fetched = table.fetched()
    if not fetched:
        return ""
    try:
        asyncio.run(share(settings, version, fetched, now))
    except TopicsError as error:
        return f"{error}; the work folder keeps {len(fetched):,} features"
    table.remove(fetched)
    return ""


class FeatureEmbeddings:
    """Embeddings of pictures, by any bundle with the backbone of the features. Memory holds those of the last bundle."""

    def __init__(self, features: Mapping[PictureRef, bytes]) -> None:
        self._features = features
        self._version = ""
        self._found: dict[PictureRef, bytes] = {}

    def of(self, bundle: Bundle, pictures: Iterable[PictureRef]) -> Mapping[PictureRef, bytes]:
        """As `Embeddings.of`."""
        del pictures  # the embeddings of all take less time than the features of one
        if bundle.embedder_version != self._version:
            self._version = bundle.embedder_version
            self._found = self._embedded(bundle)
        return self._found

    def _embedded(self, bundle: Bundle) -> dict[PictureRef, bytes]:
        embedder = bundle.split_embedder()
        names = list(self._features)
        found: dict[PictureRef, bytes] = {}
        for start in range(0, len(names), BATCH):
            some = names[start : start + BATCH]
            codes = quantize_all(embedder.of_features([self._features[name] for name in some]))
            found |= {name: code for name, code in zip(some, codes, strict=True) if is_finite(code)}
        return found
