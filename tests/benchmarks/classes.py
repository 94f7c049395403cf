"""How many pictures of a class are enough: `train bundle` from a folder of classes, against the data set's test pictures.

python -m tests.benchmarks.classes data/clothing
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from model.bundle import Bundle
from offline_training.bundles.classes.folder import ClassPictures, read_classes
from offline_training.bundles.classes.head import Share, fit_head
from offline_training.datasets.records import Dropped
from tests.offline_training.silent import step


def drawn(pictures: ClassPictures, count: int | None, seed: int) -> ClassPictures:
    """Draw `count` pictures of each class, or as many as there are."""
    rng = np.random.default_rng(seed)
    chosen = np.concatenate(
        [rng.permutation(np.flatnonzero(pictures.numbers == number))[:count] for number in range(len(pictures.classes))]
    )
    return ClassPictures(
        pictures.classes,
        [pictures.names[place] for place in chosen],
        pictures.numbers[chosen],
        pictures.features[chosen],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with train/ and test/, a folder for each class in each")
    parser.add_argument("--counts", type=int, nargs="*", default=[5, 20, 100], help="pictures of a class")
    parser.add_argument("--seeds", type=int, default=3, help="draws of each count (default 3)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    backbone = Bundle.load().backbone()
    train, test = (read_classes(arguments.data / name, backbone, Dropped(), step) for name in ("train", "test"))
    assert train.classes == test.classes, "the classes of train/ and test/ differ"
    table = Table(
        "pictures of a class", "seed", "it says of itself [95 %]", f"of {len(test.names):,} test pictures [95 %]"
    )
    for count in (*arguments.counts, None):
        for seed in range(1 if count is None else arguments.seeds):
            some = drawn(train, count, seed)
            head = fit_head(some, seed=seed, advance=lambda _: None)
            logits = head.classifier.logits(torch.from_numpy(test.features)).numpy()
            told = Share.of(int((head.held_out.argmax(axis=1) == some.numbers).sum()), len(some.names))
            found = Share.of(int((logits.argmax(axis=1) == test.numbers).sum()), len(test.names))
            table.add_row(
                str(count or f"all ({len(some.names):,})"),
                str(seed),
                *(f"{share.value:.3f} [{share.low:.3f}, {share.high:.3f}]" for share in (told, found)),
            )
    Console().print(table)


if __name__ == "__main__":
    main()
