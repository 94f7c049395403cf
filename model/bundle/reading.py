"""Reads the files of a bundle: bounded, and checked against their checksums. They may come from strangers."""

import hashlib
from pathlib import Path
from typing import Any

import msgspec

from model.bundle import signature
from model.bundle.manifest import Manifest, content_checksum
from model.bundle.onnx_check import MAX_NETWORK_BYTES
from model.bundle.versions import MANIFEST
from model.exceptions import BundleError

SHOWN_CHARACTERS = 200  # of a manifest in an error
MAX_MANIFEST_BYTES = 16 * 1024**2  # a hundred thousand categories with their prior take a third of it

ADVICE = "install a complete bundle, or choose another folder"


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file in lower-case hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_manifest(folder: Path, key: Path | None) -> Manifest:
    """Read the manifest of a bundle, and check its signature, if `key` is given, and its checksum."""
    path = folder / MANIFEST
    if not folder.is_dir():
        raise BundleError(
            f"{folder}: expected a bundle's folder, found {'a file' if folder.exists() else 'nothing'}: {ADVICE}"
        )
    try:
        data = _read_bounded(path, MAX_MANIFEST_BYTES)
        if key is not None:
            signature.verify(folder / signature.SIGNATURE, data, key)
        content: dict[str, Any] = msgspec.json.decode(data, type=dict[str, Any])
        manifest = msgspec.convert(content, Manifest)
    except FileNotFoundError:
        raise BundleError(f"{path}: expected a bundle's manifest, found nothing: {ADVICE}") from None
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror}): check its permissions") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:  # a ValidationError is a DecodeError
        raise BundleError(
            f"{path}: expected a bundle's manifest, found invalid content ({shown(error)}): {ADVICE}"
        ) from error
    found = content_checksum(content)
    if "checksum" in content and manifest.checksum != found:
        raise BundleError(
            f"{path}: expected content with SHA-256 '{shown(manifest.checksum)}', found {found}: {ADVICE}"
        )
    return manifest


def read_file(path: Path, expected: str) -> bytes:
    """Read a file of a bundle, and check it against its SHA-256."""
    try:
        content = _read_bounded(path, MAX_NETWORK_BYTES)
    except FileNotFoundError:
        raise BundleError(f"{path}: expected a file with SHA-256 {shown(expected)}, found nothing: {ADVICE}") from None
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror}): check its permissions") from error
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise BundleError(f"{path}: expected SHA-256 {shown(expected)}, found {found}: {ADVICE}")
    return content


def shown(text: object) -> str:
    """Text from a manifest, visible on one line, and not long."""
    line = str(text)
    line = line if len(line) <= SHOWN_CHARACTERS else line[: SHOWN_CHARACTERS - 3] + "..."
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)


def _read_bounded(path: Path, limit: int) -> bytes:
    """Read a regular file of at most `limit` bytes. A device or a pipe is refused, because it might not end."""
    if path.exists() and not path.is_file():
        raise BundleError(f"{path}: expected a file, found something else: {ADVICE}")
    with path.open("rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise BundleError(f"{path}: expected at most {limit:,} bytes, found more: {ADVICE}")
    return data
