"""The files of a bundle that is being made."""

import shutil
from pathlib import Path

import msgspec

from model.bundle import AGGREGATOR, EMBEDDER, MANIFEST, Bundle
from model.manifest import Manifest


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `manifest.json`, indented for people."""
    (folder / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")


def install(built: Path, out: Path) -> Bundle:
    """Copy a bundle that is whole from `built` to `out`, whose three files are replaced, and load it as a worker would."""
    out.mkdir(parents=True, exist_ok=True)
    for name in (EMBEDDER, AGGREGATOR, MANIFEST):
        shutil.copyfile(built / name, out / name)
    return Bundle.load(out)
