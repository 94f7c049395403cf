"""The disk of the profile worker is lost, outdated, damaged or full. The bags are restored from the changelog, and the log says so."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest

from tests.faults.breaks import broken_by
from tests.faults.stage import Stage

BEGUN = 900  # recommendations before the fault
SMALL_DISK = "48m"


@broken_by("skip-recovery")
def test_the_folder_is_deleted(stage: Stage) -> None:
    _, profile = stage.workers()
    with stage.load(rate=300):
        stage.flow(BEGUN)
        profile.kill()
        shutil.rmtree(profile.bags)
        said = len(profile.log)
        profile.start()
        stage.flow_everywhere()
    stage.verdict("data folder deleted")
    assert "recover" in profile.log[said:], "the log says that the bags are restored from the changelog"


@broken_by("skip-recovery")
def test_the_folder_is_an_older_copy(stage: Stage) -> None:
    _, profile = stage.workers()
    old = stage.folder / "old"
    with stage.load(rate=300):
        stage.flow(BEGUN)
        profile.stop()
        shutil.copytree(profile.bags, old)
        profile.start()
        stage.flow_everywhere()
        stage.flow(BEGUN)
        profile.kill()
        shutil.rmtree(profile.bags)
        shutil.copytree(old, profile.bags)
        said = len(profile.log)
        profile.start()
        stage.flow_everywhere()
    stage.verdict("data folder replaced by an older copy")
    assert "recover" in profile.log[said:], "the log says that the bags are restored from the changelog"


def flip(path: Path, random: Random) -> None:
    """Overwrite some bytes in the middle of a file."""
    content = bytearray(path.read_bytes())
    begin = len(content) // 3
    for place in range(begin, min(begin + 400, len(content))):
        content[place] ^= random.randrange(1, 256)
    path.write_bytes(content)


def largest(pattern: str) -> Callable[[Path], Path]:
    return lambda folder: max(folder.rglob(pattern), key=lambda path: path.stat().st_size)


DAMAGED = {
    "table": largest("*.sst"),
    "log": largest("*.log"),
    "manifest": largest("MANIFEST-*"),
    "current": largest("CURRENT"),
}


@broken_by("skip-recovery")
@pytest.mark.parametrize("file", DAMAGED)
def test_a_file_is_damaged(stage: Stage, file: str) -> None:
    _, profile = stage.workers()
    with stage.load(rate=300):
        stage.flow(BEGUN)
        profile.restart()  # at a start, RocksDB writes its log to a table
        stage.flow_everywhere()
        stage.flow(BEGUN)
        profile.kill()
        flip(DAMAGED[file](profile.bags), stage.random)
        said = len(profile.log)
        profile.start()
        stage.flow_everywhere()
    stage.verdict(f"damaged: RocksDB's {file}")
    assert "recover" in profile.log[said:], "the log says that the bags are restored from the changelog"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system that the test can fill."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK}", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"mounting a small disk is not allowed here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(ballast: Path) -> None:
    """Write until the disk is full."""
    with ballast.open("ab", buffering=0) as file:
        try:
            while file.write(b"\0" * 4096):
                pass
        except OSError:
            return


@broken_by("ignore-disk-errors")
def test_the_disk_is_full(small_disk: Path, stage: Stage) -> None:
    stage.worker("embed")
    profile = stage.worker("profile", start=False)
    profile.system.configure(data_dir=small_disk)
    profile.data = small_disk
    profile.start()
    stage.ready()
    with stage.load(rate=300):
        stage.flow(BEGUN)
        said = len(profile.log)
        profile.kept = False
        fill(small_disk / "ballast")
        stage.wait_for(lambda: not profile.running, 60, "stopped by the full disk")
        code = profile.ended()
        (small_disk / "ballast").unlink()
        log = profile.log[said:]
        profile.kept = True
        profile.start()
        stage.flow_everywhere()
    stage.verdict("disk full")
    assert code not in (0, -9), f"a full disk ends the worker with an error, not with {code}"
    assert "no space left" in log.lower(), f"the log says that the disk is full:\n{log[-2000:]}"
