"""Which cosine tells two copies of a picture from pictures of two items.

    OMP_NUM_THREADS=1 python -m tests.benchmarks.duplicates FOLDER [--pictures 3000] [--copies 500] [--features FILE.npz]

The codes are those of the shipped bundle, as the catalogue holds them. Each copy is compared with its original, and each original
with the most similar other picture of the folder. `--features` has features of many more pictures, `ids` and `emb`; it adds
the most similar other one among these. Pictures of one item in several colours count as several items.
"""

import argparse
import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from rich.console import Console

from model.bundle import Bundle
from model.embedder import SplitEmbedder
from model.item_search.index import CodeIndex
from model.item_search.vectors import unit
from model.preprocessing import decode_picture
from model.quantization import as_stored, dequantize, quantize_all

BATCH = 32
LEAST = (0.98, 0.985, 0.99, 0.995, 0.997, 0.998, 0.999)
CLOSEST = 12  # pairs that are named

Copy = Callable[[Image.Image], bytes]


def saved(image: Image.Image, kind: str = "JPEG", quality: int = 90) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, quality=quality)
    return content.getvalue()


def scaled(image: Image.Image, by: float) -> Image.Image:
    return image.resize((max(round(image.width * by), 1), max(round(image.height * by), 1)))


def cropped(image: Image.Image, share: float) -> Image.Image:
    """Without this share of the width and of the height, the same on all sides."""
    x, y = round(image.width * share / 2), round(image.height * share / 2)
    return image.crop((x, y, image.width - x, image.height - y))


def framed(image: Image.Image, share: float) -> Image.Image:
    return ImageOps.expand(image, round(max(image.size) * share / 2), "white")


COPIES: dict[str, Copy] = {
    "PNG": lambda image: saved(image, "PNG"),
    "JPEG, quality 90": saved,
    "JPEG, quality 75": lambda image: saved(image, quality=75),
    "JPEG, quality 50": lambda image: saved(image, quality=50),
    "JPEG, quality 30": lambda image: saved(image, quality=30),
    "WebP, quality 75": lambda image: saved(image, "WEBP", 75),
    "half as wide": lambda image: saved(scaled(image, 0.5)),
    "a quarter as wide": lambda image: saved(scaled(image, 0.25)),
    "twice as wide": lambda image: saved(scaled(image, 2)),
    "2 % cropped": lambda image: saved(cropped(image, 0.02)),
    "5 % cropped": lambda image: saved(cropped(image, 0.05)),
    "10 % cropped": lambda image: saved(cropped(image, 0.10)),
    "5 % white frame": lambda image: saved(framed(image, 0.05)),
    "10 % brighter": lambda image: saved(image.point([min(round(value * 1.1), 255) for value in range(256)] * 3)),
    "mirrored": lambda image: saved(ImageOps.mirror(image)),
}


def codes_of(embedder: SplitEmbedder, contents: Sequence[bytes], *, features: bool) -> NDArray[np.float32]:
    """The codes of pictures, or their features, of length 1."""
    found: list[NDArray[np.float32]] = []
    for start in range(0, len(contents), BATCH):
        pictures = np.stack([decode_picture(one, embedder.image_size) for one in contents[start : start + BATCH]])
        rows = embedder.backbone.features(pictures)
        size = embedder.backbone.feature_size
        found.append(dequantize(rows, size) if features else as_stored(embedder.of_features(rows)))
    return unit(np.concatenate(found))


def nearest_other(codes: NDArray[np.float32]) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """The most similar other code of each, and its cosine."""
    index = CodeIndex(codes.shape[1])
    index.put(np.arange(len(codes)), quantize_all(codes))
    places, cosines = index.search(codes, 2)
    own = np.arange(len(codes))
    other = (places[:, 0] == own).astype(int)
    return places[own, other], cosines[own, other]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="pictures, in folders of folders")
    parser.add_argument("--pictures", type=int, default=3000, help="pictures that are compared (default 3000)")
    parser.add_argument("--copies", type=int, default=500, help="pictures that are copied (default 500)")
    parser.add_argument("--features", type=Path, help="features of many pictures, as an archive of NumPy")
    parser.add_argument(
        "--backbone", action="store_true", help="compare the features, not the codes that follow from them"
    )
    asked = parser.parse_args()
    rng = np.random.default_rng(0)
    paths = sorted(path for path in asked.folder.rglob("*") if path.suffix.lower() in {".jpg", ".jpeg", ".png"})
    paths = [paths[number] for number in sorted(rng.permutation(len(paths))[: asked.pictures])]
    embedder = Bundle.load().split_embedder()
    originals = codes_of(embedder, [path.read_bytes() for path in paths], features=asked.backbone)
    show = Console(soft_wrap=True, highlight=False).print
    show("| | p1 | p5 | p50 |", *(f"{least:g} |" for least in LEAST))
    show("|---|" + "---|" * (3 + len(LEAST)))

    def add(name: str, cosines: NDArray[np.floating]) -> None:
        low = [f"{value:.4f} |" for value in np.percentile(cosines, [1, 5, 50])]
        show(f"| {name} |", *low, *(f"{(cosines >= least).mean():.1%} |" for least in LEAST))

    copied = rng.permutation(len(paths))[: asked.copies]
    images = [Image.open(paths[number]).convert("RGB") for number in copied]
    for name, copy in COPIES.items():
        made = codes_of(embedder, [copy(image) for image in images], features=asked.backbone)
        add(name, (made * originals[copied]).sum(axis=1))
    others, cosines = nearest_other(originals)
    add(f"nearest of {len(paths) - 1:,} others", cosines)
    names = [path.stem for path in paths]
    closest = [(names, others, cosines)]
    if asked.features is not None:
        with np.load(asked.features) as archive:
            ids, features = archive["ids"].astype(str).tolist(), archive["emb"].astype(np.float32)
        rows = quantize_all(features)
        many = unit(as_stored(features) if asked.backbone else as_stored(embedder.of_features(rows)))
        place = {name: number for number, name in enumerate(ids)}
        both = [(number, place[name]) for number, name in enumerate(names) if name in place]
        if both:
            here, there = np.array(both).T
            add("the same, from the features of the file", (originals[here] * many[there]).sum(axis=1))
        others, cosines = nearest_other(many)
        add(f"nearest of {len(ids) - 1:,} others", cosines)
        closest.append((ids, others, cosines))
    for ids, others, cosines in closest:
        for number in np.argsort(-cosines)[:CLOSEST].tolist():
            show(f"{cosines[number]:.5f} {ids[number]} {ids[others[number]]}")


if __name__ == "__main__":
    main()
