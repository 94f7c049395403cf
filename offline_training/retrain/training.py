"""From the data set and the features to the next bundle. Nothing that happened in the held-out time is learnt from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from model.bundle import Bundle
from model.bundle.manifest import Data
from model.quantization import as_stored, dequantize
from offline_training.adapters.choosing import adapt, check_enough
from offline_training.adapters.of_bags import BagUsers
from offline_training.adapters.of_purchases import PurchaseUsers
from offline_training.adapters.users import Users
from offline_training.bundles.purchases import make_purchases_bundle
from offline_training.bundles.shop import Adapt, make_shop_bundle
from offline_training.datasets.picture_ref import PictureRef
from offline_training.datasets.records import DatasetError
from offline_training.progress import Step
from offline_training.replay.play.events import PreparedDataset
from offline_training.tasks.bags import Bags
from offline_training.tasks.catalogue import Catalogue, read_catalogue
from offline_training.tasks.evaluation import codes_of
from offline_training.tasks.learnt import learnt_data
from offline_training.tasks.purchases import Taken, read_taken
from offline_training.tasks.split import MAX_BAG, Histories, Split, TaskName, later_bags, make_split, read_histories

EMBEDDINGS = "features.npz"  # in the folder of the data set, as `tastestream train embed` writes it


@dataclass(frozen=True)
class TrainingData:
    """What there is to learn from, and what is held out.

    Attributes:
        catalogue: the items with features and categories.
        before: what users did before the cut.
        split: the bags of *next* before the cut.
        later: the bags at the cut of the users who took items before and after it. Their targets are the labels of what they took
            first after it.
        learnt: what is learnt from, for the manifest.
        taken: what all users took before the cut, in the task *purchases*; None in *next*.
    """

    catalogue: Catalogue
    before: Histories
    split: Split
    later: Bags
    learnt: Data
    taken: Taken | None = None


def task_for(current: Bundle) -> TaskName:
    """The task that the next bundle is trained for, unless somebody names another one: that of the current bundle."""
    return "purchases" if current.labels_version else "next"


def write_features(dataset: PreparedDataset, features: Mapping[PictureRef, bytes], size: int) -> Path:
    """Write the features of the items of a data set where `read_training_data` finds them.

    Args:
        dataset: the data set.
        features: rows by picture.
        size: number of features of a picture.
    """
    named = [
        (item, features[one.picture])
        for item, one in dataset.items.items()
        if one.picture is not None and one.picture in features
    ]
    path = dataset.folder / EMBEDDINGS
    vectors = dequantize([row for _, row in named], size)
    np.savez(path, ids=np.array([item for item, _ in named]), embeddings=vectors)
    return path


def read_training_data(folder: Path, categories: Sequence[str] | None, cut: int, task: TaskName) -> TrainingData:
    """Read a data set with its features.

    Args:
        folder: the data set.
        task: *next* or *purchases*.
        categories: categories of the current bundle, in their order. None: those of the data set.
        cut: begin of the held-out time, milliseconds since the epoch.

    Raises:
        DatasetError: there is too little to learn from.
    """
    catalogue = read_catalogue(folder, folder / EMBEDDINGS)
    if categories is not None:
        catalogue = catalogue.with_labels_in_order(categories)
    learnable = np.flatnonzero(catalogue.matrix.any(axis=0)).tolist()
    if len(learnable) < 2:
        only = [catalogue.labels[column] for column in learnable]
        raise DatasetError(
            f"expected items of two or more categories, found {len(catalogue.items)} items of {only}: "
            "with one category there is nothing to recommend; complete --items"
        )
    before = read_histories(folder, catalogue, until=cut)
    split = make_split("next", before, catalogue)
    seen = np.zeros(len(catalogue.items), bool)
    seen[np.concatenate(before.rows)] = True
    later = later_bags(before, read_histories(folder, catalogue), catalogue, MAX_BAG["next"])
    learnt = learnt_data(folder, catalogue, task, new=~seen, until=cut)
    taken = read_taken(folder, catalogue, until=cut) if task == "purchases" else None
    return TrainingData(catalogue, before, split._replace(new=~seen), later, learnt, taken)


def adapter_from(current: Bundle, data: TrainingData, step: Step) -> Adapt | None:
    """What fits an adapter from the embeddings of the current bundle; None where there are too few items or users for one."""
    codes = as_stored(codes_of(current.split_embedder(), data.catalogue.embeddings))
    users: Users = BagUsers(data.split, "next")
    if data.taken is not None:
        users = PurchaseUsers.of(data.catalogue, data.taken, data.split.new)
    try:
        check_enough(codes, users)
    except DatasetError:
        return None
    return partial(adapt, old=current, old_codes=codes, users=users, step=step)


def train(
    current: Bundle,
    data: TrainingData,
    *,
    name: str,
    version: str,
    command: str,
    aggregator: str | None,
    keep_items: bool,
    adapts: bool,
    seed: int,
    date: str,
    out: Path,
    step: Step,
) -> Bundle:
    """Train the next bundle on the backbone of the current one.

    Args:
        current: the current bundle.
        data: what there is to learn from.
        adapts: whether the next bundle gets an adapter for the embeddings of the current one, if there are enough items and users.
        name, version, command, aggregator, keep_items, seed, date, out, step: as in `make_shop_bundle`. The aggregator of the task
            *purchases* is the blend.
    """
    adapting = adapter_from(current, data, step) if adapts and not keep_items else None
    if data.taken is not None:
        return make_purchases_bundle(
            base=current,
            catalogue=data.catalogue,
            taken=data.taken,
            name=name,
            version=version,
            command=command,
            seed=seed,
            date=date,
            data=data.learnt,
            out=out,
            step=step,
            keep_items=keep_items,
            new=data.split.new,
            adapt=adapting,
        )
    return make_shop_bundle(
        base=current,
        catalogue=data.catalogue,
        split=data.split,
        task="next",
        aggregator=aggregator,
        name=name,
        version=version,
        command=command,
        seed=seed,
        date=date,
        data=data.learnt,
        out=out,
        step=step,
        keep_items=keep_items,
        adapt=adapting,
    )
