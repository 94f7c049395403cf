"""A model bundle: a folder with two networks and a manifest, checked as a whole before anything of it is used.

manifest.json     what it is: name, version, checksums, sizes, categories, prior, training, licences, figures
embedder.onnx     `image` uint8 [B, H, W, 3] -> `embedding` float32 [B, d]
aggregator.onnx   `embeddings` float32 [B, M, d], `log_prior` float32 [B, M] (the log weight of each item)
                  -> `scores` float32 [B, D], `attention` float32 [B, M]
"""

import hashlib
import math
from pathlib import Path

import msgspec
import numpy as np

from model import sessions
from model.aggregator import LOG_WEIGHT, Aggregator
from model.embedder import Embedder
from model.exceptions import BundleError
from model.manifest import Manifest
from model.preprocessing import PREPROCESSING
from model.sessions import Tensor

MANIFEST = "manifest.json"
EMBEDDER = "embedder.onnx"
AGGREGATOR = "aggregator.onnx"
DEFAULT_BUNDLE = Path(__file__).parent / "bundles" / "default"

_ADVICE = "install a whole bundle, or point the setting to another"


class Bundle:
    """A folder that passed every check of `Bundle.load`; the attributes repeat the manifest in the types that arithmetic wants."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest
        self.name = manifest.name
        self.version = manifest.version
        self.categories = tuple(manifest.categories)
        self.prior = np.array(manifest.prior, np.float32)  # [D]
        self.prior.flags.writeable = False
        self.image_size = manifest.image.size
        self.embedding_size = manifest.embedding.size
        self.embedder_version = embedder_version(manifest)

    def __repr__(self) -> str:
        return f"Bundle(name={self.name!r}, version={self.version!r}, path={str(self.path)!r}, categories={len(self.categories)})"

    @classmethod
    def load(cls, path: Path | None = None) -> "Bundle":
        """Check a bundle's folder and describe it; the networks are loaded to check their ends, and let go.

        Args:
            path: the folder; None for the one that ships with the package.

        Raises:
            BundleError: one line that names the file, what was expected and found, and what to do.
        """
        folder = DEFAULT_BUNDLE if path is None else Path(path)
        manifest = _read_manifest(folder)
        _check_manifest(folder / MANIFEST, manifest)
        for name, expected in manifest.files.items():
            _check_file(folder / name, expected)
        bundle = cls(folder, manifest)
        bundle.embedder()
        bundle.aggregator()
        return bundle

    def embedder(self, threads: int = 1) -> Embedder:
        """A new session of the first network, with `threads` threads for the arithmetic of a call."""
        path, size = self.path / EMBEDDER, self.image_size
        session = sessions.open_session(path, threads, arena=True)
        sessions.check_ends(
            path,
            session,
            [Tensor("image", "uint8", ("batch", size, size, 3))],
            [Tensor("embedding", "float32", ("batch", self.embedding_size))],
        )
        return Embedder(session, size, self.embedding_size, self.embedder_version)

    def aggregator(self, threads: int = 1) -> Aggregator:
        """A new session of the second network, with `threads` threads for the arithmetic of a call."""
        path = self.path / AGGREGATOR
        session = sessions.open_session(path, threads)
        sessions.check_ends(
            path,
            session,
            [
                Tensor("embeddings", "float32", ("batch", "items", self.embedding_size)),
                Tensor(LOG_WEIGHT, "float32", ("batch", "items")),
            ],
            [
                Tensor("scores", "float32", ("batch", len(self.categories))),
                Tensor("attention", "float32", ("batch", "items")),
            ],
        )
        return Aggregator(session, self.embedding_size, len(self.categories))


def embedder_version(manifest: Manifest) -> str:
    """Twelve hexadecimal digits that differ between any two embedders: of the network's file and of what is done to
    pictures before it."""
    identity = f"{manifest.files[EMBEDDER]} {manifest.image.preprocessing} {manifest.image.size}"
    return hashlib.sha256(identity.encode()).hexdigest()[:12]


def file_sha256(path: Path) -> str:
    """SHA-256 of a file in lower-case hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_manifest(folder: Path) -> Manifest:
    path = folder / MANIFEST
    if not folder.is_dir():
        raise BundleError(
            f"{folder}: expected a bundle's folder, found {'a file' if folder.exists() else 'nothing'}: {_ADVICE}"
        )
    try:
        return msgspec.json.decode(path.read_bytes(), type=Manifest)
    except FileNotFoundError:
        raise BundleError(f"{path}: expected a bundle's manifest, found nothing: {_ADVICE}") from None
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror}): check its permissions") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:  # a ValidationError is a DecodeError
        raise BundleError(f"{path}: expected a bundle's manifest, found something else ({error}): {_ADVICE}") from error


def _check_manifest(path: Path, manifest: Manifest) -> None:
    """What the types of the manifest cannot say."""
    for name in (EMBEDDER, AGGREGATOR):
        if name not in manifest.files:
            raise BundleError(
                f"{path}: expected a checksum of {name}, found {', '.join(manifest.files) or 'none'}: {_ADVICE}"
            )
    for name in manifest.files:
        if Path(name).name != name:
            raise BundleError(f"{path}: expected names of files in the folder, found {name!r}: {_ADVICE}")
    categories, distinct = len(manifest.categories), len(set(manifest.categories))
    if not categories or distinct != categories:
        raise BundleError(f"{path}: expected distinct categories, found {distinct} names for {categories}: {_ADVICE}")
    if len(manifest.prior) != categories or not all(math.isfinite(p) and 0 <= p <= 1 for p in manifest.prior):
        raise BundleError(
            f"{path}: expected a prior of {categories} probabilities, one a category, found {len(manifest.prior)} numbers "
            f"from {min(manifest.prior, default=0)} to {max(manifest.prior, default=0)}: {_ADVICE}"
        )
    if manifest.image.preprocessing != PREPROCESSING:
        raise BundleError(
            f"{path}: expected image.preprocessing {PREPROCESSING!r}, the one this version knows, "
            f"found {manifest.image.preprocessing!r}: "
            "install the tastestream version that made the bundle, or train it again"
        )


def _check_file(path: Path, expected: str) -> None:
    try:
        found = file_sha256(path)
    except FileNotFoundError:
        raise BundleError(f"{path}: expected a file with SHA-256 {expected}, found nothing: {_ADVICE}") from None
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror}): check its permissions") from error
    if found != expected:
        raise BundleError(f"{path}: expected SHA-256 {expected}, found {found}: {_ADVICE}")
