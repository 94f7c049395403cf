"""A model bundle: a folder with two networks and a manifest. `Bundle.load` checks all of it before use.

manifest.json     name, version, checksums (its own among them), sizes, categories, prior, training, licences, metrics
embedder.onnx     `image` uint8 [B, H, W, 3] -> `embedding` float32 [B, d]
aggregator.onnx   `embeddings` float32 [B, M, d], `log_prior` float32 [B, M] (the log weight of each item)
                  -> `scores` float32 [B, D], `attention` float32 [B, M]
"""

import hashlib
import math
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from model import sessions
from model.aggregator import LOG_WEIGHT, Aggregator
from model.bundle import signature
from model.bundle.manifest import Manifest, content_checksum
from model.bundle.onnx_check import MAX_NETWORK_BYTES, NetworkError, check_network
from model.embedder import Embedder
from model.exceptions import BundleError
from model.preprocessing import PREPROCESSING
from model.sessions import TensorSpec

MANIFEST = "manifest.json"
EMBEDDER = "embedder.onnx"
AGGREGATOR = "aggregator.onnx"
DEFAULT_BUNDLE = Path(__file__).parents[1] / "bundles" / "default"

MAX_NAME_BYTES = 255  # of a file: the limit of file systems
SHOWN_CHARACTERS = 200  # of a manifest in an error
MAX_MANIFEST_BYTES = 16 * 1024**2  # a hundred thousand categories with their prior take a third of it

_ADVICE = "install a complete bundle, or set BUNDLE to another folder"


class Bundle:
    """A checked bundle. Attributes repeat the manifest in the types that computation needs: `prior` is float32 [D], read-only."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest
        self.name = manifest.name
        self.version = manifest.version
        self.categories = tuple(manifest.categories)
        self.prior = np.array(manifest.prior, np.float32)
        self.prior.flags.writeable = False
        self.image_size = manifest.image.size
        self.embedding_size = manifest.embedding.size
        self.embedder_version = embedder_version(manifest)

    def __repr__(self) -> str:
        return f"Bundle(name={self.name!r}, version={self.version!r}, path={str(self.path)!r}, categories={len(self.categories)})"

    @classmethod
    def load(cls, path: Path | None = None, key: Path | None = None) -> "Bundle":
        """Check the folder of a bundle. The networks are opened to check their inputs and outputs, then closed.

        Args:
            path: Folder of the bundle. None means the one that ships with the package.
            key: Ed25519 public key (PEM) by which the bundle has to be signed. None asks for no signature.

        Raises:
            BundleError: The message names the file, what was expected, what was found, and what to do.
        """
        folder = DEFAULT_BUNDLE if path is None else Path(path)
        manifest = _read_manifest(folder, key)
        _check_manifest(folder / MANIFEST, manifest)
        for name, expected in manifest.files.items():
            _read_file(folder / name, expected)
        bundle = cls(folder, manifest)
        bundle.embedder()
        bundle.aggregator()
        return bundle

    def embedder(self, threads: int = 1) -> Embedder:
        """Open a session of the embedder. One call computes on `threads` threads."""
        path, size = self.path / EMBEDDER, self.image_size
        session = sessions.open_session(path, threads, arena=True, content=self._network(EMBEDDER))
        sessions.check_signature(
            path,
            session,
            [TensorSpec("image", "uint8", ("batch", size, size, 3))],
            [TensorSpec("embedding", "float32", ("batch", self.embedding_size))],
        )
        return Embedder(session, size, self.embedding_size, self.embedder_version)

    def aggregator(self, threads: int = 1) -> Aggregator:
        """Open a session of the aggregator. One call computes on `threads` threads."""
        path = self.path / AGGREGATOR
        session = sessions.open_session(path, threads, content=self._network(AGGREGATOR))
        sessions.check_signature(
            path,
            session,
            [
                TensorSpec("embeddings", "float32", ("batch", "items", self.embedding_size)),
                TensorSpec(LOG_WEIGHT, "float32", ("batch", "items")),
            ],
            [
                TensorSpec("scores", "float32", ("batch", len(self.categories))),
                TensorSpec("attention", "float32", ("batch", "items")),
            ],
        )
        return Aggregator(session, self.embedding_size, len(self.categories))

    def _network(self, name: str) -> bytes:
        """Read a network once, and check these very bytes: the file may be another one a moment later."""
        path = self.path / name
        content = _read_file(path, self.manifest.files[name])
        try:
            check_network(content)
        except NetworkError as error:
            raise BundleError(f"{path}: {error}: {_ADVICE}") from error
        return content


def embedder_version(manifest: Manifest) -> str:
    """Return 12 hexadecimal digits that identify an embedder: a hash of its ONNX file and of its preprocessing."""
    identity = f"{manifest.files[EMBEDDER]} {manifest.image.preprocessing} {manifest.image.size}"
    return hashlib.sha256(identity.encode()).hexdigest()[:12]


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file in lower-case hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_manifest(folder: Path, key: Path | None) -> Manifest:
    path = folder / MANIFEST
    if not folder.is_dir():
        raise BundleError(
            f"{folder}: expected a bundle's folder, found {'a file' if folder.exists() else 'nothing'}: {_ADVICE}"
        )
    try:
        data = _read_bounded(path, MAX_MANIFEST_BYTES)
        if key is not None:
            signature.verify(folder / signature.SIGNATURE, data, key)
        content: dict[str, Any] = msgspec.json.decode(data, type=dict[str, Any])
        manifest = msgspec.convert(content, Manifest)
    except FileNotFoundError:
        raise BundleError(f"{path}: expected a bundle's manifest, found nothing: {_ADVICE}") from None
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror}): check its permissions") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:  # a ValidationError is a DecodeError
        raise BundleError(
            f"{path}: expected a bundle's manifest, found invalid content ({_shown(error)}): {_ADVICE}"
        ) from error
    found = content_checksum(content)
    if "checksum" in content and manifest.checksum != found:
        raise BundleError(
            f"{path}: expected content with SHA-256 '{_shown(manifest.checksum)}', found {found}: {_ADVICE}"
        )
    return manifest


def _read_bounded(path: Path, limit: int) -> bytes:
    """Read a regular file of at most `limit` bytes. A device or a pipe is refused, because it might not end."""
    if path.exists() and not path.is_file():
        raise BundleError(f"{path}: expected a file, found something else: {_ADVICE}")
    with path.open("rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise BundleError(f"{path}: expected at most {limit:,} bytes, found more: {_ADVICE}")
    return data


def _check_manifest(path: Path, manifest: Manifest) -> None:
    """Check what the types of the manifest cannot express."""
    for name in (EMBEDDER, AGGREGATOR):
        if name not in manifest.files:
            raise BundleError(
                f"{path}: expected a checksum of {name}, found {_shown(', '.join(manifest.files)) or 'none'}: {_ADVICE}"
            )
    for name in manifest.files:
        if Path(name).name != name or not name.isprintable() or len(name.encode()) > MAX_NAME_BYTES:
            raise BundleError(f"{path}: expected names of files in this folder, found '{_shown(name)}': {_ADVICE}")
    categories, distinct = len(manifest.categories), len(set(manifest.categories))
    if not categories or distinct != categories:
        raise BundleError(f"{path}: expected distinct categories, found {distinct} names for {categories}: {_ADVICE}")
    if len(manifest.prior) != categories or not all(math.isfinite(p) and 0 <= p <= 1 for p in manifest.prior):
        raise BundleError(
            f"{path}: expected a prior of {categories} probabilities, one for each category, found {len(manifest.prior)} numbers "
            f"from {min(manifest.prior, default=0)} to {max(manifest.prior, default=0)}: {_ADVICE}"
        )
    if manifest.image.preprocessing != PREPROCESSING:
        raise BundleError(
            f"{path}: expected image.preprocessing {PREPROCESSING!r}, the only one that this version supports, "
            f"found '{_shown(manifest.image.preprocessing)}': "
            "install the tastestream version that made the bundle, or train the bundle again"
        )


def _read_file(path: Path, expected: str) -> bytes:
    """Read a file of a bundle, and check it against its SHA-256."""
    try:
        content = _read_bounded(path, MAX_NETWORK_BYTES)
    except FileNotFoundError:
        raise BundleError(
            f"{path}: expected a file with SHA-256 {_shown(expected)}, found nothing: {_ADVICE}"
        ) from None
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror}): check its permissions") from error
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise BundleError(f"{path}: expected SHA-256 {_shown(expected)}, found {found}: {_ADVICE}")
    return content


def _shown(text: object) -> str:
    """Text from a manifest, visible on one line, and not long."""
    line = str(text)
    line = line if len(line) <= SHOWN_CHARACTERS else line[: SHOWN_CHARACTERS - 3] + "..."
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
