"""`tastestream train bundle` for a folder of classes. Imports torch only when it runs."""

from collections.abc import Collection
from pathlib import Path
from time import time

from offline_training.bundles.tables import tables_of
from offline_training.console import extra, progress
from streams.console import PlainConsole


def class_bundle(
    folder: Path,
    out: Path,
    *,
    name: str,
    version: str | None,
    base: Path | None,
    seed: int,
    threads: int,
    unfit: Collection[str],
) -> None:
    """Train a bundle from a folder of classes, and print how sure it is.

    `unfit` are the options that were given and are for prepared data sets only.
    """
    with extra():
        import torch  # noqa: PLC0415

        from model.bundle import Bundle  # noqa: PLC0415
        from offline_training.bundles.classes.bundle import make_class_bundle  # noqa: PLC0415
        from offline_training.bundles.classes.folder import ENOUGH, read_classes  # noqa: PLC0415
        from offline_training.bundles.classes.head import in_words  # noqa: PLC0415
        from offline_training.datasets.prepare import ITEMS  # noqa: PLC0415
        from offline_training.datasets.records import DatasetError, Dropped  # noqa: PLC0415
        from offline_training.tasks.learnt import learnt_pictures, second  # noqa: PLC0415
    torch.set_num_threads(threads)
    dropped = Dropped()
    with progress(PlainConsole(stderr=True)) as step:
        if (folder / ITEMS).is_file():
            raise DatasetError(
                f"{folder}: a prepared data set needs --embeddings: make them with tastestream train embed"
            )
        for option in unfit:
            raise DatasetError(f"{option} needs --embeddings, of a prepared data set")
        built_on = Bundle.load(base)
        pictures = read_classes(folder, built_on.backbone(threads), dropped, step)
        made, head = make_class_bundle(
            base=built_on,
            pictures=pictures,
            name=name,
            version=version,
            command=f"tastestream train bundle FOLDER --out BUNDLE --seed {seed}",
            seed=seed,
            date=second(int(time() * 1000)),
            data=learnt_pictures(folder.resolve().name, len(pictures.names)),
            out=out,
            step=step,
        )
    console = PlainConsole()
    for table in tables_of(made):
        console.print(table)
    console.print(in_words(pictures, head.held_out), soft_wrap=True, markup=False, highlight=False)
    few = [f"{one} {count}" for one, count in zip(pictures.classes, pictures.counts, strict=True) if count < ENOUGH]
    if few:
        console.print(f"fewer than {ENOUGH} pictures: {', '.join(few)}", soft_wrap=True, markup=False, highlight=False)
    console.print(f"left out: {dropped.explained()}", soft_wrap=True, markup=False, highlight=False)
