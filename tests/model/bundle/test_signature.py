"""A bundle is used under a key only if that key has signed this very manifest."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from model.bundle import MANIFEST, Bundle
from model.bundle.signature import SIGNATURE, sign
from model.exceptions import BundleError
from tests.command import Command


def write_keys(folder: Path, name: str) -> tuple[Path, Path]:
    """Write a new key. Returns the files of its private and its public half."""
    key = Ed25519PrivateKey.generate()
    private, public = folder / f"{name}.pem", folder / f"{name}.pub.pem"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return private, public


@pytest.fixture
def private(tmp_path: Path) -> Path:
    return write_keys(tmp_path, "maker")[0]


@pytest.fixture
def public(private: Path) -> Path:
    return private.with_name("maker.pub.pem")


@pytest.fixture
def signed(bundle: Bundle, tmp_path: Path, private: Path) -> Path:
    folder = Path(shutil.copytree(bundle.path, tmp_path / "bundle"))
    (folder / SIGNATURE).write_bytes(sign((folder / MANIFEST).read_bytes(), private))
    return folder


def test_a_signed_bundle_loads_under_its_key_and_without_one(signed: Path, public: Path) -> None:
    assert Bundle.load(signed, public).name == Bundle.load(signed).name == "default"


def without_checksum(folder: Path) -> None:
    """Change the name, and take the checksum out, as an attacker does."""
    text = (folder / MANIFEST).read_text().replace('"default"', '"another"', 1)
    (folder / MANIFEST).write_text(text[: text.rindex(",")] + "}")


DAMAGES: dict[str, Callable[[Path], object]] = {
    "no signature": lambda folder: (folder / SIGNATURE).unlink(),
    "an empty signature": lambda folder: (folder / SIGNATURE).write_bytes(b""),
    "a longer signature": lambda folder: (folder / SIGNATURE).write_bytes((folder / SIGNATURE).read_bytes() + b"0"),
    "an endless signature": lambda folder: (
        (folder / SIGNATURE).unlink(), (folder / SIGNATURE).symlink_to("/dev/zero"),
    ),
    "one more space in the manifest": lambda folder: (folder / MANIFEST).write_bytes((folder / MANIFEST).read_bytes() + b" "),
    "a manifest without its checksum": without_checksum,
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_bundle_that_is_not_signed_as_it_is_is_refused(
    signed: Path, public: Path, damage: Callable[[Path], object]
) -> None:
    damage(signed)
    with pytest.raises(BundleError, match="expected a signature"):
        Bundle.load(signed, public)


def test_a_bundle_that_somebody_else_signed_is_refused(signed: Path, tmp_path: Path) -> None:
    _, other = write_keys(tmp_path, "other")
    with pytest.raises(BundleError, match="found another one"):
        Bundle.load(signed, other)


def test_the_shipped_bundle_is_refused_where_a_key_is_required(public: Path) -> None:
    with pytest.raises(BundleError, match="found nothing"):
        Bundle.load(None, public)


def test_a_file_that_is_no_ed25519_key_is_named(signed: Path, private: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.pem"
    secret = Ed25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
    )
    elliptic = generate_private_key(SECP256R1())
    public = elliptic.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for content in (b"", b"no key", private.read_bytes(), public):
        bad.write_bytes(content)
        with pytest.raises(BundleError, match="expected an Ed25519 public key"):
            Bundle.load(signed, bad)
    for content in (b"", secret, elliptic.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())):
        bad.write_bytes(content)
        with pytest.raises(BundleError, match="expected an Ed25519 private key"):
            sign(b"", bad)
    with pytest.raises(BundleError, match="cannot be read"):
        Bundle.load(signed, tmp_path / "none.pem")


def test_the_commands_sign_and_check(
    *, bundle: Bundle, tmp_path: Path, private: Path, public: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    tastestream = Command(monkeypatch, capsys)
    folder = Path(shutil.copytree(bundle.path, tmp_path / "bundle"))
    assert tastestream("bundle", "check", str(folder), "--key", str(public)).code == 1
    assert tastestream("bundle", "sign", str(folder), "--key", str(private)).code == 0
    done = tastestream("bundle", "check", str(folder), "--key", str(public))
    assert done.code == 0
    assert "signed by" in done.out.replace("\n", " ")
    assert tastestream("bundle", "check", str(folder), "--key", str(private)).code == 1
    assert tastestream("bundle", "sign", str(folder), "--key", str(public)).code == 1


def test_a_worker_refuses_an_unsigned_bundle(
    bundle: Bundle, tmp_path: Path, public: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It ends before it looks for a broker: there is none here."""
    tastestream = Command(monkeypatch, capsys)
    settings = {"TASTESTREAM_BUNDLE_KEY": str(public), "TASTESTREAM_DATA_DIR": str(tmp_path / "data")}
    assert tastestream("worker", "profile", **settings, TASTESTREAM_BROKER="127.0.0.1:1").code == 78
