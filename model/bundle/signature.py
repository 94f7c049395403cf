"""Ed25519 signatures of bundles (RFC 8032). A signature covers the manifest, and the manifest covers all other files.

Keys are PEM files, as `openssl genpkey -algorithm ed25519` writes them. The signature is the 64 bytes themselves, in a file beside
the manifest, so that `openssl pkeyutl -verify -rawin` can check it as well.

The package `cryptography` is imported when a key is used: workers without BUNDLE_KEY need none.
"""
# ruff: noqa: PLC0415

from pathlib import Path
from typing import TYPE_CHECKING

from model.exceptions import BundleError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

SIGNATURE = "manifest.json.sig"
SIGNATURE_BYTES = 64
MAX_KEY_BYTES = 64 * 1024  # a PEM file of an Ed25519 key has some 120 bytes


def sign(manifest: bytes, key: Path) -> bytes:
    """Return the signature of the content of a manifest, 64 bytes.

    Raises:
        BundleError: `key` is not an Ed25519 private key without a passphrase, or `cryptography` is not installed.
    """
    return _private_key(key).sign(manifest)


def verify(path: Path, manifest: bytes, key: Path) -> None:
    """Check the signature of a manifest.

    Args:
        path: File of the signature.
        manifest: Content of the manifest.
        key: Ed25519 public key (PEM).

    Raises:
        BundleError: The signature is missing, or not by this key, or over another manifest.
    """
    public = _public_key(key)
    try:
        signature = _read(path, SIGNATURE_BYTES)
    except FileNotFoundError:
        raise BundleError(
            f"{path}: expected a signature by {key}, found nothing: sign the bundle with `tastestream bundle sign`, "
            "or unset BUNDLE_KEY"
        ) from None
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror}): check its permissions") from error
    from cryptography.exceptions import InvalidSignature

    try:
        public.verify(signature, manifest)
    except InvalidSignature:
        raise BundleError(
            f"{path}: expected a signature of this manifest by {key}, found another one: install the bundle again from its maker, "
            "or name the maker's key"
        ) from None


def _private_key(path: Path) -> "Ed25519PrivateKey":
    data = _key(path)
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(data, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):  # TypeError: it has a passphrase
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise BundleError(
            f"{path}: expected an Ed25519 private key (PEM) without a passphrase, found something else: "
            "make one with `openssl genpkey -algorithm ed25519`"
        )
    return key


def _public_key(path: Path) -> "Ed25519PublicKey":
    data = _key(path)
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise BundleError(
            f"{path}: expected an Ed25519 public key (PEM), found something else: "
            "write it with `openssl pkey -in PRIVATE_KEY -pubout`"
        )
    return key


def _key(path: Path) -> bytes:
    """Read a key file, once it is sure that the key can be used."""
    try:
        import cryptography  # noqa: F401  # pyright: ignore[reportUnusedImport]
    except ImportError:
        raise BundleError("signatures need cryptography: pip install 'tastestream[sign]'") from None
    try:
        return _read(path, MAX_KEY_BYTES)
    except OSError as error:
        raise BundleError(
            f"{path}: the key cannot be read ({error.strerror}): check the path and its permissions"
        ) from error


def _read(path: Path, most: int) -> bytes:
    """Read at most one byte more than `most`, so that a file that is too large is neither read whole nor taken for valid."""
    with path.open("rb") as file:
        return file.read(most + 1)
